"""The training of one trial, as a task for a worker: live losses, and an end when it is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlpop.inference.estimators.store import load_estimator
from mlpop.training.events import Completed, Failed, Pruned, TrainingEvent, TrialEnd
from mlpop.training.member_task import MemberTask, train_member


@dataclass(frozen=True)
class TrialTask:
    """One trial to train.

    Attributes:
        member: the network; None where there is nothing left to do.
        stop_file: the driver makes it to prune the trial while it runs.
    """

    member: MemberTask | None
    stop_file: str = ""


class _Pruned(Exception):
    """The driver wants no more of this trial."""


class _Unheard(Exception):
    """The driver failed while it heard an event: no fault of the trial's."""


def train_trial(task: TrialTask, emit: Callable[[TrainingEvent | TrialEnd], None]) -> None:
    """Train one trial as `train_member` does; `emit` at last receives how it ended."""
    member = task.member
    if member is None:
        return

    def tell(event: TrainingEvent) -> None:
        try:
            emit(event)
        except Exception as error:
            raise _Unheard from error
        if Path(task.stop_file).exists():
            raise _Pruned

    end: TrialEnd
    try:
        result = train_member(member, tell)
        estimator, _ = load_estimator(Path(member.folder))
        end = Completed(
            best_loss=result.best_loss,
            best_epoch=result.best_epoch,
            epochs=len(result.history),
            seconds=result.seconds,
            parameters=sum(p.numel() for p in estimator.parameters() if p.requires_grad),
        )
    except _Pruned:
        end = Pruned()
    except _Unheard:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        end = Failed(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    emit(end)
