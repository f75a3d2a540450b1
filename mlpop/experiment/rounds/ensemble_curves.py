"""The losses of all networks of a round as curves of the round: their mean and their spread."""

from collections.abc import Sequence
from statistics import fmean, stdev

from mlpop.tracking import TrackedRun
from mlpop.training.events import EpochRecord


class EnsembleCurves:
    """Tells the run of a round how its networks train.

    An epoch is told when every network has reached it or has ended; a network that has ended
    counts with the losses of its last epoch. So the curves are the same for any number of
    workers, and live as far as the networks train side by side.

    Args:
        run: of the round.
        members: number of networks.
    """

    def __init__(self, run: TrackedRun, members: int) -> None:
        self._run = run
        self._histories: list[list[EpochRecord]] = [[] for _ in range(members)]
        self._ended = [False] * members
        self._told = 0

    def add(self, member: int, records: Sequence[EpochRecord]) -> None:
        """Take the next epochs of a network."""
        self._histories[member].extend(records)
        self._tell()

    def end(self, member: int, history: Sequence[EpochRecord]) -> None:
        """Take all epochs of a network that has ended."""
        self._histories[member] = list(history)
        self._ended[member] = True
        self._tell()

    def _tell(self) -> None:
        while self._told < self._reached():
            self._told += 1
            at = [history[: self._told][-1] for history in self._histories]
            for part in ("train", "val"):
                losses = [getattr(record, f"{part}_loss") for record in at]
                points = {f"{part}/loss_mean": fmean(losses)}
                if len(losses) > 1:
                    points[f"{part}/loss_spread"] = stdev(losses)
                self._run.curves.extend(points, step=self._told)

    def _reached(self) -> int:
        """Return the last epoch that can be told."""
        lengths = [len(history) for history in self._histories]
        if not min(lengths):
            return 0
        going = [n for n, ended in zip(lengths, self._ended, strict=True) if not ended]
        return min(going) if going else max(lengths)
