"""One trial of a point-estimate training: an MLflow run with live curves and checkpoints."""

import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mlpop.errors import DataError, TrackingError
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.point.setup import Problem, results_folder
from mlpop.experiment.point.tensorboard import Board
from mlpop.io.files import write_atomically
from mlpop.regression import Epoch, Records, State, Training, load_model, load_weights, save_model
from mlpop.tracking import Node, TrackedRun, member_note, open_run, verify
from mlpop.tracking.artifacts import fetched

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pth"
RESULT = "trial.json"
BEST = "best_model.pth"
LOG_LINES = 20
"""Lines in the log of one trial's epochs, about."""


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
    if earlier is not None and earlier.state == "complete" and not _broken(parent, earlier):
        return _kept(trial, parent, earlier, tree)
    training = problem.training(trial)
    with (
        ExitStack() as stack,
        open_run(
            "trial",
            f"trial_{trial - 1:02d}",
            parent.run_id,
            tags={"mlpop.trial": trial, "mlpop.state": "training"},
            store=parent.store,
            run_id=earlier.run_id if earlier else None,
        ) as run,
    ):
        if start is not None:
            start_from(training, problem, start, trial)
        if earlier is not None and (state := _checkpoint(run)) is not None:
            training.restore(state)
            logger.info("trial %d goes on after epoch %d", trial, training.epoch)
        folder = results_folder(tree.logs, trial)
        records = Records(folder, training.history)
        for record in training.history:
            run.curves.extend(curves(record), step=record.epoch)
        board = None
        if problem.config.trainer.tensorboard:
            board = stack.enter_context(Board(folder, training.epoch))
        keeper = _Keeper(problem, training, run, tree, trial)
        if training.best_epoch:
            keeper.best()
        bar = stack.enter_context(
            tqdm(
                total=problem.config.trainer.epochs,
                initial=training.epoch,
                desc=f"trial {trial}",
                unit="epoch",
                disable=None,
            )
        )
        every = max(1, problem.config.trainer.epochs // LOG_LINES)

        def on_epoch(record: Epoch, improved: bool) -> None:
            records.add(record)
            run.curves.extend(curves(record), step=record.epoch)
            if board is not None:
                board.add(record, training.network if improved else None)
            level = logging.INFO if record.epoch % every == 0 else logging.DEBUG
            logger.log(level, "trial %d %s", trial, _line(record))
            bar.update()
            if improved:
                keeper.best()
            keeper.after(record)

        stopped = training.run(on_epoch)
        keeper.checkpoint()
        result = judge(trial, training, stopped, thresholds)
        write_atomically(folder / RESULT, json.dumps(asdict(result), indent=2) + "\n")
        _finish(run, result, records, folder, keeper)
        return result


def judge(
    trial: int, training: Training, stopped: str, thresholds: Mapping[str, float]
) -> TrialResult:
    """Decide whether a trial converged.

    Args:
        trial: its number.
        training: after its end.
        stopped: why it ended.
        thresholds: label -> threshold; labels without one count as converged.
    """
    best = training.best
    failed = best is None or stopped == "nan"
    labels = training.train.labels
    losses = {label: best.judged[label] for label in labels} if best else {}
    monitored = "loss" if training.options.monitor == "loss" else training.judge.metric_name
    return TrialResult(
        trial=trial,
        monitor=best.judged[monitored] if best else None,
        distance=training.best_distance if best else None,
        losses=losses,
        converged=not failed
        and all(losses[label] < thresholds.get(label, math.inf) for label in labels),
        failed=failed,
        best_epoch=training.best_epoch,
        epochs=training.epoch,
        stopped=stopped,
        seconds=sum(record.seconds for record in training.history),
    )


def start_from(training: Training, problem: Problem, path: Path, trial: int) -> None:
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


class _Keeper:
    """Writes the documented model files, and the checkpoints that a resume goes on from."""

    def __init__(
        self, problem: Problem, training: Training, run: TrackedRun, tree: OutputTree, trial: int
    ) -> None:
        self._problem, self._training, self._run = problem, training, run
        self._folder, self._trial = tree.models, trial
        self._saved_at = time.monotonic()

    @property
    def best_path(self) -> Path:
        return self._folder / f"best_model_trial{self._trial}.pth"

    def best(self) -> None:
        training = self._training
        assert training.best is not None
        model = self._problem.model(
            training.best_weights, training.best_epoch, training.best_distance
        )
        save_model(self.best_path, model, optimizer=training.best_optimizer)

    def after(self, record: Epoch) -> None:
        if record.epoch % self._problem.config.trainer.save_period == 0:
            name = f"checkpoint_trial{self._trial}_epoch{record.epoch}.pth"
            self._save(self._folder / name)
        waited = time.monotonic() - self._saved_at
        if waited >= self._problem.config.trainer.checkpoint_seconds:
            self.checkpoint()

    def checkpoint(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, CHECKPOINT)
            self._save(path)
            self._run.send(path)
        self._saved_at = time.monotonic()

    def _save(self, path: Path) -> None:
        state = self._training.state()
        model = self._problem.model(state.weights, state.epoch, state.best_distance)
        save_model(path, model, optimizer=state.optimizer, state=state)


def _finish(
    run: TrackedRun, result: TrialResult, records: Records, folder: Path, keeper: _Keeper
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
    run.log_metrics(numbers)
    run.set_tags({"mlpop.converged": result.converged, "mlpop.failed": result.failed})
    word = "failed" if result.failed else "converged" if result.converged else "not converged"
    run.set_note(member_note(f"Trial {result.trial}: {word}; ended by {result.stopped}.", numbers))
    files = {path.name: path for path in records.files} | {RESULT: folder / RESULT}
    if result.best_epoch:
        files[BEST] = keeper.best_path
    run.commit(files)
    logger.info(
        "trial %d: %s after %d epochs (%s), best epoch %d, losses %s",
        result.trial,
        word,
        result.epochs,
        result.stopped,
        result.best_epoch,
        ", ".join(f"{label} {value:.6g}" for label, value in result.losses.items()) or "none",
    )


def _broken(parent: TrackedRun, earlier: Node) -> list[str]:
    problems = verify(parent.store.client, earlier.run_id)
    if problems:
        logger.warning("%s is trained again: %s", earlier.name, "; ".join(problems))
    return problems


def _kept(trial: int, parent: TrackedRun, earlier: Node, tree: OutputTree) -> TrialResult:
    """Take a complete trial over; its files are brought to this machine if they are not here."""
    folder = results_folder(tree.logs, trial)
    client = parent.store.client
    with fetched(client, earlier.run_id, RESULT) as path:
        result = TrialResult(**json.loads(path.read_text(encoding="utf-8")))
    targets = {name.path: folder / name.path for name in client.list_artifacts(earlier.run_id)}
    targets = {name: path for name, path in targets.items() if path.suffix == ".json"}
    if result.best_epoch:
        targets[BEST] = tree.models / f"best_model_trial{trial}.pth"
    for name, target in targets.items():
        if name != "COMPLETE.json" and not target.exists():
            with fetched(client, earlier.run_id, name) as path:
                shutil.copyfile(path, target)
    logger.info("trial %d was complete and is kept", trial)
    return result


def _checkpoint(run: TrackedRun) -> State | None:
    try:
        with fetched(run.store.client, run.run_id, CHECKPOINT) as path:
            return load_model(path)[1]
    except (TrackingError, DataError) as error:
        logger.info("no checkpoint to go on from, the trial starts again: %s", error)
        return None


def _line(record: Epoch) -> str:
    names: dict[str, Any] = {
        "train": record.train["loss"],
        "train eval": record.train_eval["loss"],
    }
    if record.valid is not None:
        names["valid"] = record.valid["loss"]
    losses = ", ".join(f"{name} {value:.6g}" for name, value in names.items())
    return f"epoch {record.epoch}: {losses} ({record.seconds:.2f} s)"
