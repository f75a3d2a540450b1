"""The training of one trial, as a task for a worker: live losses, and an end when it is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpop.inference.estimators.store import load_estimator
from mlpop.training.member_task import MemberTask, train_member

Emit = Callable[[Mapping[str, Any]], None]


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


def train_trial(task: TrialTask, emit: Emit) -> None:
    """Train one trial; goes on from its checkpoint where there is one.

    Args:
        task: what to train.
        emit: receives the events of `train_member` and at last `{"event": "end", "state":
            "complete" | "pruned" | "failed", ...}`: with `best_loss`, `best_epoch`, `epochs`,
            `seconds` and `parameters` if complete, with `reason` if failed.
    """
    member = task.member
    if member is None:
        return

    def tell(event: Mapping[str, Any]) -> None:
        try:
            emit(event)
        except Exception as error:
            raise _Unheard from error
        if Path(task.stop_file).exists():
            raise _Pruned

    try:
        result = train_member(member, tell)
        estimator, _ = load_estimator(Path(member.folder))
        end = {
            "event": "end",
            "state": "complete",
            "best_loss": result.best_loss,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "seconds": sum(record.seconds for record in result.history),
            "parameters": sum(p.numel() for p in estimator.parameters() if p.requires_grad),
        }
    except _Pruned:
        end = {"event": "end", "state": "pruned"}
    except _Unheard:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        end = {"event": "end", "state": "failed", "reason": reason}
    emit(end)
