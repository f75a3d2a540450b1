"""The compressor of an experiment, in its folder and in the MLflow run of round 0."""

import logging
from dataclasses import replace
from pathlib import Path

from mlpop.datasets.loading import Dataset
from mlpop.errors import MlpopError
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.compressor_fit import REPORT, make_compressor
from mlpop.experiment.rounds.context import OpenRound
from mlpop.experiment.tracked_training import TrackedTraining
from mlpop.inference.compression.compressor import COMPONENTS, COMPRESSOR, NETWORK, Compressor
from mlpop.inference.posteriors.preprocessing import COMPRESSOR_FOLDER, Preprocessing
from mlpop.tracking import Node
from mlpop.training.events import EpochRecord

logger = logging.getLogger(__name__)


def compressor_for(current: OpenRound, problem: LearningProblem, data: Dataset) -> LearningProblem:
    """Return `problem` with the configured compressor, which is kept in the run of round 0.

    Without compression `problem` comes back as it is. `data` is the training set of round 0.

    Raises:
        ConfigError, DataError, TrainingError: as `make_compressor`.
    """
    launch, run, folders = current.launch, current.run, current.folders
    if not launch.config.compression_input.use_compression:
        return problem
    folder = folders.models / COMPRESSOR_FOLDER
    if current.earlier is not None and not (folder / REPORT).exists():
        _restore(launch.lineage, current.earlier, folder)
    training = TrackedTraining(run, _curves)
    with launch.profiler.section("Compressor"):
        compressor, numbers = make_compressor(
            launch, problem, data, folder, on_event=lambda _, event: training.hear(event)
        )
    for name, path in compressor_files(folders, compressor).items():
        run.send(path, name)
    run.log_metrics(numbers)
    run.set_tags({"mlpop.compressor": compressor.digest})
    scaling = problem.preprocessing.input_scaling
    return replace(problem, preprocessing=Preprocessing(scaling, compressor))


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


def _restore(lineage: Lineage, node: Node, folder: Path) -> None:
    """Copy the compressor of an unfinished run, if it got so far; it is checked when read."""
    try:
        if not lineage.has(node, f"{COMPRESSOR_FOLDER}/{REPORT}"):
            return
        for name in (NETWORK, COMPONENTS, COMPRESSOR, REPORT):
            if lineage.has(node, f"{COMPRESSOR_FOLDER}/{name}"):
                lineage.fetch(node, f"{COMPRESSOR_FOLDER}/{name}", folder / name)
    except MlpopError as error:
        logger.warning("compressor: made again, its files cannot be used: %s", error)
