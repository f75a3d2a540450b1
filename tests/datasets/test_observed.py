"""The observed sample: its index file, its maps, and whether they fit the training set."""

import json
from collections.abc import Callable
from logging import WARNING
from pathlib import Path

import numpy as np
import pytest

from mlpop.config.blocks.generator import SURVEY_CHANNELS, GeneratorConfig
from mlpop.datasets.dataset import assemble, dataset_digest
from mlpop.datasets.details import load_observed_details
from mlpop.datasets.loading import load_dataset, load_observed
from mlpop.datasets.observed import (
    check_made_alike,
    check_same_maps,
    write_observed,
    write_synthetic_observed,
)
from mlpop.datasets.shards import SimulationRow, finished_shards, write_shard
from mlpop.errors import DataError
from mlpop.io.files import read_csv
from mlpop.maps.density import population_maps

Make = Callable[..., dict[str, np.ndarray]]
SURVEYS = ("PMPS", "SMPS", "HTRU")


@pytest.fixture
def catalogues() -> dict[str, dict[str, np.ndarray]]:
    sky = {"ra": np.array([10.0, 200.0]), "dec": np.array([-20.0, 40.0])}
    plane = {"P": np.array([0.5, 1.5]), "P_dot": np.array([1e-14, 2e-15])}
    return {survey: sky | plane for survey in SURVEYS}


@pytest.fixture
def fluxes() -> dict[str, dict[str, np.ndarray]]:
    columns = {"P": [0.5], "P_dot": [1e-14], "S_radio_obs_mean_1400": [1e-3]}
    return {survey: {k: np.array(v) for k, v in columns.items()} for survey in SURVEYS}


def training(folder: Path, generator: GeneratorConfig, make_catalogue: Make) -> Path:
    stars = {survey: make_catalogue(3) for survey in SURVEYS}
    maps = population_maps(stars, generator, np.random.default_rng(0))
    write_shard(folder, 0, [SimulationRow(0, "0", maps=maps)])
    shards = finished_shards(folder).values()
    return assemble(
        folder, ["h_c"], np.ones((1, 1)), SURVEY_CHANNELS, shards, generator=generator
    ).csv


def test_every_documented_column_is_there_in_order(
    tmp_path: Path, catalogues: dict, fluxes: dict
) -> None:
    path = write_observed(tmp_path, catalogues, fluxes, GeneratorConfig())
    assert path.name == "dataset_atnf.csv"
    header, rows = read_csv(path)
    assert len(rows) == 1
    assert header[:15] == [f"input:{c}" for c in SURVEY_CHANNELS]
    assert len(header) == 24
    assert [bool(field) for field in rows[0]] == [True] * 3 + [False] * 6 + [True] * 6 + [
        False
    ] * 9
    assert rows[0][0] == "survey_PMPS_position_map_radec_0.npy"
    assert header[15:] == [
        *("B_initial_log10_mean", "B_initial_log10_sigma"),
        *("P_initial_log10_mean", "P_initial_log10_sigma"),
        *("a_late", "L_radio_log10_mean", "epsilon_L", "h_c", "sigma_k"),
    ]


def test_maps_hold_the_pulsars(tmp_path: Path, catalogues: dict, fluxes: dict) -> None:
    generator = GeneratorConfig(smoothing_sigma=0.0)
    path = write_observed(tmp_path, catalogues, fluxes, generator)
    seen = load_observed(path, filter_inputs=[9, 10, 11, 12, 13, 14])
    assert seen.x.shape == (1, 6, 32, 32)
    np.testing.assert_array_equal(seen.x[0, :3].sum(axis=(1, 2)), 2)
    assert seen.x[0, 0, 17, 18] == 1
    np.testing.assert_allclose(seen.x[0, 3:, 17, 18], -3)
    assert load_observed(path, filter_inputs=[0, 1, 2]).x.shape == (1, 3, 32, 16)
    assert len(dataset_digest(tmp_path, index_file="dataset_atnf.csv")) == 64


def test_pulsars_are_kept_one_by_one(tmp_path: Path, catalogues: dict, fluxes: dict) -> None:
    catalogues["SMPS"] = catalogues["SMPS"] | {"DM": np.full(len(catalogues["SMPS"]["P"]), 50.0)}
    write_observed(tmp_path, catalogues, fluxes, GeneratorConfig())
    details = load_observed_details(tmp_path)
    assert list(details) == ["pulsars_HTRU", "pulsars_PMPS", "pulsars_SMPS"]
    number = len(catalogues["SMPS"]["P"])
    table = details["pulsars_SMPS"]
    np.testing.assert_allclose(table[:number, 0], catalogues["SMPS"]["P"], rtol=1e-6)
    np.testing.assert_allclose(table[:number, 1], catalogues["SMPS"]["P_dot"], rtol=1e-6)
    assert (table[:number, 4] == 50).all()
    assert not details["pulsars_PMPS"][:, 4].any()
    assert not table[number:].any()


def test_flux_map_of_another_size_than_simulated_ones_is_warned_of(
    tmp_path: Path, catalogues: dict, fluxes: dict, caplog: pytest.LogCaptureFixture
) -> None:
    generator = GeneratorConfig(flux_subsample={"PMPS": 1, "SMPS": 2, "HTRU": None})
    with caplog.at_level(WARNING):
        write_observed(tmp_path, catalogues, fluxes, generator)
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [
        "the observed flux map of SMPS holds 1 pulsars, simulated ones hold at most 2"
    ]


def test_flux_cells_are_empty_without_fluxes(tmp_path: Path, catalogues: dict) -> None:
    _, rows = read_csv(write_observed(tmp_path, catalogues, None, GeneratorConfig()))
    assert rows[0][9:12] == [f"survey_{s}_ppdot_map_0.npy" for s in SURVEYS]
    assert rows[0][12:15] == ["", "", ""]


def test_missing_survey_is_named(tmp_path: Path, catalogues: dict, fluxes: dict) -> None:
    del fluxes["HTRU"]
    with pytest.raises(DataError, match="survey HTRU; found PMPS, SMPS"):
        write_observed(tmp_path, catalogues, fluxes, GeneratorConfig())


def test_pictures(tmp_path: Path, catalogues: dict, fluxes: dict) -> None:
    generator = GeneratorConfig(data_type="image")
    path = write_observed(tmp_path, catalogues, fluxes, generator)
    seen = load_observed(path, filter_inputs=["survey_PMPS_position_map_radec"])
    assert seen.x.shape == (1, 1, 16, 32)
    assert (seen.x.min(), seen.x.max()) == (0, 1)


def test_synthetic_sample_hides_its_truth(tmp_path: Path, make_catalogue: Make) -> None:
    generator = GeneratorConfig()
    stars = {survey: make_catalogue(5) for survey in SURVEYS}
    maps = population_maps(stars, generator, np.random.default_rng(0))
    truth = {"B_initial_log10_mean": 13.1, "P_initial_log10_mean": -0.7}
    path = write_synthetic_observed(tmp_path, maps, truth, generator, labels=[*truth])
    header, rows = read_csv(path)
    assert header[15:] == [*truth]
    assert rows[0][15:] == ["", ""]
    assert json.loads((tmp_path / "truth.json").read_text()) == truth
    seen = load_observed(path, filter_inputs=[9, 12])
    np.testing.assert_array_equal(seen.x[0, 0], maps["survey_PMPS_ppdot_map"])
    maps["survey_PMPS_ppdot_map"][0, 0] = np.nan
    with pytest.raises(DataError, match="map survey_PMPS_ppdot_map has values that are not"):
        write_synthetic_observed(tmp_path, maps, truth, generator, labels=[*truth])


def test_synthetic_vector(tmp_path: Path) -> None:
    x = {"x0": np.array(1.5), "x1": np.array(-2.0)}
    path = write_synthetic_observed(tmp_path, x, {"mu": 0.1}, None, labels=["mu"])
    np.testing.assert_array_equal(load_observed(path).x, [[1.5, -2.0]])


def test_maps_must_be_made_like_those_of_the_training_set(
    tmp_path: Path, catalogues: dict, fluxes: dict, make_catalogue: Make
) -> None:
    generator = GeneratorConfig(resolution_ppdot=16)
    trained = training(tmp_path / "train", generator, make_catalogue)
    assert len(load_dataset(trained, filter_inputs=[9])) == 1
    same = generator.model_copy(update={"dtype": "float32"})
    check_same_maps(write_observed(tmp_path / "a", catalogues, fluxes, same), trained)
    for field, value in [
        ("resolution_ppdot", 32),
        ("smoothing_sigma", 2.0),
        ("p_limits", (1e-2, 1e2)),
        ("data_type", "image"),
        ("flux_subsample", {"PMPS": 1}),
    ]:
        other = generator.model_copy(update={field: value})
        path = write_observed(tmp_path / field, catalogues, fluxes, other)
        with pytest.raises(DataError, match=rf"generator.{field} is .* the training set"):
            check_same_maps(path, trained)


def test_settings_of_maps_that_no_network_sees_may_differ(
    tmp_path: Path, catalogues: dict, fluxes: dict, make_catalogue: Make
) -> None:
    trained = training(tmp_path / "train", GeneratorConfig(), make_catalogue)
    other = GeneratorConfig(flux_subsample={"PMPS": 1}, empty_flux=-9.0)
    counts = ["survey_PMPS_ppdot_map", "survey_HTRU_ppdot_map"]
    seen = write_observed(tmp_path / "with", catalogues, fluxes, other)
    check_same_maps(seen, trained, counts)
    with pytest.raises(DataError, match=r"generator.empty_flux is -9.0, the training set"):
        check_same_maps(seen, trained, [*counts, "survey_PMPS_ppdot_map_fluxes"])
    # nor does a sample without flux maps need their settings
    without = write_observed(tmp_path / "without", catalogues, None, other)
    check_same_maps(without, trained, counts)
    smooth = GeneratorConfig(smoothing_sigma=2.0)
    with pytest.raises(DataError, match=r"generator.smoothing_sigma"):
        check_same_maps(write_observed(tmp_path / "s", catalogues, None, smooth), trained, counts)


def test_shapes_are_compared_where_nothing_else_is_known(
    tmp_path: Path, catalogues: dict, fluxes: dict, make_catalogue: Make
) -> None:
    trained = training(tmp_path / "train", GeneratorConfig(), make_catalogue)
    other = GeneratorConfig(resolution_ppdot=16)
    path = write_observed(tmp_path / "sky", catalogues, fluxes, other)
    (tmp_path / "sky" / "generator.json").unlink()
    with pytest.raises(DataError, match=r"ppdot_map has shape \(16, 16\), .* has \(32, 32\)"):
        check_same_maps(path, trained)


def test_counts_are_written_and_read(tmp_path: Path, catalogues: dict, fluxes: dict) -> None:
    counting = GeneratorConfig(counts=True)
    detected = {"PMPS": 988, "SMPS": 201, "HTRU": 1019}
    path = write_observed(tmp_path, catalogues, fluxes, counting, detected)
    names = [f"survey_{survey}_count" for survey in SURVEYS]
    header, _ = read_csv(path)
    assert header[:15] == [f"input:{c}" for c in SURVEY_CHANNELS]
    assert header[15:18] == [f"input:{name}" for name in names]
    np.testing.assert_array_equal(load_observed(path, filter_inputs=names).x, [[988, 201, 1019]])
    seen = load_observed(path, filter_inputs=["survey_SMPS_ppdot_map", *names], numbers=3)
    assert seen.x.shape == (1, 4, 32, 32)
    assert (seen.x[0, 1:] == np.array([988, 201, 1019])[:, None, None]).all()
    with pytest.raises(DataError, match="nobody says how many pulsars PMPS has detected"):
        write_observed(tmp_path / "none", catalogues, fluxes, counting)


def test_sky_maps_of_other_axes_are_refused_where_they_are_used(
    tmp_path: Path, make_catalogue: Make
) -> None:
    def made(high: float, folder: Path) -> tuple[GeneratorConfig, dict]:
        plane = {"first": {"column": "b_abs", "limits": [0, high]}, "second": {"column": "DM"}}
        stars = {survey: make_catalogue(3, b=1.0, DM=30.0) for survey in SURVEYS}
        return GeneratorConfig.parse({"sky_maps": {"b_dm": plane}}), stars

    wide, stars = made(30.0, tmp_path)
    narrow, _ = made(10.0, tmp_path)
    observed = write_observed(tmp_path / "observed", stars, None, wide)
    check_made_alike(observed, wide, "the training set")
    with pytest.raises(
        DataError, match=r"sky_maps\.b_dm is b_abs from 0 to 30 and DM .* has b_abs from 0 to 10"
    ):
        check_made_alike(observed, narrow, "the training set", ["survey_PMPS_b_dm"])
    check_made_alike(observed, narrow, "the training set", ["survey_PMPS_ppdot_map"])
