"""What a training says while it runs: plain and picklable, so that it travels from a worker."""

import math
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar


class Epoch(Protocol):
    """What the record of an epoch holds whatever is trained.

    Number from 1, duration [s], end [s since 1970], and whether a loss is no number any more.
    """

    @property
    def epoch(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def wall_time(self) -> float: ...
    @property
    def diverged(self) -> bool: ...


R = TypeVar("R", bound=Epoch)


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of an estimator gave, for the record.

    `epoch` counts from 1; losses are means over the training batches (while the weights moved)
    and over the whole validation set (after the epoch); `seconds` is the epoch's duration and
    `wall_time` its end [s since 1970].
    """

    epoch: int
    train_loss: float
    val_loss: float
    seconds: float
    wall_time: float

    @property
    def diverged(self) -> bool:
        """Whether a loss is NaN."""
        return math.isnan(self.train_loss) or math.isnan(self.val_loss)


@dataclass(frozen=True)
class Started(Generic[R]):
    """A training begins, or goes on after the epochs of `history`."""

    history: tuple[R, ...]


@dataclass(frozen=True)
class EpochEnded(Generic[R]):
    """An epoch is done; `improved` if it is the best so far."""

    record: R
    improved: bool


@dataclass(frozen=True)
class CheckpointWritten:
    """The state after `epoch` is on disk."""

    epoch: int


@dataclass(frozen=True)
class Completed:
    """The training of a trial came to its end; `parameters` is the number of its weights."""

    best_loss: float
    best_epoch: int
    epochs: int
    seconds: float
    parameters: int


@dataclass(frozen=True)
class Pruned:
    """The driver of a study wanted no more of a trial."""


@dataclass(frozen=True)
class Failed:
    """The training of a trial failed, for this reason."""

    reason: str


TrainingEvent = Started[Any] | EpochEnded[Any] | CheckpointWritten
TrialEnd = Completed | Pruned | Failed
