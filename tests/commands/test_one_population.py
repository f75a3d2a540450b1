"""One simulation from Python: catalogues, maps, and a catalogue file that can be observed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpop
from mlpop.commands.observe import observe_catalogue
from mlpop.compute import Purpose, seed_sequence
from mlpop.config.files.observe import ObserveConfig
from mlpop.datasets.loading import load_observed
from mlpop.errors import ConfigError, SimulationFailed
from mlpop.population.catalogue.observed_catalogue import read_catalogue
from mlpop.simulators.pulsar import PulsarSimulator

THETA = {"B_initial_log10_mean": 13.1, "P_initial_log10_mean": -0.7}
SMALL = {"birth_rate_max": 0.02}


@pytest.fixture
def sky(at_work: Path, stars: Any) -> mlpop.Population:
    return mlpop.simulate_population(THETA, population=SMALL, stars=stars, seed=5)


def test_it_is_the_first_simulation_of_a_sweep_with_that_seed(
    sky: mlpop.Population, stars: Any
) -> None:
    simulator = PulsarSimulator(tuple(THETA), SMALL, dynamics=stars)
    seed = seed_sequence(5, Purpose.SIMULATION_TRAINING, 0, 0)
    maps = simulator(list(THETA.values()), seed).x
    assert list(sky.maps) == list(maps)
    for channel, values in maps.items():
        np.testing.assert_array_equal(sky.maps[channel], values)
    assert sky.status in ("matched", "limit")
    again = mlpop.simulate_population(THETA, population=SMALL, stars=stars, seed=6)
    assert any(not np.array_equal(sky.maps[name], again.maps[name]) for name in sky.maps)


def test_the_catalogue_file_is_read_as_one_of_psrcat(
    sky: mlpop.Population, tmp_path: Path
) -> None:
    table = read_catalogue(sky.write_csv(tmp_path / "new" / "catalogue.csv"))
    for survey, token in (("PMPS", "pksmb"), ("SMPS", "pkssw"), ("HTRU_low_mid", "htru_pks")):
        columns = sky.catalogues[survey]
        found = table[table["SURVEY"].str.contains(token)]
        assert len(found) == len(columns["P"])
        np.testing.assert_allclose(
            np.sort(found["P0"].astype(float)), np.sort(columns["P"]), rtol=1e-12
        )
        np.testing.assert_allclose(
            np.sort(found["Gb"].astype(float)), np.sort(columns["b"]), atol=2e-3
        )


def test_x_is_what_networks_take(sky: mlpop.Population) -> None:
    names = ["survey_HTRU_ppdot_map", "survey_PMPS_ppdot_map"]
    x = sky.x(names)
    assert (x.shape, x.dtype) == ((2, 32, 32), np.float32)
    np.testing.assert_array_equal(x[1], sky.maps[names[1]].astype(np.float32))
    with pytest.raises(ConfigError, match="channels: no map 'ppdot'"):
        sky.x(["ppdot"])
    with pytest.raises(ConfigError, match="channels: maps of the shapes"):
        sky.x([names[0], "survey_PMPS_position_map_radec"])


def test_wrong_arguments_are_refused(at_work: Path, stars: Any) -> None:
    def simulate(theta: dict[str, float], **more: Any) -> None:
        mlpop.simulate_population(theta, **{"population": SMALL, "stars": stars, **more})

    with pytest.raises(ConfigError, match="theta: must set at least one label"):
        simulate({})
    with pytest.raises(ConfigError, match="labels: must be one of .* found 'brightness'"):
        simulate({"brightness": 1.0})
    with pytest.raises(ConfigError, match="birth_rate"):
        simulate(THETA, population={"birth_rate_max": 5.0})
    with pytest.raises(SimulationFailed, match="finite"):
        simulate({"B_initial_log10_mean": float("nan")})


def test_the_observed_sky_has_the_sky_maps_of_the_simulated_one(
    at_work: Path, stars: Any, tmp_path: Path
) -> None:
    """A simulated sky, written as a catalogue and observed, in planes that no cut rounds."""
    planes = {
        "p_dm": {"first": {"column": "P"}, "second": {"column": "DM", "bins": 8}},
        "l_b": {"first": {"column": "l", "bins": 6}, "second": {"column": "b", "bins": 4}},
    }
    generator = {"sky_maps": planes, "smoothing_sigma": 0.0}
    sky = mlpop.simulate_population(
        THETA, population=SMALL, stars=stars, generator=generator, seed=5
    )
    csv = observe_catalogue(
        ObserveConfig.parse(
            {
                "source": str(sky.write_csv(tmp_path / "catalogue.csv")),
                "save_dir": str(tmp_path / "observed"),
                "generator": generator,
            }
        )
    )
    for survey in ("PMPS", "SMPS", "HTRU"):
        seen = {
            name: load_observed(csv, filter_inputs=[f"survey_{survey}_{name}"]).x[0, 0]
            for name in planes
        }
        names = {name: f"survey_{survey}_{name}" for name in planes}
        np.testing.assert_array_equal(seen["p_dm"], sky.maps[names["p_dm"]])
        # places of the file are recomputed, and may move a pulsar over an edge
        assert np.abs(seen["l_b"] - sky.maps[names["l_b"]]).sum() <= 2
    assert sky.maps["survey_HTRU_p_dm"].sum() > 5


def test_counts_fill_a_map_of_x(at_work: Path, stars: Any) -> None:
    sky = mlpop.simulate_population(
        THETA, population=SMALL, stars=stars, generator={"counts": True}, seed=5
    )
    names = ["survey_HTRU_ppdot_map", "survey_HTRU_count"]
    x = sky.x(names)
    assert x.shape == (2, 32, 32)
    assert (x[1] == len(sky.catalogues["HTRU_low_mid"]["P"])).all()
    assert sky.x(["survey_PMPS_count", "survey_HTRU_count"]).shape == (2,)
