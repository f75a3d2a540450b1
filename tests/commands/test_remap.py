"""Maps again of finished simulations: the bits of fresh ones, without simulating."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.commands.remap import remap
from mlpop.commands.simulate import simulate_sets
from mlpop.config.files.simulate import SimulateConfig
from mlpop.datasets.dataset import dataset_digest
from mlpop.datasets.loading import load_dataset
from mlpop.errors import ConfigError, DataError
from mlpop.simulators.pulsar import PulsarSimulator

FINE = {"resolution_ppdot": 64, "resolution_dyn": 64}


def config(save_dir: Path, generator: dict[str, Any], stars: Any, **more: Any) -> SimulateConfig:
    return SimulateConfig.parse(
        {
            "simulator": {"args": {"population": {"birth_rate_max": 0.02}}},
            "dyn_data_loader": {"database": stars},
            "sampling_size": 5,
            "parameters": {
                "B_initial_log10_mean": [12.0, 14.0],
                "P_initial_log10_mean": [-1.5, -0.3],
            },
            "seed": 7,
            "save_dir": str(save_dir),
            "generator": generator,
            "compute": {"n_processes": 1, "simulations_per_task": 2} | more.pop("compute", {}),
            **more,
        }
    )


@pytest.fixture(scope="module")
def coarse(workplace: Any, stars: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five simulations at the default resolution."""
    folder = tmp_path_factory.mktemp("coarse") / "set"
    with workplace():
        simulate_sets(config(folder, {}, stars))
    return folder


@pytest.fixture
def simulates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("simulated")

    monkeypatch.setattr(PulsarSimulator, "_simulation", refuse)


def test_remapped_maps_are_those_of_fresh_simulations(
    coarse: Path, stars: Any, at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = simulate_sets(config(tmp_path / "fresh", FINE, stars))
    with monkeypatch.context() as patch:
        patch.setattr(PulsarSimulator, "_simulation", None)
        again = remap(coarse, config(tmp_path / "again", FINE, stars, split={"test": 0.4}))
    one, two = load_dataset(fresh.csv, filter_inputs=[9, 10, 11]), None
    two = load_dataset(again.csv, filter_inputs=[9, 10, 11])
    assert one.x.shape == (5, 3, 64, 64)
    assert one.x.any()
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.theta, two.theta)
    assert again.digest == fresh.digest  # all fifteen maps, theta, and what became of each
    assert {p.name for p in again.csv.parent.glob("*.csv")} >= {
        "dataset_full.csv",
        "dataset_test.csv",
        "dataset_train.csv",
        "manifest.csv",
    }


def test_the_same_maps_have_the_same_digest_and_may_be_made_twice(
    coarse: Path, stars: Any, at_work: Path, tmp_path: Path, simulates_nothing: None
) -> None:
    wanted = config(tmp_path / "same", {}, stars)
    assert remap(coarse, wanted).digest == dataset_digest(coarse)
    assert remap(coarse, wanted).digest == dataset_digest(coarse)
    with pytest.raises(DataError, match="holds another dataset; use another save_dir"):
        remap(coarse, config(tmp_path / "same", FINE, stars))


def test_other_surveys_and_limits(
    coarse: Path, stars: Any, at_work: Path, tmp_path: Path, simulates_nothing: None
) -> None:
    one = {"surveys": {"PMPS": "survey_PMPS_results"}, "p_limits": [0.01, 10.0]}
    made = remap(coarse, config(tmp_path / "one", one, stars))
    assert len(load_dataset(made.csv, filter_inputs=[3]).channels) == 1
    high = {"surveys": {"HTRU": "survey_HTRU_high_results"}}
    with pytest.raises(ConfigError, match=r"generator\.surveys: no catalogue of the survey HTRU"):
        remap(coarse, config(tmp_path / "high", high, stars))


def test_what_cannot_be_remapped_is_refused_before_a_run(
    coarse: Path, stars: Any, at_work: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="another folder than the remapped one"):
        remap(coarse, config(coarse, FINE, stars))
    with pytest.raises(DataError, match="is no finished dataset"):
        remap(tmp_path, config(tmp_path / "x", FINE, stars))
    bare = tmp_path / "bare"
    made = simulate_sets(config(bare, {}, stars, compute={"keep_detections": False}))
    # they are no part of what is simulated
    assert made.digest == dataset_digest(coarse)
    assert not list(bare.rglob("detected_*"))
    with pytest.raises(DataError, match="keeps no detected pulsars"):
        remap(bare, config(tmp_path / "y", FINE, stars))
    shutil.rmtree(bare)
