"""Beside sweeps: one theta with its catalogue, and the split of a dataset that exists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.commands.simulate import simulate_sets, split_existing
from mlpop.config.files.simulate import SimulateConfig
from mlpop.datasets.detections import detected
from mlpop.datasets.loading import load_dataset
from mlpop.errors import ConfigError
from mlpop.population.catalogue.observed_catalogue import read_catalogue

LIST: dict[str, Any] = {
    "simulator": {"args": {"population": {"birth_rate_max": 0.02}}},
    "sampling_type": "list",
    "parameters": {"B_initial_log10_mean": [13.1, 12.5], "P_initial_log10_mean": [-0.7, -0.9]},
    "seed": 3,
    "compute": {"n_processes": 1},
    "catalogues": True,
}


def test_a_list_of_theta_with_their_catalogues(at_work: Path, stars: Any, tmp_path: Path) -> None:
    values = LIST | {"save_dir": str(tmp_path), "dyn_data_loader": {"database": stars}}
    made = simulate_sets(SimulateConfig.parse(values))
    theta = load_dataset(made.csv, filter_inputs=[9]).theta
    np.testing.assert_array_equal(theta, [[13.1, -0.7], [12.5, -0.9]])
    for number, one in enumerate(detected(tmp_path)):
        table = read_catalogue(tmp_path / "simulations" / f"{number:06d}" / "catalogue.csv")
        periods = np.unique(np.concatenate([c["P"] for c in one.catalogues.values()]))
        np.testing.assert_allclose(np.unique(table["P0"].astype(float)), periods, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute": {"keep_detections": False}}, "catalogues: must be false when compute"),
        (
            {"simulator": {"type": "two_moons"}, "parameters": {"theta_1": [0.1]}},
            "catalogues: must be false: this simulator",
        ),
        ({"sampling_size": 2}, "sampling_size: must be null for a list"),
    ],
)
def test_catalogues_that_cannot_be_written_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SimulateConfig.parse(LIST | {"save_dir": "x"} | changes)


def test_a_dataset_that_exists_is_split(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((2, 2)))
    lines = [f"m.npy,{k}.0" for k in range(10)]
    (tmp_path / "dataset_full.csv").write_text("\n".join(["input:m,a", *lines]) + "\n")
    values = {**LIST, "catalogues": False, "save_dir": "x", "split": {"test": 0.3}}
    split_existing(tmp_path, SimulateConfig.parse(values))
    parts = [load_dataset(tmp_path / f"dataset_{n}.csv").theta[:, 0] for n in ("train", "test")]
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(np.concatenate(parts)) == list(range(10))
    full = json.loads((tmp_path / "statistics_full.json").read_text())["a"]
    train = json.loads((tmp_path / "statistics_train.json").read_text())["a"]
    assert full["mean"] == 4.5
    assert train["mean"] == pytest.approx(parts[0].mean())
    first = (tmp_path / "dataset_test.csv").read_text()
    split_existing(tmp_path, SimulateConfig.parse(values))
    assert (tmp_path / "dataset_test.csv").read_text() == first
    for missing in ("split", "seed"):
        with pytest.raises(ConfigError, match=f"{missing}: must"):
            split_existing(tmp_path, SimulateConfig.parse(values | {missing: None}))
