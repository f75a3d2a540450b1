"""A study in MLflow: a run a trial, nested in the study's, with live curves and a true end."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from mlpop.errors import TrainingError
from mlpop.study.storage import TrialRecord, trial_name
from mlpop.tracking import Node, TrackedRun, member_note, open_run

TRIAL_TAG = "mlpop.trial"
OBJECTIVE = "best_val_loss"
"""As the same number of a member is called."""


@dataclass
class _Open:
    run: TrackedRun
    stack: ExitStack
    told: int = 0


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
    _open: dict[int, _Open] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run_ids |= {slot: node.run_id for slot, node in self.earlier.items()}

    def start(
        self, slot: int, number: int, point: Mapping[str, Any], experiment: Mapping[str, Any]
    ) -> str:
        """Open the run of a trial, or open it again, and return its id.

        Args:
            slot: place of the trial.
            number: of Optuna.
            point: field -> value.
            experiment: the whole experiment that the trial is, stored as `config_sbi.json`.
        """
        earlier = self.earlier.get(slot)
        stack = ExitStack()
        run = stack.enter_context(
            open_run(
                "trial",
                trial_name(slot),
                self.study.run_id,
                tags={
                    TRIAL_TAG: slot,
                    "mlpop.study": self.study.run_id,
                    "optuna.trial": number,
                    "mlpop.state": "training",
                },
                params=short(point),
                store=self.study.store,
                run_id=earlier.run_id if earlier else None,
            )
        )
        self._open[slot] = _Open(run, stack)
        self.run_ids[slot] = run.run_id
        if experiment:
            run.send_json("config_sbi.json", experiment)
        return run.run_id

    def epoch(self, slot: int, epoch: Mapping[str, Any]) -> None:
        """Add one epoch to the curves of a trial; one that is known already is left out."""
        opened = self._open[slot]
        if epoch["epoch"] <= opened.told:
            return
        opened.told = epoch["epoch"]
        values = {
            "train/loss": epoch["train_loss"],
            "val/loss": epoch["val_loss"],
            "train/epoch_seconds": epoch["seconds"],
        }
        opened.run.curves.extend(values, step=epoch["epoch"])

    def flush(self, slot: int) -> None:
        """Send the curves: after its end in Optuna nobody would tell a trial's epochs again."""
        self._open[slot].run.curves.flush()

    def end(self, record: TrialRecord) -> None:
        """Write how a trial ended and close its run: FAILED if it failed, else FINISHED."""
        opened = self._open.pop(record.slot)
        run, numbers = opened.run, _numbers(record)
        run.set_tags({"optuna.trial": record.number, "optuna.state": record.state.upper()})
        run.log_metrics(numbers)
        if record.state == "failed":
            try:
                with opened.stack:
                    raise TrainingError(record.reason)
            except TrainingError:
                return
        with opened.stack:
            about = f"Trial {record.slot}: {record.state} after {record.epochs} epochs."
            run.set_note(member_note(about, numbers | short(record.point)))
            run.commit()
            if record.state == "pruned":
                run.set_state("pruned")

    def catch_up(self, record: TrialRecord) -> None:
        """Close the run of a trial that ended in Optuna just before the driver died."""
        earlier = self.earlier.get(record.slot)
        if earlier is None or earlier.status not in ("FINISHED", "FAILED"):
            self.start(record.slot, record.number, record.point, {})
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
