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
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.loading import load_dataset
from mlpop.errors import ConfigError, DataError
from mlpop.io.files import read_csv
from mlpop.maps.detected import detected_catalogues
from mlpop.simulators.pulsar import PulsarSimulator

FINE = {"resolution_ppdot": 64, "resolution_dyn": 64}
SKY = {"sky_maps": {"b_dm": {"first": {"column": "b_abs"}, "second": {"column": "DM"}}}}


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


def test_sky_maps_of_kept_pulsars_are_those_of_fresh_simulations(
    coarse: Path, stars: Any, at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = simulate_sets(config(tmp_path / "fresh", SKY, stars))
    with monkeypatch.context() as patch:
        patch.setattr(PulsarSimulator, "_simulation", None)
        again = remap(coarse, config(tmp_path / "again", SKY, stars))
    assert again.digest == fresh.digest
    channels = DatasetIndex.read(again.csv).channels
    assert channels[15:] == tuple(f"survey_{s}_b_dm" for s in ("PMPS", "SMPS", "HTRU"))
    chosen = load_dataset(again.csv, filter_inputs=["survey_HTRU_b_dm", "survey_HTRU_ppdot_map"])
    assert chosen.x.shape == (5, 2, 32, 32)
    assert chosen.x[:, 0].sum() > 0
    # what only maps of the sky add leaves the others alone
    np.testing.assert_array_equal(
        load_dataset(coarse / "dataset_full.csv", filter_inputs=[9, 10, 11]).x,
        load_dataset(again.csv, filter_inputs=[9, 10, 11]).x,
    )


def test_counts_of_kept_simulations_are_those_at_their_stop(
    coarse: Path, stars: Any, at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = simulate_sets(config(tmp_path / "fresh", {"counts": True}, stars))
    with monkeypatch.context() as patch:
        patch.setattr(PulsarSimulator, "_simulation", None)
        again = remap(coarse, config(tmp_path / "again", {"counts": True}, stars))
    assert again.digest == fresh.digest
    names = [f"survey_{survey}_count" for survey in ("PMPS", "SMPS", "HTRU")]
    counts = load_dataset(again.csv, filter_inputs=names)
    assert counts.x.shape == (5, 3)
    header, rows = read_csv(coarse / "manifest.csv")
    places = [header.index(f"n_detected:{name}") for name in ("PMPS", "SMPS", "HTRU_low_mid")]
    np.testing.assert_array_equal(counts.x, [[float(row[k]) for k in places] for row in rows])
    assert counts.x.sum() > 0
    # every pulsar of the catalogue counts: nothing is thinned here
    position = load_dataset(again.csv, filter_inputs=[0, 1, 2]).x
    np.testing.assert_allclose(position.sum((2, 3)), counts.x, rtol=1e-6)


def test_sets_of_older_versions_have_no_places_to_map(
    coarse: Path, stars: Any, at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(arrays: dict[str, np.ndarray]) -> Any:
        return detected_catalogues({k: v for k, v in arrays.items() if not k.endswith("_place")})

    monkeypatch.setattr("mlpop.datasets.detections.detected_catalogues", older)
    with pytest.raises(ConfigError, match="sky_maps: must be left out, since the set was simul"):
        remap(coarse, config(tmp_path / "old", SKY, stars))


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
