"""The datasets of a round: given by the user, or simulated from the prior."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Progress, Purpose, seed_sequence
from mlpop.config.data import TestDataConfig, TrainingDataConfig
from mlpop.config.sbi import SbiConfig
from mlpop.experiment.data import LearningProblem
from mlpop.experiment.folders import dataset_csv, dataset_round
from mlpop.experiment.launch import Launch
from mlpop.experiment.supply import SuppliedSet, given_set, set_key, simulate_set
from mlpop.maps.files import write_array
from mlpop.maps.layout import FULL_CSV, FULL_STATISTICS, GENERATOR_JSON, MANIFEST_CSV
from mlpop.maps.loading import Dataset, load_dataset
from mlpop.tracking import TrackedRun


def load_test_set(csv: Path, problem: LearningProblem) -> Dataset:
    """Load the maps and labels of the training set from a test set.

    Raises:
        DataError: the file lacks a label or a channel, or is broken.
    """
    return load_dataset(csv, filter_inputs=problem.channels, filter_labels=problem.prior.labels)


def prior_theta(
    config: SbiConfig, count: int, seed: np.random.SeedSequence
) -> NDArray[np.float64]:
    """Draw theta (count, D) from the prior, physical units."""
    low, high = np.array(config.prior_ranges.low), np.array(config.prior_ranges.high)
    unit = np.random.default_rng(seed).random((count, len(low)))
    return low + unit * (high - low)


def supply(launch: Launch, round_: int, run: TrackedRun) -> tuple[SuppliedSet, SuppliedSet | None]:
    """Return the training set of a round and, with testing, its test set.

    Raises:
        DataError: a given set is broken, or too few simulations succeed.
        ComputeError: the simulations cannot be run.
    """
    config = launch.config
    training = _one_set(
        launch,
        run,
        round_,
        "training",
        config.training_data_loader,
        theta_purpose=Purpose.PRIOR,
        purpose=Purpose.SIMULATION_TRAINING,
    )
    if not config.test_data_loader.testing:
        return training, None
    test = _one_set(
        launch,
        run,
        round_,
        "test",
        config.test_data_loader,
        theta_purpose=Purpose.TEST_THETA,
        purpose=Purpose.SIMULATION_TEST,
    )
    return training, test


def _one_set(
    launch: Launch,
    run: TrackedRun,
    round_: int,
    kind: str,
    loader: TrainingDataConfig | TestDataConfig,
    *,
    theta_purpose: Purpose,
    purpose: Purpose,
) -> SuppliedSet:
    config = launch.config
    if not loader.simulate:
        assert loader.dataset_path_round_0 is not None
        return given_set(dataset_csv(loader.dataset_path_round_0))
    assert launch.plan is not None
    seed = seed_sequence(launch.root_seed, theta_purpose, round_)
    theta = prior_theta(config, loader.num_sim, seed)
    key = set_key(launch.plan, theta, launch.root_seed, purpose, round_)
    root = loader.dataset_path or config.trainer.save_dir / "data" / f"{kind}_dataset"
    folder = dataset_round(root, round_)
    # launches that want other simulations get a folder of their own
    folder = folder.with_name(f"{folder.name}_{key[:12]}")
    theta_file = folder / "theta.npy"
    write_array(theta_file, theta)
    run.send(theta_file, f"{kind}/theta.npy")

    def tell(progress: Progress, seconds: float) -> None:
        if progress.shard is not None:
            run.curves.append(f"sim/{kind}_done", progress.done, step=round(seconds))

    with launch.profiler.section(f"SimulatingRound{round_}{kind.capitalize()}"):
        return simulate_set(
            launch.plan,
            theta,
            folder,
            launch.backend,
            root_seed=launch.root_seed,
            purpose=purpose,
            round_=round_,
            compute=config.compute,
            min_success_fraction=config.trainer.min_success_fraction,
            title=f"round {round_}: {kind} simulations",
            on_progress=tell,
        )


def dataset_files(kind: str, supplied: SuppliedSet) -> dict[str, Path]:
    """Return artifact name -> file of what describes a set; the maps stay where they are."""
    names = (FULL_CSV, MANIFEST_CSV, FULL_STATISTICS, GENERATOR_JSON)
    folder = supplied.csv.parent
    return {f"{kind}/{name}": folder / name for name in names if (folder / name).is_file()}
