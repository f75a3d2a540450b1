"""How fast simulations come, told now and then where nobody sees a progress bar."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlpop.compute import Progress
from mlpop.experiment.progress import Ticker, counted_line

logger = logging.getLogger(__name__)

SETTLED_SECONDS = 1.0
"""Since the first simulation, after which the start of workers does not count any more [s]."""


@dataclass
class Pace:
    """The pace of one set of simulations.

    Attributes:
        title: of the set, as its lines begin.
        lines: whether to log them; a terminal has a progress bar instead.
        seconds: since the start [s].
        rate: simulations made a second, without those of earlier launches; 0 before the first.
        now: a clock [s].
    """

    title: str
    lines: bool
    seconds: float = 0.0
    rate: float = 0.0
    now: Callable[[], float] = time.monotonic
    _first: tuple[int, float] | None = None
    _ticker: Ticker = field(default_factory=Ticker)
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.now()

    def hear(self, progress: Progress) -> None:
        """Take note of a simulation or a shard, and log a line if it is time for one."""
        self.seconds = self.now() - self._started
        settled = False
        # shards of earlier launches come first, and without their simulations
        if self._first is None and progress.shard is None:
            self._first = progress.done, self.seconds
        if self._first is not None and self.seconds > 0:
            done, since = progress.done - self._first[0], self.seconds - self._first[1]
            # the first one that is made also waits for its worker to start
            settled = since >= SETTLED_SECONDS
            self.rate = done / since if settled else (done + 1) / self.seconds
        telling = self.lines and settled and progress.done < progress.total
        if telling and self._ticker.due(self.seconds):
            logger.info("%s", counted_line(self.title, progress.done, progress.total, self.rate))
