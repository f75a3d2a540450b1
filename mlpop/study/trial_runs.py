"""A study in MLflow: a run a trial, nested in the study's, with live curves and a true end."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mlpop.errors import TrainingError
from mlpop.experiment.tracked_training import TrackedTraining, loss_curves, open_training
from mlpop.study.storage import TrialRecord, trial_name
from mlpop.tracking import Node, TrackedRun
from mlpop.training.events import EpochRecord, TrainingEvent

TRIAL_TAG = "mlpop.trial"
OBJECTIVE = "best_val_loss"
"""As the same number of a member is called."""


@dataclass
class TrialRuns:
    """The runs of the trials.

    Args:
        study: run of the study.
        earlier: slot -> run of an attempt before this one.
    """

    study: TrackedRun
    earlier: Mapping[int, Node]
    run_ids: dict[int, str] = field(default_factory=dict)
    _open: dict[int, TrackedTraining[EpochRecord]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run_ids |= {slot: node.run_id for slot, node in self.earlier.items()}

    def start(self, slot: int, number: int, experiment: Mapping[str, Any]) -> str:
        """Open the run of a trial, or open it again, and return its id.

        Args:
            slot: place of the trial.
            number: of Optuna.
            experiment: the whole experiment that the trial is, stored as `config_sbi.json`.
        """
        training = open_training(
            "trial",
            trial_name(slot),
            self.study,
            loss_curves,
            tags={TRIAL_TAG: slot, "mlpop.study": self.study.run_id, "optuna.trial": number},
            earlier=self.earlier.get(slot),
        )
        run = training.run
        self._open[slot] = training
        self.run_ids[slot] = run.run_id
        if experiment:
            run.send_json("config_sbi.json", experiment)
        return run.run_id

    def describe(self, slot: int, params: Mapping[str, Any]) -> None:
        """Tell the run of a trial what is trained."""
        self._open[slot].run.log_params(params)

    def hear(self, slot: int, event: TrainingEvent) -> list[EpochRecord]:
        """Tell the run of a trial what its training says; return the epochs that are new."""
        return self._open[slot].hear(event)

    def flush(self, slot: int) -> None:
        """Send the curves: after its end in Optuna nobody would tell a trial's epochs again."""
        self._open[slot].run.curves.flush()

    def end(self, record: TrialRecord) -> None:
        """Write how a trial ended and close its run: FAILED if it failed, else FINISHED."""
        training, numbers = self._open.pop(record.slot), _numbers(record)
        state = {"optuna.trial": record.number, "optuna.state": record.state.upper()}
        if record.state == "failed":
            training.run.set_tags(state)
            training.run.log_metrics(numbers)
            with suppress(TrainingError), training:
                raise TrainingError(record.reason)
            return
        with training:
            if record.state == "complete":
                training.run.log_params({"parameters": record.result["parameters"]})
            about = f"Trial {record.slot}: {record.state} after {record.epochs} epochs."
            training.complete(about, numbers, tags=state, noted=short(record.point))
            if record.state == "pruned":
                training.run.set_state("pruned")

    def catch_up(self, record: TrialRecord) -> None:
        """Close the run of a trial that ended in Optuna just before the driver died."""
        earlier = self.earlier.get(record.slot)
        if earlier is None or earlier.status not in ("FINISHED", "FAILED"):
            self.start(record.slot, record.number, {})
            self.end(record)


def short(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a point under names that fit MLflow's axes: `lr` for `trainer.lr`.

    Names that several fields share, and `type`, keep their block; numbers have six digits.
    """
    names = [path.rpartition(".")[2] for path in point]
    found = {}
    for path, value in point.items():
        block, _, last = path.rpartition(".")
        if last == "type":
            name = f"{block.rpartition('.')[2]}.type"
        else:
            name = path if names.count(last) > 1 else last
        found[name] = float(f"{value:.6g}") if isinstance(value, float) else value
    return found


def _numbers(record: TrialRecord) -> dict[str, float]:
    numbers: dict[str, float] = {"epochs": record.epochs, "seconds": record.seconds}
    if record.state == "complete":
        numbers[OBJECTIVE] = record.value
        numbers["parameters"] = record.result["parameters"]
    elif record.losses:
        numbers[OBJECTIVE] = min(record.losses.values())
    return numbers
