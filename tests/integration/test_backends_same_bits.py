"""The same experiment is the same bits, whoever computes it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpop.commands.sbi import run_experiment
from mlpop.compute import Purpose, make_backend, seed_sequence
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.rounds.datasets import prior_theta
from mlpop.experiment.simulations.simulated_set import simulate_set
from mlpop.experiment.simulations.simulator import experiment_plan
from mlpop.io.files import sha256_of

BACKENDS: dict[str, dict[str, Any]] = {
    "serial": {"n_processes": 1},
    "processes-2": {"n_processes": 2},
    "dask-1": {"enable_dask": True, "workers_dask": 1},
    "dask-3": {"enable_dask": True, "workers_dask": 3},
}
ROOT_SEED = 42


def simulated(config: SbiConfig, folder: Path, backend: dict[str, Any], per_task: int) -> str:
    """Simulate the training set of round 0 as the experiment does; return its digest."""
    plan, _ = experiment_plan(config)
    compute = ComputeConfig(simulations_per_task=per_task)
    count = config.training_data_loader.num_sim
    with make_backend(**backend, compute=compute) as workers:
        made = simulate_set(
            plan,
            prior_theta(config, count, seed_sequence(ROOT_SEED, Purpose.PRIOR, 0)),
            folder,
            workers,
            root_seed=ROOT_SEED,
            purpose=Purpose.SIMULATION_TRAINING,
            round_=0,
            compute=compute,
            min_success_fraction=1.0,
            title="simulations",
        )
    assert made.num_simulations == count
    assert len(list((folder / "shards").glob("shard-*"))) == -(-count // per_task)
    return made.digest


def test_training_sets_are_the_same_bits_on_every_backend(
    smoke: Callable[..., dict[str, Any]], at_work: Path, tmp_path: Path
) -> None:
    # Dask's own handler would write to a stream that pytest has closed by then.
    logging.getLogger("distributed").handlers.clear()
    config = SbiConfig.parse(smoke(tmp_path, training_data_loader__num_sim=6))
    digests = {
        name: simulated(config, tmp_path / name, backend, per_task=1 if "3" in name else 2)
        for name, backend in BACKENDS.items()
    }
    assert len(set(digests.values())) == 1, digests


@pytest.fixture(scope="module")
def trained(
    workplace: Callable[..., Any],
    smoke: Callable[..., dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Folder of the trained networks, by backend."""
    # Dask's own handler would write to a stream that pytest has closed by then.
    logging.getLogger("distributed").handlers.clear()
    folders = {}
    for name in BACKENDS:
        save_dir = tmp_path_factory.mktemp(name)
        values = smoke(save_dir, test_data_loader__testing=False)
        with workplace():
            run_experiment(SbiConfig.parse(values | BACKENDS[name]))
        (folders[name],) = save_dir.glob("models/*/*/round_0")
    return folders


@pytest.mark.parametrize("member", [0, 1])
def test_trained_weights_are_the_same_bits(trained: dict[str, Path], member: int) -> None:
    weights = f"member_{member:02d}/estimator.safetensors"
    digests = {name: sha256_of(folder / weights) for name, folder in trained.items()}
    assert set(digests) == set(BACKENDS)
    assert len(set(digests.values())) == 1, digests


def test_posterior_draws_are_the_same_bits_and_members_differ(trained: dict[str, Path]) -> None:
    draws = {sha256_of(folder / "samples_posterior.pt") for folder in trained.values()}
    assert len(draws) == 1
    serial = trained["serial"]
    weights = {sha256_of(path) for path in serial.glob("member_*/estimator.safetensors")}
    assert len(weights) == 2
