"""Progress of work that takes longer: a bar on a terminal, elsewhere lines of the log."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tqdm import tqdm

from mlpop.tracking.pages.description import clock
from mlpop.training.events import EpochRecord

logger = logging.getLogger(__name__)

FIRST_SECONDS = 2.0
"""Until the first line; what is done by then is not worth one [s]."""

LINE_SECONDS = 30.0
"""From one line of the log to the next [s]."""


@dataclass
class Ticker:
    """Says when a line of the log is due."""

    _next: float = FIRST_SECONDS

    def due(self, seconds: float) -> bool:
        """Whether one is due `seconds` after the start; the next one is then a while later."""
        if seconds < self._next:
            return False
        self._next = seconds + LINE_SECONDS
        return True


def counted_line(title: str, done: int, total: int, rate: float) -> str:
    """Return how much is done, how fast [1/s] and how long the rest takes."""
    left = clock((total - done) / rate)
    return f"{title}: {done} of {total}, {rate:.3g} a second, {left} left"


@contextmanager
def counted(
    title: str, total: int, unit: str, *, now: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Give the block a function to be called with the number that is done.

    Args:
        title: as lines begin.
        total: how many there are.
        unit: what they are, one of them.
        now: a clock [s].
    """
    started, ticker = now(), Ticker()
    with tqdm(total=total, desc=title, unit=unit, disable=None, delay=FIRST_SECONDS) as bar:

        def tell(done: int) -> None:
            bar.update(done - bar.n)
            seconds = now() - started
            if bar.disable and 0 < done < total and ticker.due(seconds):
                logger.info("%s", counted_line(title, done, total, done / seconds))
            if bar.disable:
                bar.n = done

        yield tell


@dataclass
class _Network:
    epochs: int = 0
    loss: float = float("inf")
    best: float = float("inf")
    since_best: int = 0
    ended: bool = False


@dataclass
class TrainingProgress:
    """How networks train side by side: epochs, losses, rate, and what can be said of the rest.

    Attributes:
        title: as lines begin.
        networks: how many.
        patience: epochs without a lower validation loss after which one stops.
        most: epochs after which one stops in any case, if there are such.
        now: a clock [s since 1970], as that of the epochs' records.
    """

    title: str
    networks: int
    patience: int
    most: int | None = None
    now: Callable[[], float] = time.time
    _ticker: Ticker = field(default_factory=Ticker)
    _told: int = 0
    _first: float | None = None

    def __post_init__(self) -> None:
        self._all = [_Network() for _ in range(self.networks)]
        self._started = self.now()
        self._bar = tqdm(
            total=None if self.most is None else self.most * self.networks,
            desc=self.title,
            unit="epoch",
            disable=None,
            delay=FIRST_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def add(self, network: int, records: Sequence[EpochRecord]) -> None:
        """Take the next epochs of a network, those of an earlier launch too."""
        state = self._all[network]
        for record in records:
            state.epochs, state.loss = record.epoch, record.val_loss
            state.since_best = 0 if record.val_loss < state.best else state.since_best + 1
            state.best = min(state.best, record.val_loss)
            if record.wall_time >= self._started:
                # without what workers took to start, nor epochs of an earlier launch
                begun = record.wall_time - record.seconds
                self._first = begun if self._first is None else min(begun, self._first)
                self._told += 1
        if not records:
            return
        self._bar.set_postfix_str(f"validation loss {self._losses()}", refresh=False)
        self._bar.update(len(records))
        if self._bar.disable and self._first is not None:
            seconds = self.now() - self._first
            if self._ticker.due(seconds):
                logger.info("%s", self.line(seconds))

    def end(self, network: int) -> None:
        """A network has ended."""
        self._all[network].ended = True

    def line(self, seconds: float) -> str:
        """Return where the networks are, `seconds` after the first epoch began."""
        rate = self._told / seconds
        epochs = ", ".join(str(state.epochs) for state in self._all)
        return (
            f"{self.title}: epoch {epochs}, validation loss {self._losses()}, "
            f"{rate:.3g} epochs a second, {self._left(rate)} left"
        )

    def _losses(self) -> str:
        return ", ".join(f"{state.loss:.3f}" if state.epochs else "none" for state in self._all)

    def _left(self, rate: float) -> str:
        """Return bounds: a training stops when nothing gets better, and nobody knows when."""
        going = [state for state in self._all if not state.ended]
        least = sum(max(self.patience - state.since_best, 0) for state in going)
        if self.most is None:
            return f"at least {clock(least / rate)}"
        most = sum(max(self.most - state.epochs, 0) for state in going)
        times = dict.fromkeys(clock(epochs / rate) for epochs in (min(least, most), most))
        return " to ".join(times)
