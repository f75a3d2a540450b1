"""The compressor of an experiment, in its folder and in the MLflow run of round 0."""

import logging
from dataclasses import replace
from pathlib import Path

from mlpop.datasets.loading import Dataset
from mlpop.errors import MlpopError
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.rounds.compressor_fit import REPORT, make_compressor
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.tracked_training import TrackedTraining
from mlpop.inference.compression.compressor import COMPONENTS, COMPRESSOR, NETWORK, Compressor
from mlpop.inference.posteriors.preprocessing import COMPRESSOR_FOLDER, Preprocessing
from mlpop.tracking import Node, TrackedRun
from mlpop.training.events import EpochRecord

logger = logging.getLogger(__name__)


def compressor_for(
    launch: Launch,
    problem: LearningProblem,
    data: Dataset,
    run: TrackedRun,
    folders: RoundFolders,
    earlier: Node | None,
) -> LearningProblem:
    """Return `problem` with the configured compressor, which is kept in the run of round 0.

    Without compression `problem` comes back as it is. The training set `data`, run and folders
    are those of round 0; the compressor of a run of it that was left unfinished, `earlier`, is
    taken over.

    Raises:
        ConfigError, DataError, TrainingError: as `make_compressor`.
    """
    if not launch.config.compression_input.use_compression:
        return problem
    folder = folders.models / COMPRESSOR_FOLDER
    if earlier is not None and not (folder / REPORT).exists():
        _restore(launch, earlier, folder)
    training = TrackedTraining(run, _curves)
    with launch.profiler.section("Compressor"):
        fitted = make_compressor(
            launch.config,
            problem,
            data,
            folder,
            root_seed=launch.root_seed,
            backend=launch.backend,
            on_event=lambda _, event: training.hear(event),
        )
    for name, path in compressor_files(folders, fitted.compressor).items():
        run.send(path, name)
    run.log_metrics(fitted.numbers)
    run.set_tags({"mlpop.compressor": fitted.compressor.digest})
    scaling = problem.preprocessing.input_scaling
    return replace(problem, preprocessing=Preprocessing(scaling, fitted.compressor))


def _curves(record: EpochRecord) -> dict[str, float]:
    return {
        "compressor/train_loss": record.train_loss,
        "compressor/val_loss": record.val_loss,
    }


def compressor_files(folders: RoundFolders, compressor: Compressor | None) -> dict[str, Path]:
    """Return artifact name -> file of the compressor in a round's folder; none without one."""
    if compressor is None:
        return {}
    folder = folders.models / COMPRESSOR_FOLDER
    return {f"{COMPRESSOR_FOLDER}/{path.name}": path for path in sorted(folder.iterdir())}


def _restore(launch: Launch, node: Node, folder: Path) -> None:
    """Copy the compressor of an unfinished run, if it got so far; it is checked when read."""
    lineage = launch.lineage
    try:
        if not lineage.has(node, f"{COMPRESSOR_FOLDER}/{REPORT}"):
            return
        for name in (NETWORK, COMPONENTS, COMPRESSOR, REPORT):
            if lineage.has(node, f"{COMPRESSOR_FOLDER}/{name}"):
                lineage.fetch(node, f"{COMPRESSOR_FOLDER}/{name}", folder / name)
    except MlpopError as error:
        logger.warning("compressor: made again, its files cannot be used: %s", error)
