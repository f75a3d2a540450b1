"""A training as MLflow sees it: a run with live curves, checkpoints and a true end."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self

from mlpop.tracking.lineage import Node
from mlpop.tracking.pages.description import member_note
from mlpop.tracking.run import TrackedRun
from mlpop.tracking.runs import open_run
from mlpop.training.events import EpochEnded, EpochRecord, R, Started, TrainingEvent


def loss_curves(record: EpochRecord) -> dict[str, float]:
    """Return an estimator's points of an epoch."""
    return {
        # MLflow's compare page draws the first
        "val/loss": record.val_loss,
        "train/loss": record.train_loss,
        "train/epoch_seconds": record.seconds,
    }


class TrackedTraining(Generic[R]):
    """A training that is told to an open run.

    Args:
        run: gets its curves.
        curves: name -> value, of the points of an epoch.
        stack: what `close` closes.

    Attributes:
        send_checkpoint: called when a checkpoint is on disk.
    """

    def __init__(
        self,
        run: TrackedRun,
        curves: Callable[[R], Mapping[str, float]],
        stack: ExitStack | None = None,
    ) -> None:
        self.run = run
        self.send_checkpoint: Callable[[], object] = lambda: None
        self._curves = curves
        self._stack = stack or ExitStack()
        self._last_epoch = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def close(self) -> None:
        """Close the run, if it was opened for this training and is not closed yet."""
        self._stack.close()

    def hear(self, event: TrainingEvent) -> list[R]:
        """Tell the run what the training says.

        Returns:
            The epochs that are new: a training whose worker died says its epochs again.
        """
        match event:
            case Started(history):
                records = history
            case EpochEnded(record):
                records = (record,)
            case _:
                self.send_checkpoint()
                return []
        new: list[R] = [record for record in records if record.epoch > self._last_epoch]
        for record in new:
            self._last_epoch = record.epoch
            self.run.curves.extend(self._curves(record), step=record.epoch)
        return new

    def complete(
        self,
        about: str,
        numbers: Mapping[str, float],
        files: Mapping[str, Path] | None = None,
        *,
        tags: Mapping[str, Any] | None = None,
        noted: Mapping[str, Any] | None = None,
    ) -> None:
        """Log final numbers, describe the run, store its files and say that it is complete.

        Args:
            about: first sentence of the description.
            numbers: what is worth comparing.
            files: artifact name -> file.
            tags: of the run.
            noted: what stands in the description besides `numbers`.
        """
        self.run.log_metrics(numbers)
        if tags:
            self.run.set_tags(tags)
        self.run.set_note(member_note(about, {**numbers, **(noted or {})}))
        self.run.commit(files)


def open_training(
    kind: str,
    name: str,
    parent: TrackedRun,
    curves: Callable[[R], Mapping[str, float]],
    *,
    tags: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    earlier: Node | None = None,
) -> TrackedTraining[R]:
    """Open the run of a training, or the one that an earlier launch left unfinished.

    Args:
        kind, name, tags, params: see `open_run`.
        parent: the run it is nested in.
        curves: see `TrackedTraining`.
        earlier: the run to open again.
    """
    stack = ExitStack()
    run = stack.enter_context(
        open_run(
            kind,
            name,
            parent.run_id,
            tags={**tags, "mlpop.state": "training"},
            params=params,
            store=parent.store,
            run_id=earlier.run_id if earlier else None,
        )
    )
    return TrackedTraining(run, curves, stack)
