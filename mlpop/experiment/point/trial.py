"""One trial of a point-estimate training: an MLflow run with live curves and checkpoints."""

import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter
from tqdm import tqdm

from mlpop.errors import DataError, TrackingError
from mlpop.experiment.output_tree import OutputTree, make_folder
from mlpop.experiment.point.setup import Problem
from mlpop.experiment.point.tensorboard import Board
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.tracked_training import TrackedTraining, open_training
from mlpop.io.files import write_atomically
from mlpop.io.records import BrokenRecord, malformed
from mlpop.regression.checkpoint import load_model, load_weights, save_model
from mlpop.regression.learner import Epoch
from mlpop.regression.records import Records
from mlpop.tracking import Node, TrackedRun
from mlpop.tracking.artifacts import fetched
from mlpop.tracking.pages.description import clock
from mlpop.training.checkpoint import TrainingState
from mlpop.training.events import EpochEnded, TrainingEvent
from mlpop.training.loop import Stopped, Training

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pth"
RESULT = "trial.json"
BEST = "best_model.pth"
LOG_LINES = 20
"""Lines in the log of one trial's epochs, about."""

STOPPED: dict[Stopped, str] = {
    "patience": "early_stop",
    "max_num_epochs": "epochs",
    "nan": "nan",
}
"""Why a training ended -> what `trial.json` calls it."""


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        trial: number from 1.
        monitor: monitored value of the best epoch; None if there is none.
        distance: how far that is from perfect; None likewise. Smaller is better.
        losses: label -> loss of the best epoch, physical units.
        converged: whether every loss is below its threshold.
        failed: whether its loss became NaN, or never was a number.
        best_epoch: from 1, 0 if there is none.
        epochs: epochs trained.
        stopped: why it ended.
        seconds: time spent on epochs.
    """

    trial: int
    monitor: float | None
    distance: float | None
    losses: Mapping[str, float]
    converged: bool
    failed: bool
    best_epoch: int
    epochs: int
    stopped: str
    seconds: float

    @property
    def rank(self) -> float:
        """Key to sort by: the best first, failed ones last."""
        return math.inf if self.failed or self.distance is None else self.distance


def run_trial(
    problem: Problem,
    trial: int,
    parent: TrackedRun,
    tree: OutputTree,
    thresholds: Mapping[str, float],
    *,
    earlier: Node | None = None,
    start: Path | None = None,
) -> TrialResult:
    """Train trial `trial`, or take over what an earlier launch has of it.

    Args:
        problem: what all trials share.
        trial: number from 1.
        parent: the run of the launch.
        tree: the folders of the launch.
        thresholds: of the labels' losses.
        earlier: the run of this trial in the launch that is resumed.
        start: a trained model or checkpoint to start from.

    Raises:
        DataError: a file cannot be written, or `start` does not fit.
        TrackingError: the store is away.
    """
    lineage = Lineage(parent.store)
    if earlier is not None and lineage.is_complete(earlier):
        try:
            return _complete(trial, lineage, earlier, tree)
        except BrokenRecord as error:
            logger.warning("trial %d is done again: %s", trial, error)
    training = problem.training(trial)
    with ExitStack() as stack:
        tracked = stack.enter_context(
            open_training(
                "trial",
                f"trial_{trial - 1:02d}",
                parent,
                curves,
                tags={"mlpop.trial": trial},
                earlier=earlier,
            )
        )
        if start is not None:
            start_from(training, problem, start, trial)
        if earlier is not None and (state := _checkpoint(tracked.run)) is not None:
            training.restore(state)
            logger.info("trial %d goes on after epoch %d", trial, training.epoch)
        files = _TrialFiles(problem, training, tree, trial, stack)
        checkpoint = Path(stack.enter_context(tempfile.TemporaryDirectory()), CHECKPOINT)
        tracked.send_checkpoint = lambda: tracked.run.send(checkpoint)

        def hear(event: TrainingEvent) -> None:
            files.hear(event)
            tracked.hear(event)

        reason = training.run(hear, lambda state: files.save(checkpoint, state))
        result = judge(trial, training, STOPPED[reason], problem.labels, thresholds)
        _finish(tracked, result, files)
        return result


def judge(
    trial: int,
    training: Training[Epoch],
    stopped: str,
    labels: Sequence[str],
    thresholds: Mapping[str, float],
) -> TrialResult:
    """Decide whether a trial converged.

    Args:
        trial: its number.
        training: after its end.
        stopped: why it ended.
        labels: that are predicted.
        thresholds: label -> threshold; labels without one count as converged.
    """
    best = training.best
    failed = best is None or stopped == "nan"
    losses = {label: best.judged[label] for label in labels} if best else {}
    return TrialResult(
        trial=trial,
        monitor=training.learner.monitored(best) if best else None,
        distance=training.best_value if best else None,
        losses=losses,
        converged=not failed
        and all(losses[label] < thresholds.get(label, math.inf) for label in labels),
        failed=failed,
        best_epoch=training.best_epoch,
        epochs=training.epoch,
        stopped=stopped,
        seconds=sum(record.seconds for record in training.history),
    )


def start_from(training: Training[Epoch], problem: Problem, path: Path, trial: int) -> None:
    """Start from a file: a checkpoint goes on in trial 1, else its weights are the first ones.

    Raises:
        DataError: labels, channels, scaling or weights are others.
    """
    model, state = load_model(path)
    for what, found, wanted in (
        ("labels", model.labels, problem.labels),
        ("channels", model.channels, problem.train.channels),
        ("label scaling", model.scaling, problem.scaling),
    ):
        if found != wanted:
            raise DataError(
                f"--trained_model: {path} has the {what} {found}, the configuration {wanted}"
            )
    load_weights(training.network, model.weights, f"--trained_model: {path}")
    if state is not None and trial == 1:
        training.restore(state)


def curves(record: Epoch) -> dict[str, float]:
    """Return an epoch's points: `train/<label>`, `train_eval/<label>`, `valid/<label>`, `lr`."""
    parts = {"train": record.train, "train_eval": record.train_eval, "valid": record.valid}
    points = {
        f"{part}/{name}": value
        for part, numbers in parts.items()
        if numbers is not None
        for name, value in numbers.items()
    }
    return points | {"lr": record.lr, "epoch_seconds": record.seconds}


class _TrialFiles:
    """The documented files of a trial, written while it runs, and its lines in the log."""

    def __init__(
        self,
        problem: Problem,
        training: Training[Epoch],
        tree: OutputTree,
        trial: int,
        stack: ExitStack,
    ) -> None:
        self._problem, self._training, self._trial = problem, training, trial
        self._models, self.folder = tree.models, tree.logs / f"trial_{trial}"
        make_folder(self.folder)
        self.best_model = self._models / f"best_model_trial{trial}.pth"
        self.records = Records(self.folder, training.history)
        self._board = None
        trainer = problem.config.trainer
        if trainer.tensorboard:
            self._board = stack.enter_context(closing(Board(self.folder, training.epoch)))
        if training.best_epoch:
            self._save_best()
        self._bar = stack.enter_context(
            tqdm(
                total=trainer.epochs,
                initial=training.epoch,
                desc=f"trial {trial}",
                unit="epoch",
                disable=None,
            )
        )

    def hear(self, event: TrainingEvent) -> None:
        """Write what an epoch gave."""
        if not isinstance(event, EpochEnded):
            return
        record, training, trainer = event.record, self._training, self._problem.config.trainer
        self.records.add(record)
        if self._board is not None:
            self._board.add(record, training.network if event.improved else None)
        often = record.epoch % max(1, trainer.epochs // LOG_LINES) == 0
        level = logging.INFO if often else logging.DEBUG
        spent = [epoch.seconds for epoch in training.history]
        left = clock((trainer.epochs - record.epoch) * sum(spent) / max(len(spent), 1))
        logger.log(level, "trial %d %s, at most %s left", self._trial, _line(record), left)
        self._bar.update()
        if event.improved:
            self._save_best()
        if record.epoch % trainer.save_period == 0:
            name = f"checkpoint_trial{self._trial}_epoch{record.epoch}.pth"
            self.save(self._models / name, training.state())

    def save(self, path: Path, state: TrainingState[Epoch]) -> None:
        """Write a checkpoint from which the training can go on."""
        model = self._problem.model(state.weights, state.epoch, state.best_value)
        save_model(path, model, optimizer=state.optimizer, state=state)

    def _save_best(self) -> None:
        training = self._training
        model = self._problem.model(
            training.best_weights, training.best_epoch, training.best_value
        )
        save_model(self.best_model, model, optimizer=training.best_optimizer)


def _finish(
    tracked: TrackedTraining[Epoch], result: TrialResult, trial_files: _TrialFiles
) -> None:
    numbers: dict[str, float] = {"best/epoch": result.best_epoch, "epochs": result.epochs}
    if result.monitor is not None:
        numbers["best/monitor"] = result.monitor
        numbers |= {f"best/{label}": value for label, value in result.losses.items()}
    if result.seconds > 0:
        numbers |= {
            "seconds": result.seconds,
            "epochs_per_second": result.epochs / result.seconds,
        }
    result_path = trial_files.folder / RESULT
    write_atomically(result_path, json.dumps(asdict(result), indent=2) + "\n")
    files = {path.name: path for path in [*trial_files.records.files, result_path]}
    if result.best_epoch:
        files[BEST] = trial_files.best_model
    word = "failed" if result.failed else "converged" if result.converged else "not converged"
    tracked.complete(
        f"Trial {result.trial}: {word}; ended by {result.stopped}.",
        numbers,
        files,
        tags={"mlpop.converged": result.converged, "mlpop.failed": result.failed},
    )
    logger.info(
        "trial %d: %s after %d epochs (%s), best epoch %d, losses %s",
        result.trial,
        word,
        result.epochs,
        result.stopped,
        result.best_epoch,
        ", ".join(f"{label} {value:.6g}" for label, value in result.losses.items()) or "none",
    )


def _complete(trial: int, lineage: Lineage, node: Node, tree: OutputTree) -> TrialResult:
    """Take a complete trial over; its files are brought to this machine if they are not here."""
    with malformed(f"artifact {RESULT} of run {node.run_id}"):
        result = TypeAdapter(TrialResult).validate_python(lineage.json(node, RESULT))
    documents = [name for name in lineage.names(node) if name.endswith(".json")]
    folder = tree.logs / f"trial_{trial}"
    make_folder(folder)
    lineage.fetch_all(node, documents, folder)
    if result.best_epoch:
        lineage.fetch(node, BEST, tree.models / f"best_model_trial{trial}.pth")
    logger.info("trial %d was complete and is kept", trial)
    return result


def _checkpoint(run: TrackedRun) -> TrainingState[Epoch] | None:
    try:
        with fetched(run.store.client, run.run_id, CHECKPOINT) as path:
            return load_model(path)[1]
    except (TrackingError, DataError) as error:
        logger.info("no checkpoint to go on from, the trial starts again: %s", error)
        return None


def _line(record: Epoch) -> str:
    parts = {"train": record.train, "train eval": record.train_eval, "valid": record.valid}
    losses = ", ".join(
        f"{name} {part['loss']:.6g}" for name, part in parts.items() if part is not None
    )
    return f"epoch {record.epoch}: {losses} ({record.seconds:.2f} s)"
