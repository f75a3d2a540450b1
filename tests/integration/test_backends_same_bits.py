"""The same experiment is the same bits, whoever computes it, and however it is cut into tasks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpop.datasets.dataset import dataset_digest
from mlpop.io.files import sha256_of

BACKENDS: dict[str, dict[str, Any]] = {
    "serial": {"n_processes": 1},
    "processes-2": {"n_processes": 2},
    "dask-3": {"enable_dask": True, "workers_dask": 3},
}
PER_TASK = {"serial": 2, "processes-2": 3, "dask-3": 1}
SIMULATIONS = 8
LONGEST = 600  # [s]


@pytest.fixture(scope="module")
def launched(
    workplace: Callable[..., Any],
    smoke: Callable[..., dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Folder of what each backend has made."""
    folders = {}
    for name in BACKENDS:
        folders[name] = tmp_path_factory.mktemp(name)
        values = smoke(
            folders[name],
            test_data_loader__testing=False,
            test_data_loader__num_predictive=0,
            training_data_loader__num_sim=SIMULATIONS,
            compute__simulations_per_task=PER_TASK[name],
        )
        with workplace():
            launch(values | BACKENDS[name], folders[name])
    return folders


def launch(values: dict[str, Any], folder: Path) -> None:
    """Run an experiment in a process of its own; one that hangs says where."""
    file, log = folder / "sbi.json", folder / "output.txt"
    file.write_text(json.dumps(values))
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "mlpop", "sbi", "-c", str(file)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = process.wait(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # every thread's stack
        process.wait()
        os.killpg(process.pid, signal.SIGKILL)
        code = None
    assert code == 0, log.read_text()


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture
def rounds(launched: dict[str, Path]) -> dict[str, Path]:
    """Folder of the round, by backend."""
    return {name: only(folder, "models/*/*/round_0") for name, folder in launched.items()}


def test_training_sets_are_the_same_bits(launched: dict[str, Path]) -> None:
    digests = {}
    for name, folder in launched.items():
        simulated = only(folder, "data/training_dataset/generated_dataset/round_0")
        digests[name] = dataset_digest(simulated)
        shards = list((simulated / "shards").glob("shard-*"))
        assert len(shards) == -(-SIMULATIONS // PER_TASK[name])
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("member", [0, 1])
def test_trained_weights_are_the_same_bits(rounds: dict[str, Path], member: int) -> None:
    weights = f"member_{member:02d}/estimator.safetensors"
    digests = {name: sha256_of(folder / weights) for name, folder in rounds.items()}
    assert set(digests) == set(BACKENDS)
    assert len(set(digests.values())) == 1, digests


def test_posterior_draws_are_the_same_bits_and_members_differ(rounds: dict[str, Path]) -> None:
    draws = {sha256_of(folder / "samples_posterior.pt") for folder in rounds.values()}
    assert len(draws) == 1
    serial = rounds["serial"]
    weights = {sha256_of(path) for path in serial.glob("member_*/estimator.safetensors")}
    assert len(weights) == 2
