"""`mlpop train-nn`: trials of a network of point estimates, until one converges."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlpop.compute import draw_root_seed
from mlpop.config.files.regression import RegressionConfig
from mlpop.datasets.scaling import label_statistics
from mlpop.errors import ConfigError, TrainingError
from mlpop.experiment.logs import show_on_terminal
from mlpop.experiment.models.point_model import log_point_model
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.point.figures import log_figures
from mlpop.experiment.point.setup import Problem, describe_network, label_names, pose
from mlpop.experiment.point.trial import TrialResult, run_trial
from mlpop.experiment.resume.attempts import (
    DATA_TAG,
    recorded_seed,
    refuse_changes,
    refuse_other_data,
    resumed_run,
)
from mlpop.experiment.session import session
from mlpop.io.files import write_atomically
from mlpop.regression.checkpoint import load_model
from mlpop.regression.data import PointSet
from mlpop.regression.prediction import predict, summary
from mlpop.tracking import Node, Store, TrackedRun, connect, parameters, point_note
from mlpop.tracking import tree as run_tree

logger = logging.getLogger(__name__)

KIND = "train_nn"
CONFIG = "config.json"
TRIALS = "trials.json"
BEST = "best_model.pth"
SUFFIX = "_threshold"

FREE = (
    "dataset_path",
    "statistic_path",
    "save_dir",
    "num_workers",
    "cache_mb",
    "save_period",
    "verbosity",
    "tensorboard",
    "checkpoint_seconds",
    "set_manual_seed",
    "manual_seed",
)
"""Fields that may differ on a resume: data are compared by content, the root seed is recorded."""


@dataclass(frozen=True)
class TrainNnResult:
    """What a launch gave.

    Attributes:
        run_id: its MLflow run.
        trials: result of every trial.
        chosen: the trial whose network is `best_model.pth`.
        logs: folder of the logs.
        models: folder of the models.
        model_uri: of the MLflow model.
        numbers: label -> bias, MAE, RMSE, ... on the validation set, else on the training set.
    """

    run_id: str
    trials: tuple[TrialResult, ...]
    chosen: TrialResult
    logs: Path
    models: Path
    model_uri: str
    numbers: Mapping[str, Mapping[str, float]]


def train_nn(
    config: RegressionConfig,
    *,
    convergence: float | None = None,
    trained_model: Path | None = None,
) -> TrainNnResult:
    """Train until a trial converges, or keep the best of all trials.

    Args:
        config: what to do.
        convergence: replaces every label's threshold.
        trained_model: a checkpoint that trial 1 goes on from, or weights that all start from.

    Raises:
        ConfigError: the configuration contradicts itself or the data. Nothing is written then.
        DataError: a dataset is broken.
        TrainingError: every trial failed.
    """
    show_on_terminal(config.trainer.verbosity)
    config = _with_threshold(config, convergence)
    root_seed = config.root_seed if config.root_seed is not None else draw_root_seed()
    problem = pose(config, root_seed)
    thresholds = convergence_thresholds(config.convergence, problem.labels)
    if trained_model is not None:
        load_model(trained_model)
    return _launch(problem, thresholds, trained_model=trained_model)


def resume_train_nn(
    which: str, config: RegressionConfig | None = None, *, convergence: float | None = None
) -> TrainNnResult:
    """Continue an interrupted training: complete trials are kept, the next goes on.

    Args:
        which: a run id, or `last`.
        config: must give the same results as that of the run; by default it is that of the run.
        convergence: as in `train_nn`, for `config`.

    Raises:
        ConfigError: the configuration has changed; every field that differs is named.
        DataError: the datasets have changed.
        TrackingError: there is no such run, it is complete, or a living process works on it.
        TrainingError: every trial failed.
    """
    store = connect()
    if config is not None:
        config = _with_threshold(config, convergence)
    root, config, recorded = resumed_run(
        store, KIND, which, CONFIG, config, RegressionConfig.parse
    )
    refuse_changes(recorded, config.resolved(), FREE, growing=("trials",))
    show_on_terminal(config.trainer.verbosity)
    problem = pose(config, recorded_seed(root))
    refuse_other_data(root, _digests(problem))
    thresholds = convergence_thresholds(config.convergence, problem.labels)
    return _launch(problem, thresholds, store=store, root=root)


def convergence_thresholds(given: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Return label -> threshold; names of no label are a warning.

    Args:
        given: `<label>_threshold`, or `<label>`, -> threshold.
        labels: that are predicted.

    Raises:
        ConfigError: two different thresholds for one label.
    """
    thresholds: dict[str, float] = {}
    unknown = []
    for name, value in given.items():
        label = name if name in labels else name.removesuffix(SUFFIX)
        if label not in labels:
            unknown.append(name)
        elif thresholds.setdefault(label, value) != value:
            raise ConfigError(
                f"convergence: '{label}' has two thresholds, {thresholds[label]} and {value}"
            )
    if unknown:
        logger.warning(
            "convergence: %s: no such label is predicted; the labels are %s",
            ", ".join(unknown),
            ", ".join(labels),
        )
    return thresholds


def choose(trials: Sequence[TrialResult]) -> TrialResult:
    """Return the trial that converged, else the best.

    Raises:
        TrainingError: all failed.
    """
    alive = [trial for trial in trials if not trial.failed]
    if not alive:
        raise TrainingError(
            f"all {len(trials)} trials failed: the loss became NaN or never was a number; try a "
            "lower learning rate, or check the scaling of maps and labels"
        )
    converged = [trial for trial in alive if trial.converged]
    return min(converged or alive, key=lambda trial: trial.rank)


def _with_threshold(config: RegressionConfig, convergence: float | None) -> RegressionConfig:
    """Return the configuration with one threshold for all labels, if there is one."""
    if convergence is None:
        return config
    thresholds = {name + SUFFIX: convergence for name in label_names(config)}
    return config.model_copy(update={"convergence": thresholds})


def _launch(
    problem: Problem,
    thresholds: Mapping[str, float],
    *,
    trained_model: Path | None = None,
    store: Store | None = None,
    root: Node | None = None,
) -> TrainNnResult:
    config = problem.config
    resolved = config.resolved()
    with session(
        KIND,
        config.name,
        resolved,
        config_file=CONFIG,
        save_dir=config.trainer.save_dir,
        root_seed=problem.root_seed,
        params=parameters(resolved)
        | {"labels": " ".join(problem.labels), "num_train": len(problem.train)},
        tags={f"{DATA_TAG}{name}": digest for name, digest in _digests(problem).items()},
        store=store,
        resumed=root,
    ) as launch:
        run, tree = launch.run, launch.tree
        logger.info("device %s", problem.device)
        logger.info("%s", describe_network(problem.training(1).network))
        _log_inputs(run, problem)
        run.set_state("training")
        trials = _run_trials(problem, thresholds, run, tree, root, trained_model)
        result = _finish(problem, run, tree, trials, choose(trials))
        launch.files.update({path.name: path for path in tree.logs.glob("*_results.json")})
        launch.files.update({name: tree.models / name for name in (BEST, TRIALS)})
        return result


def _run_trials(
    problem: Problem,
    thresholds: Mapping[str, float],
    run: TrackedRun,
    tree: OutputTree,
    root: Node | None,
    trained_model: Path | None,
) -> list[TrialResult]:
    earlier = {child.tags.get("mlpop.trial"): child for child in (root.children if root else ())}
    trials: list[TrialResult] = []
    for number in range(1, problem.config.trials + 1):
        result = run_trial(
            problem,
            number,
            run,
            tree,
            thresholds,
            earlier=earlier.get(str(number)),
            start=trained_model,
        )
        trials.append(result)
        listed = [asdict(trial) for trial in trials]
        write_atomically(tree.models / TRIALS, json.dumps(listed, indent=2) + "\n")
        if not result.failed and choose(trials) is result:
            _publish(tree, result)
        if result.converged:
            break
    return trials


def _publish(tree: OutputTree, result: TrialResult) -> None:
    """Make a trial's files those at the top."""
    shutil.copyfile(tree.models / f"best_model_trial{result.trial}.pth", tree.models / BEST)
    for path in (tree.logs / f"trial_{result.trial}").glob("*_results.json"):
        shutil.copyfile(path, tree.logs / path.name)


def _finish(
    problem: Problem,
    run: TrackedRun,
    tree: OutputTree,
    trials: Sequence[TrialResult],
    chosen: TrialResult,
) -> TrainNnResult:
    if not chosen.converged:
        logger.warning("no trial of %d converged; the best is trial %d", len(trials), chosen.trial)
    model, _ = load_model(tree.models / BEST)
    network = model.build_network(str(tree.models / BEST)).to(problem.device)
    name, data = ("validation", problem.valid) if problem.valid else ("training", problem.train)
    found = predict(network, data, problem.loss, problem.scaling)
    numbers = summary(found, data.theta)
    log_figures(run, tree, found, data.theta, name, chosen.trial)
    uri = log_point_model(run, tree.models / BEST)
    flat = {f"{key}/{label}": v for label, n in numbers.items() for key, v in n.items()}
    compared = {key: value for key, value in flat.items() if not key.startswith("std/")}
    metrics: dict[str, float] = {
        "best/trial": chosen.trial,
        "best/epoch": chosen.best_epoch,
        "trials": len(trials),
        "converged": float(chosen.converged),
    }
    if chosen.monitor is not None:
        metrics["best/monitor"] = chosen.monitor
    metrics |= {f"best/{label}": value for label, value in chosen.losses.items()}
    run.log_metrics(metrics | (compared if len(compared) <= 12 else {}))
    children = run_tree(run.store, run.run_id).children
    runs = {child.name: child.run_id for child in children if child.kind == "trial"}
    about = (
        f"`{problem.config.arch.type}` on {len(problem.train)} simulations; the numbers are those "
        f"of trial {chosen.trial} on the {name} set ({len(data)} samples)."
    )
    run.set_note(point_note(run.experiment_id, about, numbers, members=runs))
    for label, values in numbers.items():
        logger.info(
            "%-28s %s",
            label,
            ", ".join(f"{key} {value:.4g}" for key, value in values.items()),
        )
    return TrainNnResult(run.run_id, tuple(trials), chosen, tree.logs, tree.models, uri, numbers)


def _digests(problem: Problem) -> dict[str, str]:
    """Return name of a set -> digest of its content."""
    sets = {"training": problem.train, "validation": problem.valid}
    return {name: data.digest for name, data in sets.items() if data is not None}


def _log_inputs(run: TrackedRun, problem: Problem) -> None:
    sets: list[tuple[str, PointSet | None]] = [
        ("training", problem.train),
        ("validation", problem.valid),
    ]
    for name, data in sets:
        if data is not None:
            spread = label_statistics(data.theta, data.labels)
            profile = {"num_rows": len(data), "labels": spread}
            run.log_dataset(name, data.digest, str(data.source), name, profile)
