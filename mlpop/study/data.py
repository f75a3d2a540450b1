"""What the trials of a study train on: given datasets, rounds of a run, or simulations."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlpop.compute import Backend
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import StudyDataConfig
from mlpop.errors import DataError, TrackingError
from mlpop.experiment.inputs.problem import (
    LearningProblem,
    TrainingArrays,
    learning_problem,
    load_training_set,
    write_training_arrays,
)
from mlpop.experiment.output_tree import OutputTree, dataset_csv
from mlpop.experiment.profile import Profiler
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.context import Launch, OpenRound
from mlpop.experiment.rounds.datasets import TRAINING, joined, supply
from mlpop.experiment.simulations.simulated_set import SuppliedSet, given_set
from mlpop.experiment.simulations.simulator import experiment_plan
from mlpop.tracking import Store, TrackedRun, recorded_datasets, tree

STATISTICS = "statistics_full.json"


@dataclass(frozen=True)
class StudyData:
    """The data of a study.

    Attributes:
        problem: labels, channels, prior and scaling.
        arrays: the training set on disk.
        digest: of the datasets.
        source: for people.
    """

    problem: LearningProblem
    arrays: TrainingArrays
    digest: str
    source: str


def given_files(config: StudyDataConfig, store: Store) -> list[Path]:
    """Return the index files of the datasets that a study names, none if it names none.

    Raises:
        DataError: a dataset is missing.
        TrackingError: the run is not an experiment, or a round lacks its dataset.
    """
    if config.folder is not None:
        return [dataset_csv(config.folder)]
    if config.run is None:
        return []
    return _files_of_run(store, config.run, config.rounds)


def on_files(base: SbiConfig, files: Sequence[Path]) -> SbiConfig:
    """Return the base experiment with given datasets in the place of its own training set.

    Raises:
        ConfigError: they contradict each other.
    """
    if not files:
        return base
    values = base.resolved()
    loader = values["training_data_loader"]
    loader |= {"simulate": False, "dataset_path_round_0": str(files[0].parent)}
    if loader["statistic_path"] is None and base.training_data_loader.scaling != "none":
        loader["statistic_path"] = str(files[0].parent / STATISTICS)
    return SbiConfig.parse(values, "base experiment on the study's dataset")


def without_test_set(base: SbiConfig) -> SbiConfig:
    """Return the experiment without its test set, which a study never looks at."""
    values = base.resolved()
    values["test_data_loader"] = {"testing": False}
    return SbiConfig.parse(values, "base experiment")


def study_data(
    config: SbiConfig,
    files: Sequence[Path],
    *,
    data_seed: int,
    backend: Backend,
    folders: OutputTree,
    run: TrackedRun,
) -> StudyData:
    """Load, or simulate, the training set and write it where workers can map it.

    Args:
        config: the base experiment, with `on_files` and `without_test_set`.
        files: index files of given datasets.
        data_seed: root seed of what is simulated.
        backend: who simulates.
        folders: of the study.
        run: of the study.

    Raises:
        DataError: a dataset is broken, or too few simulations succeed.
        ConfigError: the data are not what the experiment says.
    """
    supplied = [given_set(path) for path in files]
    if not supplied:
        supplied = [_base_set(config, data_seed, backend, folders, run)]
    data = joined([load_training_set(config, s.csv) for s in supplied])
    problem = learning_problem(config, data, supplied[0].statistics)
    arrays = write_training_arrays(folders.models / "training_arrays", problem, data)
    for number, one in enumerate(supplied):
        name = "training" if len(supplied) == 1 else f"training_{number}"
        profile = {"num_rows": one.num_simulations}
        run.log_dataset(name, one.digest, str(one.csv), "training", profile)
    digest = hashlib.sha256(" ".join(s.digest for s in supplied).encode()).hexdigest()
    return StudyData(problem, arrays, digest, ", ".join(str(s.csv) for s in supplied))


def _base_set(
    config: SbiConfig, data_seed: int, backend: Backend, folders: OutputTree, run: TrackedRun
) -> SuppliedSet:
    simulates = config.training_data_loader.simulate
    plan, stars = experiment_plan(config) if simulates else (None, None)
    profiler = Profiler(folders.logs, show=False)
    lineage = Lineage(run.store)
    launch = Launch(config, data_seed, backend, plan, stars, folders, profiler, run, lineage)
    return supply(OpenRound(launch, 0, run), (TRAINING,))[0][TRAINING.use]


def _files_of_run(store: Store, run_id: str, rounds: Sequence[int] | None) -> list[Path]:
    node = tree(store, run_id)
    if node.kind != "experiment":
        raise TrackingError(
            f"dataset.run {run_id}: is a run of kind '{node.kind or 'unknown'}', not 'experiment'"
        )
    complete = {
        child.round: child
        for child in node.children
        if child.kind == "round" and child.state == "complete" and child.round is not None
    }
    wanted = sorted(complete) if rounds is None else list(rounds)
    missing = [round_ for round_ in wanted if round_ not in complete]
    if missing or not wanted:
        there = ", ".join(map(str, sorted(complete))) or "none"
        raise TrackingError(
            f"dataset.run {run_id}: no complete round {', '.join(map(str, missing))}".rstrip()
            + f"; complete rounds: {there}"
        )
    return [_training_set(store, complete[round_].run_id) for round_ in wanted]


def _training_set(store: Store, run_id: str) -> Path:
    """Return the training set that a round recorded, if it still has that content."""
    recorded = recorded_datasets(store.client, run_id, "training")
    if not recorded:
        raise TrackingError(f"run {run_id}: has no training set recorded")
    csv, digest = Path(recorded[0].uri), recorded[0].digest
    found = given_set(csv).digest
    if found != digest:
        raise DataError(
            f"{csv}: has changed since run {run_id}: digest {found[:12]}…, then {digest[:12]}…"
        )
    return csv
