"""Failed simulations are rows with a reason (S23); a disk that refuses is a clear error (S24)."""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.random import SeedSequence
from numpy.typing import NDArray

from mlpop.compute import Purpose, make_backend
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.datasets.loading import load_dataset
from mlpop.datasets.shards import ShardRecord
from mlpop.errors import DataError, SimulationFailed
from mlpop.experiment.simulations.simulated_set import SuppliedSet, simulate_set
from mlpop.experiment.simulations.simulator import simulator_plan
from mlpop.simulators.base import Simulation

LABELS = ("theta_1", "theta_2")
THETA = np.random.default_rng(5).uniform(-1, 1, (60, 2))
# a tenth of the prior
FAILS = THETA[:, 0] > np.quantile(THETA[:, 0], 0.9)


class Fragile:
    """Fails for a tenth of theta, in three ways."""

    labels = LABELS
    channels = ("x_1", "x_2")

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, theta: NDArray[np.float64], seed: SeedSequence) -> Simulation:
        x = theta + 0.1 * np.random.default_rng(seed).standard_normal(2)
        if theta[0] > self.limit:
            kind = int(1000 * abs(theta[1])) % 3
            if kind == 0:
                raise SimulationFailed("no pulsar was detected")
            if kind == 1:
                raise ZeroDivisionError("division by zero")
            x[1] = np.nan
        return Simulation(x=x.astype(np.float32), info={"detected": 3})


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Simulate THETA with the fragile simulator."""
    module = tmp_path / "module"
    module.mkdir()
    source = Path(__file__).read_text()
    (module / "fragile_simulator.py").write_text(source)
    monkeypatch.syspath_prepend(str(module))
    monkeypatch.setenv("PYTHONPATH", str(module))
    limit = float(np.quantile(THETA[:, 0], 0.9))
    config = SimulatorConfig(type="fragile_simulator:Fragile", args={"limit": limit})
    plan = simulator_plan(config, LABELS, GeneratorConfig(), None)

    def run(folder: Path, fraction: float, on_shard=None) -> SuppliedSet:
        with make_backend() as backend:
            return simulate_set(
                plan,
                THETA,
                folder,
                backend,
                root_seed=1,
                purpose=Purpose.SIMULATION_TRAINING,
                round_=0,
                compute=ComputeConfig(simulations_per_task=8),
                min_success_fraction=fraction,
                title="simulations",
                on_shard=on_shard,
            )

    return run


def test_a_tenth_of_failures_is_rows_with_reasons(simulate, tmp_path: Path) -> None:
    assert FAILS.sum() == 6
    made = simulate(tmp_path / "set", 0.85)
    assert made.failed_fraction == pytest.approx(0.1)
    data = load_dataset(made.csv, filter_labels=LABELS)
    np.testing.assert_array_equal(data.theta, THETA[~FAILS])
    with (tmp_path / "set" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(60))
    assert [row["status"] != "ok" for row in rows] == FAILS.tolist()
    reasons = Counter(row["message"] for row in rows if row["status"] != "ok")
    assert set(reasons) == {
        "no pulsar was detected",
        "ZeroDivisionError: division by zero",
        "values that are not finite in x_2",
    }
    assert sum(reasons.values()) == 6
    assert all(row["theta:theta_1"] and row["seed"] for row in rows)


def test_more_failures_than_allowed_end_early_with_the_reason(simulate, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"min_success_fraction|a fraction of 0\.95 must succeed"):
        simulate(tmp_path / "set", 0.95)
    assert not (tmp_path / "set" / "dataset_full.csv").exists()
    made = simulate(tmp_path / "set", 0.9)
    assert made.counts["ok"] == 54


def test_every_finished_shard_is_told_once(simulate, tmp_path: Path) -> None:
    seen: list[ShardRecord] = []

    def stop(record: ShardRecord) -> None:
        seen.append(record)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "set", 0.85, stop)
    again: list[ShardRecord] = []
    simulate(tmp_path / "set", 0.85, again.append)
    assert [record.number for record in again] == list(range(8))
    assert again[:3] == seen


def test_folder_that_cannot_be_written_is_told(
    simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(DataError, match="cannot be written"):
        simulate(blocked / "set", 0.85)
    # the superuser may write everywhere: the disk itself says no
    simulate(tmp_path / "set", 0.85, None)
    for path in (tmp_path / "set").glob("*.csv"):
        path.unlink()
    original = Path.open

    def refuse(self: Path, mode: str = "r", *arguments, **options):
        if self.parent == tmp_path / "set" and "w" in mode:
            raise OSError(30, os.strerror(30), str(self))
        return original(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        DataError, match=r"manifest\.csv: cannot be written: Read-only file system"
    ):
        simulate(tmp_path / "set", 0.85)
    assert not list((tmp_path / "set").glob("*.csv"))


def test_disk_that_is_full_during_the_simulations_loses_nothing_that_is_finished(
    simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlpop.datasets import shards
    from mlpop.errors import ComputeError

    expected = simulate(tmp_path / "other", 0.85).digest
    save, calls = shards.np.save, []

    def full(file, values, **options):
        calls.append(1)
        if len(calls) > 5:
            file.write(b"half of it")
            raise OSError(28, os.strerror(28))
        save(file, values, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shards.np, "save", full)
        with pytest.raises(ComputeError, match=r"shard-00002: cannot be written: No space left"):
            simulate(tmp_path / "set", 0.85)
    whole = sorted(path.name for path in (tmp_path / "set" / "shards").iterdir())
    assert whole == ["shard-00000", "shard-00001"]
    assert simulate(tmp_path / "set", 0.85).digest == expected
