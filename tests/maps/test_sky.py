"""Sky maps: counts by hand, and the same of a simulation, of the sky, and of kept pulsars."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.config.blocks.generator import SURVEY_CHANNELS, GeneratorConfig
from mlpop.datasets.loading import load_observed
from mlpop.datasets.observed import write_observed
from mlpop.errors import DataError
from mlpop.io.files import read_csv
from mlpop.maps.density import dropped_stars, observed_survey_maps, population_maps, survey_maps
from mlpop.maps.detected import detected_arrays, detected_catalogues
from mlpop.maps.sky import sky_maps

Make = Callable[..., dict[str, np.ndarray]]
PLANES = {
    "lb_map": {
        "first": {"column": "l", "bins": 4},
        "second": {"column": "b_abs", "limits": [0.0, 8.0], "bins": 2},
    },
    "dm_map": {
        "first": {"column": "DM", "limits": [1.0, 100.0], "bins": 2},
        "second": {"column": "b_abs", "limits": [0.1, 10.0], "log": True, "bins": 2},
    },
}


def generator(**changes: Any) -> GeneratorConfig:
    return GeneratorConfig.parse({"smoothing_sigma": 0.0, "sky_maps": PLANES} | changes)


def test_counts_by_hand(make_catalogue: Make) -> None:
    stars = make_catalogue(
        5,
        # 310 deg is -50; 180 is the upper edge, which belongs to the last bin
        l=[310.0, -50.0, 10.0, 180.0, 200.0],
        b=[-3.0, 5.0, -9.0, 0.5, 3.9],
        DM=[5.0, 50.0, 50.0, np.nan, 100.0],
    )
    made = sky_maps(stars, "PMPS", generator())
    assert list(made) == ["survey_PMPS_lb_map", "survey_PMPS_dm_map"]
    # edges of l: -180, -90, 0, 90, 180; of |b|: 0, 4, 8. The third lies too high.
    by_hand = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], float)
    np.testing.assert_array_equal(made["survey_PMPS_lb_map"], by_hand)
    # edges of DM: 1, 10, 100; of |b|: 0.1, 1, 10. The fourth has no DM.
    np.testing.assert_array_equal(made["survey_PMPS_dm_map"], [[0, 1], [0, 3]])


def test_smoothed_like_the_other_maps(make_catalogue: Make) -> None:
    plane = {"first": {"column": "l"}, "second": {"column": "b", "limits": [-16.0, 16.0]}}
    star = make_catalogue(1, l=1.0, b=0.5, DM=10.0)
    smoothed = GeneratorConfig.parse({"sky_maps": {"place": plane}, "resolution_ppdot": 32})
    values = sky_maps(star, "SMPS", smoothed)["survey_SMPS_place"]
    assert values.shape == (32, 32)
    assert values[16, 16] == pytest.approx(0.1591558917, abs=1e-10)
    assert values[15, 16] == pytest.approx(0.0965329280, abs=1e-10)
    assert values.sum() == pytest.approx(1)
    assert (
        sky_maps(star, "SMPS", smoothed.model_copy(update={"dtype": "float32"}))[
            "survey_SMPS_place"
        ].dtype
        == np.float32
    )


@pytest.fixture
def catalogues(make_catalogue: Make) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    single = np.float32
    return {
        survey: make_catalogue(
            count,
            P=10 ** rng.uniform(-2, 1, count),
            P_dot=10 ** rng.uniform(-19, -12, count),
            l=rng.uniform(-180, 180, count).astype(single),
            b=rng.normal(0, 5, count).astype(single),
            DM=10 ** rng.uniform(0, 3, count).astype(single),
        )
        for survey, count in (("PMPS", 300), ("SMPS", 0), ("HTRU", 40))
    }


def test_the_sky_and_a_simulation_have_the_same_maps(
    catalogues: dict[str, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    settings = generator(smoothing_sigma=1.0)
    simulated = population_maps(catalogues, settings, np.random.default_rng(0))
    further = settings.further_channels
    assert tuple(simulated) == (*SURVEY_CHANNELS, *further)
    assert further == tuple(
        f"survey_{survey}_{name}" for name in PLANES for survey in ("PMPS", "SMPS", "HTRU")
    )
    csv = write_observed(tmp_path, catalogues, None, settings)
    header, _ = read_csv(csv)
    # the documented columns keep their places
    assert header[:15] == [f"input:{name}" for name in SURVEY_CHANNELS]
    assert header[15:21] == [f"input:{name}" for name in further]
    for name in (*further, "survey_PMPS_ppdot_map"):
        seen = load_observed(csv, filter_inputs=[name]).x[0, 0]
        np.testing.assert_array_equal(seen, simulated[name])
    assert simulated["survey_PMPS_lb_map"].sum() > 200
    assert not simulated["survey_SMPS_lb_map"].any()


def test_other_maps_stay_as_they_are(catalogues: dict[str, dict[str, np.ndarray]]) -> None:
    usual = population_maps(catalogues, GeneratorConfig(), np.random.default_rng(0))
    more = population_maps(catalogues, generator(smoothing_sigma=1.0), np.random.default_rng(0))
    assert tuple(usual) == SURVEY_CHANNELS
    for name, values in usual.items():
        np.testing.assert_array_equal(values, more[name])


def test_maps_of_kept_pulsars_have_the_same_bits(
    catalogues: dict[str, dict[str, np.ndarray]],
) -> None:
    settings = generator(smoothing_sigma=1.0)
    kept = detected_catalogues(detected_arrays(catalogues, settings))
    again = population_maps(kept, settings, np.random.default_rng(0))
    for name, values in population_maps(catalogues, settings, np.random.default_rng(0)).items():
        np.testing.assert_array_equal(values, again[name])
    assert dropped_stars(kept, settings) == dropped_stars(catalogues, settings)


def test_left_out_pulsars_are_counted(make_catalogue: Make) -> None:
    stars = make_catalogue(3, l=0.0, b=[1.0, 9.0, 20.0], DM=[10.0, np.nan, 10.0])
    dropped = dropped_stars({name: stars for name in ("PMPS", "SMPS", "HTRU")}, generator())
    assert dropped["PMPS"] == {
        "not_finite": 0,
        "out_of_range": 0,
        "not_in_lb_map": 2,
        "not_in_dm_map": 2,
    }


def test_a_column_that_is_missing_is_named(make_catalogue: Make) -> None:
    stars = make_catalogue(3)
    with pytest.raises(DataError, match="catalogue of HTRU: no column l, b; found"):
        survey_maps(stars, "HTRU", generator(), np.random.default_rng(0))
    with pytest.raises(DataError, match="no column l, b"):
        observed_survey_maps(stars, None, "HTRU", generator())
    short = stars | {"l": np.zeros(2), "b": np.zeros(2), "DM": np.ones(2)}
    with pytest.raises(DataError, match="must be equally long vectors"):
        sky_maps(short, "HTRU", generator())
