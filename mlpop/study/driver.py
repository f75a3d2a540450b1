"""The loop of a study: one process asks Optuna, workers train, the same process tells."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import optuna
import torch
from optuna.trial import TrialState
from tqdm import tqdm

from mlpop.compute import Backend, Purpose, seed_sequence, torch_seed
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import StudyConfig
from mlpop.errors import ConfigError
from mlpop.experiment.parameters import member_parameters
from mlpop.experiment.rounds.ensemble import estimator_spec
from mlpop.networks.rng import generator_from_seed
from mlpop.study.data import StudyData
from mlpop.study.space import Space, applied, base_point, suggest
from mlpop.study.storage import (
    REASON,
    RESULT,
    SLOT,
    TrialRecord,
    best,
    next_slot,
    put_in_order,
    records,
    sampler,
    trial_name,
)
from mlpop.study.trial_runs import TrialRuns
from mlpop.tracking import flatten
from mlpop.tracking.pages.description import clock
from mlpop.training.events import Completed, EpochRecord, Failed, Pruned, TrainingEvent, TrialEnd
from mlpop.training.fit import validation_split
from mlpop.training.member_task import MemberTask
from mlpop.training.trial_task import TrialTask, train_trial

logger = logging.getLogger(__name__)

INIT, TRAINING, SAMPLER = range(3)
"""What a seed of (Purpose.STUDY, slot, ...) is for."""

CHECKPOINT_SECONDS = 10.0


@dataclass
class _Running:
    slot: int
    trial: optuna.Trial
    folder: Path
    last_epoch: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    ended: bool = False


@dataclass
class Driver:
    """What one launch of a study works with.

    Args:
        config: the study.
        base: the experiment that is varied.
        space: what is searched.
        study: Optuna's.
        data: what trials train on.
        runs: of the trials in MLflow.
        root_seed: of the study.
        data_seed: of the validation split, as in round 0 of the base experiment.
        folder: where trials keep their checkpoints.
        device: torch device.
        after_trial: called with every trial that ended.
    """

    config: StudyConfig
    base: SbiConfig
    space: Space
    study: optuna.Study
    data: StudyData
    runs: TrialRuns
    root_seed: int
    data_seed: int
    folder: Path
    device: torch.device
    after_trial: Callable[[TrialRecord], None]
    _running: dict[int, _Running] = field(default_factory=dict)
    _deadline: float = float("inf")
    _known: int = 0
    _began: float = 0.0

    def run(self, backend: Backend) -> list[TrialRecord]:
        """Run the trials that are missing and return all that ended."""
        self._values = self.base.resolved()
        self._flat = flatten(self._values)
        waiting = put_in_order(self.study, base_point(self.space, self._flat))
        if waiting:
            logger.info("interrupted before, run again: %s", ", ".join(map(trial_name, waiting)))
        ended = records(self.study)
        for record in ended:
            self.runs.catch_up(record)
        missing = max(self.config.n_trials - len(ended), 0)
        self._known, self._began = len(ended), time.monotonic()
        if self.config.timeout is not None:
            self._deadline = time.monotonic() + self.config.timeout
        with tqdm(
            total=self.config.n_trials,
            initial=len(ended),
            desc="trials",
            unit="trial",
            disable=None,
        ) as bar:
            tasks = _Asked(missing, self._ask)
            for outcome in backend.run(train_trial, tasks, on_event=self._hear):
                running = self._running.get(outcome.index)
                if running is None:
                    continue
                if not running.ended:
                    self._fail(running, outcome.error or "the training gave no result")
                bar.update()
        shutil.rmtree(self.folder, ignore_errors=True)
        if time.monotonic() > self._deadline:
            logger.warning("timeout: no trial was started after %g s", self.config.timeout)
        return records(self.study)

    def _ask(self, index: int) -> TrialTask:
        """Return the next trial as a task."""
        if time.monotonic() > self._deadline:
            return TrialTask(None)
        slot = next_slot(self.study)
        self.study.sampler = sampler(self.config.sampler, self._seed(slot, SAMPLER))
        trial = self.study.ask()
        slot = int(trial.user_attrs.get(SLOT, slot))
        point = suggest(trial, self.space, self._flat)
        trial.set_user_attr(SLOT, slot)
        folder = self.folder / trial_name(slot)
        running = self._running[index] = _Running(slot, trial, folder)
        values = applied(self._values, point)
        trial.set_user_attr("run_id", self.runs.start(slot, trial.number, values))
        _stop_file(folder).unlink(missing_ok=True)
        try:
            config = SbiConfig.parse(values, trial_name(slot))
            task = self._task(slot, config, folder)
        except ConfigError as error:
            self._fail(running, str(error))
            return TrialTask(None)
        assert task.member is not None
        self.runs.describe(slot, member_parameters(config, task.member))
        running.last_epoch = task.member.options.max_num_epochs
        return task

    def _seed(self, slot: int, use: int) -> int:
        return torch_seed(seed_sequence(self.root_seed, Purpose.STUDY, slot, use))

    def _task(self, slot: int, config: SbiConfig, folder: Path) -> TrialTask:
        arrays = self.data.arrays
        changes: dict[str, Any] = {"checkpoint_seconds": CHECKPOINT_SECONDS}
        if self.config.max_num_epochs is not None:
            limit = min(self.config.max_num_epochs, config.trainer.max_num_epochs or 2**31)
            changes["max_num_epochs"] = limit
        split = torch_seed(seed_sequence(self.data_seed, Purpose.VALIDATION_SPLIT, 0))
        validation = validation_split(
            arrays.count, self.base.trainer.validation_fraction, generator_from_seed(split)
        )
        member = MemberTask(
            folder=str(folder),
            theta_path=str(arrays.theta_path),
            x_path=str(arrays.x_path),
            validation=tuple(validation.tolist()),
            spec=estimator_spec(config, self.data.problem, arrays.x_shape),
            options=config.trainer.model_copy(update=changes),
            init_seed=self._seed(slot, INIT),
            training_seed=self._seed(slot, TRAINING),
            data_digest=arrays.digest,
            device=self.device,
        )
        return TrialTask(member, str(_stop_file(folder)))

    def _hear(self, index: int, event: TrainingEvent | TrialEnd) -> None:
        """Report the epochs of a running trial, prune it, or take its end."""
        running = self._running[index]
        if isinstance(event, Completed | Pruned | Failed):
            self._end(running, event)
            return
        for epoch in self.runs.hear(running.slot, event):
            self._report(running, epoch)

    def _report(self, running: _Running, epoch: EpochRecord) -> None:
        running.epochs = epoch.epoch
        running.seconds += epoch.seconds
        if self.config.second_objective is not None:
            return
        running.trial.report(epoch.val_loss, epoch.epoch)
        # the user's configuration is what all others are compared with
        prunable = running.slot > 0 and epoch.epoch != running.last_epoch
        if prunable and running.trial.should_prune():
            running.folder.mkdir(parents=True, exist_ok=True)
            _stop_file(running.folder).touch()

    def _end(self, running: _Running, event: TrialEnd) -> None:
        match event:
            case Failed(reason):
                self._fail(running, reason)
                return
            case Pruned():
                self._note(running)
                self.study.tell(running.trial, state=TrialState.PRUNED)
            case Completed():
                self._note(running, best_epoch=event.best_epoch, parameters=event.parameters)
                second = self.config.second_objective
                values = [event.best_loss] + ([getattr(event, second)] if second else [])
                self.study.tell(running.trial, values)
        self._close(running)

    def _fail(self, running: _Running, reason: str) -> None:
        self._note(running)
        running.trial.set_user_attr(REASON, reason)
        self.study.tell(running.trial, state=TrialState.FAIL)
        self._close(running)

    def _note(self, running: _Running, **result: int) -> None:
        numbers = {"epochs": running.epochs, "seconds": running.seconds}
        self.runs.flush(running.slot)
        running.trial.set_user_attr(RESULT, numbers | result)

    def _close(self, running: _Running) -> None:
        running.ended = True
        ended = records(self.study)
        (record,) = [r for r in ended if r.slot == running.slot]
        self.runs.end(record)
        shutil.rmtree(running.folder, ignore_errors=True)
        leader = best(ended)
        each = (time.monotonic() - self._began) / max(len(ended) - self._known, 1)
        shown = f"loss {record.value:.4f}" if record.values else record.reason
        logger.info(
            "%s: %s after %d epochs%s%s; %d of %d trials, %s left",
            record.name,
            record.state,
            record.epochs,
            f" {shown}" if shown else "",
            f" (best {leader.value:.4f}, {leader.name})" if leader else "",
            len(ended),
            self.config.n_trials,
            clock(each * max(self.config.n_trials - len(ended), 0)),
        )
        self.after_trial(record)


class _Asked(Sequence[TrialTask]):
    """Tasks that are asked for when a worker is free, once each."""

    def __init__(self, count: int, ask: Callable[[int], TrialTask]) -> None:
        self._count, self._ask = count, ask
        self._known: dict[int, TrialTask] = {}

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TrialTask: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TrialTask]: ...

    def __getitem__(self, index: int | slice) -> TrialTask | Sequence[TrialTask]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index not in self._known:
            self._known[index] = self._ask(index)
        return self._known[index]


def _stop_file(folder: Path) -> Path:
    return folder / "stop"
