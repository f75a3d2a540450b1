"""Where Optuna keeps a study, and how one that was interrupted is put in order again.

One process, the driver of the study, reads and writes the storage. A trial is one place in the
study, a slot: slot 0 is the user's configuration. When the driver dies, the trials that ran are
closed and their slots wait again, with the same values and the same seeds.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mlpop.config.files.study import PrunerConfig, SamplerConfig
from mlpop.errors import TrackingError
from mlpop.tracking.address import without_credentials

State = Literal["complete", "pruned", "failed"]

SLOT = "slot"
RESULT = "result"
REASON = "reason"
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class TrialRecord:
    """One trial that ended.

    Attributes:
        slot: its place in the study.
        number: its number in Optuna; larger than the slot where trials had to start again.
        state: how it ended.
        values: of the objectives; those of a pruned trial are None.
        point: field -> value.
        epochs: epochs trained.
        seconds: time they took [s].
        losses: epoch -> validation loss.
        result: further numbers.
        reason: why it failed.
    """

    slot: int
    number: int
    state: State
    values: tuple[float, ...] | None
    point: Mapping[str, Any]
    epochs: int
    seconds: float
    losses: Mapping[int, float]
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def value(self) -> float:
        """The first objective: the validation loss of the best epoch; infinite without one."""
        return self.values[0] if self.values else float("inf")

    @property
    def name(self) -> str:
        """As its run in MLflow is called."""
        return trial_name(self.slot)


def trial_name(slot: int) -> str:
    """Return the name of a trial's run."""
    return f"trial_{slot:03d}"


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """Open the storage of a study.

    Args:
        url: of an Optuna storage; None for the journal.
        journal: file of the journal; made if it is not there, mended if it was cut off.

    Raises:
        TrackingError: it cannot be opened.
    """
    where = str(journal) if url is None else without_credentials(url)
    try:
        if url is not None:
            return optuna.storages.get_storage(url)
        journal.parent.mkdir(parents=True, exist_ok=True)
        mend_journal(journal)
        return JournalStorage(JournalFileBackend(str(journal)))
    except Exception as error:
        raise TrackingError(f"Optuna storage {where}: cannot be opened: {error}") from error


def mend_journal(path: Path) -> None:
    """Take away what a crash left: a line half written, after which Optuna could never write.

    Its lock too, for which Optuna would wait half a minute; the caller is the only writer.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if not path.is_file():
        return
    content = path.read_bytes()
    length = content.rfind(b"\n") + 1
    if length < len(content):
        with path.open("r+b") as file:
            file.truncate(length)


def open_study(
    storage: BaseStorage,
    name: str,
    *,
    pruner: PrunerConfig,
    objectives: int,
    max_epochs: int | None,
) -> optuna.Study:
    """Create a study, or open it where it exists.

    Args:
        storage: see `open_storage`.
        name: of the study.
        pruner: who stops trials.
        objectives: how many numbers are minimised.
        max_epochs: of a trial, for brackets of epochs; None where it is not limited.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["minimize"] * objectives,
        pruner=_pruner(pruner, max_epochs),
        load_if_exists=True,
    )


def sampler(config: SamplerConfig, seed: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial; a seed of its own makes a resumed study the same."""
    seed %= 2**32
    if config.type == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=config.n_startup_trials)


def put_in_order(study: optuna.Study, first: Mapping[str, Any]) -> list[int]:
    """Close what a dead driver left, so that every slot has ended or waits; safe to repeat.

    Args:
        study: which no other process works on.
        first: the user's configuration, slot 0.

    Returns:
        Slots that wait again.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if REASON not in trial.user_attrs:
            # Study.tell would close it without a word of why
            study._storage.set_trial_user_attr(trial._trial_id, REASON, INTERRUPTED)
        study.tell(trial.number, state=TrialState.FAIL)
    last: dict[int, FrozenTrial] = {}
    settled: set[int] = set()
    for trial in study.get_trials(deepcopy=False):
        slot = trial.user_attrs.get(SLOT)
        if slot is None:
            continue
        last[slot] = trial
        if trial.state != TrialState.FAIL or trial.user_attrs.get(REASON) != INTERRUPTED:
            settled.add(slot)
    waiting = sorted(set(last) - settled)
    for slot in waiting:
        point = last[slot].system_attrs.get("fixed_params") or last[slot].params
        study.enqueue_trial(point, user_attrs={SLOT: slot})
    if 0 not in last:
        study.enqueue_trial(dict(first), user_attrs={SLOT: 0})
    return waiting


def next_slot(study: optuna.Study) -> int:
    """Return the first slot that no trial has."""
    slots = [t.user_attrs.get(SLOT, -1) for t in study.get_trials(deepcopy=False)]
    return max(slots, default=-1) + 1


def records(study: optuna.Study) -> list[TrialRecord]:
    """Return the trials that ended, in the order of their slots."""
    ended = filter(None, map(_record, study.get_trials(deepcopy=False)))
    return sorted(ended, key=lambda record: record.slot)


def best(ended: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial with the lowest validation loss, None if none is complete."""
    complete = [record for record in ended if record.state == "complete"]
    return min(complete, key=lambda record: (record.value, record.slot), default=None)


def front(ended: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that no other beats in all objectives, the lowest loss first."""
    complete = [record for record in ended if record.state == "complete"]

    def beaten(one: TrialRecord) -> bool:
        return any(
            other is not one
            and all(a <= b for a, b in zip(other.values or (), one.values or (), strict=True))
            and other.values != one.values
            for other in complete
        )

    return sorted((r for r in complete if not beaten(r)), key=lambda record: record.value)


def _record(trial: FrozenTrial) -> TrialRecord | None:
    slot, reason = trial.user_attrs.get(SLOT), trial.user_attrs.get(REASON, "")
    states: dict[TrialState, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    if slot is None or trial.state not in states or reason == INTERRUPTED:
        return None
    state = states[trial.state]
    result = trial.user_attrs.get(RESULT, {})
    return TrialRecord(
        slot=slot,
        number=trial.number,
        state=state,
        values=tuple(trial.values) if state == "complete" else None,
        point=trial.params,
        epochs=result.get("epochs", 0),
        seconds=result.get("seconds", 0.0),
        losses=trial.intermediate_values,
        result=result,
        reason=reason,
    )


def _pruner(config: PrunerConfig, max_epochs: int | None) -> optuna.pruners.BasePruner:
    if config.type == "median":
        # Optuna prunes in the step of this number, epochs count from 1
        return optuna.pruners.MedianPruner(
            n_startup_trials=config.n_startup_trials, n_warmup_steps=config.n_warmup_steps + 1
        )
    if config.type == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=max(config.n_warmup_steps, 1),
            max_resource=max_epochs or "auto",
            reduction_factor=config.reduction_factor,
        )
    return optuna.pruners.NopPruner()
