"""Datasets of simulations: one launch at a time in a folder."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from mlpop.compute import Purpose, make_backend
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.experiment.simulations.simulated_set import (
    SuppliedSet,
    given_set,
    set_key,
    simulate_set,
)
from mlpop.experiment.simulations.simulator import simulator_plan

LABELS = ("theta_1", "theta_2")
THETA = np.linspace(-0.9, 0.9, 12).reshape(6, 2)
GAUSSIAN = SimulatorConfig(type="gaussian_linear", args={"dimension": 2})
PLAN = simulator_plan(GAUSSIAN, LABELS, GeneratorConfig(), None)


def simulate(folder: Path) -> SuppliedSet:
    with make_backend() as backend:
        return simulate_set(
            PLAN,
            THETA,
            folder,
            backend,
            root_seed=1,
            purpose=Purpose.SIMULATION_TRAINING,
            round_=0,
            compute=ComputeConfig(simulations_per_task=4),
            min_success_fraction=1.0,
            title="simulations",
        )


def test_a_launch_waits_for_another_in_the_same_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # what a shard looks like while the other launch writes it
    unfinished = tmp_path / "shards" / ".shard-00000.abc"
    unfinished.mkdir(parents=True)
    there: list[bool] = []

    locked = threading.Event()

    def other() -> None:
        with FileLock(tmp_path / ".lock"):
            locked.set()
            time.sleep(0.4)
            there.append(unfinished.is_dir())

    threading.Thread(target=other).start()
    assert locked.wait(10)
    started = time.monotonic()
    with caplog.at_level("INFO", "mlpop"):
        made = simulate(tmp_path)
    assert time.monotonic() - started > 0.35
    assert there == [True]
    assert "another launch is filling this folder" in caplog.text
    assert made.counts == {"ok": 6}


def test_a_given_set_is_the_simulated_one(tmp_path: Path) -> None:
    made = simulate(tmp_path)
    given = given_set(made.csv)
    assert (given.digest, given.num_simulations) == (made.digest, 6)
    assert (made.simulated, given.simulated) == (True, False)
    assert made.failed_fraction == given.failed_fraction == 0


def test_key_holds_all_that_decides_the_simulations() -> None:
    def key(theta=THETA, seed=1, purpose=Purpose.SIMULATION_TRAINING, round_=0, plan=PLAN):
        return set_key(plan, theta, seed, purpose, round_)

    noisy = SimulatorConfig(type="gaussian_linear", args={"dimension": 2, "noise": 0.1})
    other = simulator_plan(noisy, LABELS, GeneratorConfig(), None)
    keys = [
        key(),
        key(theta=THETA + 1e-12),
        key(seed=2),
        key(purpose=Purpose.SIMULATION_TEST),
        key(round_=1),
        key(plan=other),
    ]
    assert len(set(keys)) == len(keys)
    assert key(theta=THETA.copy()) == keys[0]
