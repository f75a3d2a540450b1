"""The maps of surveys and of whole populations: goldens 6-11 and 18 of generator.md 9."""

from collections.abc import Callable

import numpy as np
import pytest

from mlpop.config.blocks.generator import POPULATION_CHANNELS, SURVEY_CHANNELS, GeneratorConfig
from mlpop.errors import DataError
from mlpop.maps.density import (
    dropped_stars,
    final_population_maps,
    observed_survey_maps,
    population_maps,
    survey_maps,
)

G = [0.3989434694, 0.2419714457, 0.0539911274, 0.0044318616, 0.0001338306]
Make = Callable[..., dict[str, np.ndarray]]
UNSMOOTHED = GeneratorConfig(smoothing_sigma=0.0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_one_star_golden_6(make_catalogue: Make, rng: np.random.Generator) -> None:
    # period and derivative in the middle of bin (16, 16)
    star = make_catalogue(1, P=10 ** (-3 + 16.5 * 5 / 32), P_dot=10 ** (-21 + 16.5 * 12 / 32))
    density = survey_maps(star, "PMPS", GeneratorConfig(), rng)["survey_PMPS_ppdot_map"]
    assert density.shape == (32, 32)
    assert density[16, 16] == pytest.approx(0.1591558917, abs=1e-10)
    for i, j in [(15, 16), (17, 16), (16, 15), (16, 17)]:
        assert density[i, j] == pytest.approx(0.0965329280, abs=1e-10)
    assert density[17, 17] == pytest.approx(0.0585501805, abs=1e-10)
    assert density[20, 16] == pytest.approx(5.3390854e-5, abs=1e-12)
    assert density[21, 16] == 0
    assert density.sum() == pytest.approx(1, abs=1e-13)


def test_flux_map_golden_7(make_catalogue: Make, rng: np.random.Generator) -> None:
    stars = make_catalogue(2, P=1.01, P_dot=1.1e-15, S_radio_obs_mean_1400=[1e-3, 1e-4])
    raw = survey_maps(stars, "PMPS", UNSMOOTHED, rng)["survey_PMPS_ppdot_map_fluxes"]
    assert raw[19, 16] == pytest.approx(-3.5, abs=1e-14)
    assert np.count_nonzero(raw == -7) == 1023
    flux = survey_maps(stars, "PMPS", GeneratorConfig(), rng)["survey_PMPS_ppdot_map_fluxes"]
    assert flux[19, 16] == pytest.approx(-6.4429543789, abs=1e-10)
    assert flux[20, 16] == pytest.approx(-6.6621347519, abs=1e-10)
    assert flux[0, 0] == -7
    assert flux.mean() == pytest.approx(-6.9965820313, abs=1e-10)


def test_corner_star_golden_8(make_catalogue: Make, rng: np.random.Generator) -> None:
    star = make_catalogue(1, P=1.1e-3, P_dot=1.1e-21)
    density = survey_maps(star, "PMPS", GeneratorConfig(), rng)["survey_PMPS_ppdot_map"]
    assert density[0, 0] == pytest.approx(0.4107719283, abs=1e-10)
    assert density[0, 1] == pytest.approx(0.1896868274, abs=1e-10)
    assert density[1, 1] == pytest.approx(0.0875938447, abs=1e-10)
    assert density.sum() == pytest.approx(1, abs=1e-13)


def test_boundary_of_right_ascension_golden_9(
    make_catalogue: Make, rng: np.random.Generator
) -> None:
    star = make_catalogue(1, ra=1.0, dec=1.0)
    name = "survey_SMPS_position_map_radec"
    reflected = survey_maps(star, "SMPS", GeneratorConfig(), rng)[name]
    assert reflected.shape == (32, 16)
    assert reflected[0, 8] == pytest.approx(0.2556888198, abs=1e-10)
    assert reflected[31, 8] == 0
    closed = survey_maps(star, "SMPS", GeneratorConfig(boundary="wrap_ra"), rng)[name]
    assert closed[0, 8] == pytest.approx(0.1591558917, abs=1e-10)
    assert closed[31, 8] == pytest.approx(0.0965329280, abs=1e-10)
    star = make_catalogue(1, P=1.1e-3, P_dot=1e-15)
    plane = survey_maps(star, "SMPS", GeneratorConfig(boundary="wrap_ra"), rng)
    assert plane["survey_SMPS_ppdot_map"][31].max() == 0


@pytest.mark.parametrize(("column", "kind"), [("pm_ra", "vra"), ("pm_dec", "vdec")])
def test_mean_motion_golden_10(
    make_catalogue: Make, rng: np.random.Generator, column: str, kind: str
) -> None:
    stars = make_catalogue(2, ra=181.0, dec=1.0, **{column: [4.0, -8.0]})
    name = f"survey_HTRU_velocity_map_{kind}"
    raw = survey_maps(stars, "HTRU", UNSMOOTHED, rng)[name]
    assert raw[16, 8] == 6
    assert raw.sum() == 6
    smoothed = survey_maps(stars, "HTRU", GeneratorConfig(), rng)[name]
    assert smoothed[16, 8] == pytest.approx(0.9549353505, abs=1e-10)
    assert smoothed.sum() == pytest.approx(6, abs=1e-12)


@pytest.mark.parametrize("motion", [10.0, -10.0])
def test_sign_of_the_motion_golden_11(
    make_catalogue: Make, rng: np.random.Generator, motion: float
) -> None:
    star = make_catalogue(1, ra=181.0, dec=1.0, pm_ra=motion)
    values = survey_maps(star, "PMPS", GeneratorConfig(), rng)["survey_PMPS_velocity_map_vra"]
    assert values[16, 8] == pytest.approx(1.5915589174, abs=1e-10)
    assert values[17, 8] == pytest.approx(0.9653292802, abs=1e-10)


def test_flux_subsample_golden_18(make_catalogue: Make, rng: np.random.Generator) -> None:
    # every star has its own cell, so the cells of the flux map tell the stars in it
    p, pdot = np.meshgrid(10 ** np.linspace(-2, 1.5, 40), 10 ** np.linspace(-19, -11, 25))
    generator = GeneratorConfig(smoothing_sigma=0.0, resolution_ppdot=200)
    stars = make_catalogue(1000, P=p.ravel(), P_dot=pdot.ravel())
    stars["P"][:3] = 1e3
    maps = survey_maps(stars, "PMPS", generator, rng)
    counts, flux = maps["survey_PMPS_ppdot_map"], maps["survey_PMPS_ppdot_map_fluxes"]
    assert counts.sum() == 997
    assert counts.max() == 1
    in_flux = np.count_nonzero(flux > -7)
    assert 637 <= in_flux <= 640
    inside = {name: values[3:] for name, values in stars.items()}
    maps = survey_maps(inside, "PMPS", generator, rng)
    assert np.count_nonzero(maps["survey_PMPS_ppdot_map_fluxes"] > -7) == 640
    free = GeneratorConfig(
        smoothing_sigma=0.0, resolution_ppdot=200, flux_subsample={"PMPS": None}
    )
    maps = survey_maps(inside, "PMPS", free, rng)
    assert np.count_nonzero(maps["survey_PMPS_ppdot_map_fluxes"] > -7) == 997


def test_flux_subsample_begins_above_the_census_and_skips_stars_without_a_place(
    make_catalogue: Make, rng: np.random.Generator
) -> None:
    generator = GeneratorConfig(
        smoothing_sigma=0.0, resolution_ppdot=64, flux_subsample={"PMPS": 30}
    )
    name = "survey_PMPS_ppdot_map_fluxes"
    stars = make_catalogue(31, P=10 ** np.linspace(-2, 1.5, 31))
    assert np.count_nonzero(survey_maps(stars, "PMPS", generator, rng)[name] > -7) == 30
    stars = make_catalogue(90, P=np.tile(10 ** np.linspace(-2, 1.5, 30), 3))
    stars["P_dot"][30:60], stars["P"][60:] = np.nan, np.nan
    assert np.count_nonzero(survey_maps(stars, "PMPS", generator, rng)[name] > -7) == 30


def test_flux_subsample_is_drawn_from_the_generator_alone(make_catalogue: Make) -> None:
    source = np.random.default_rng(0)
    stars = make_catalogue(
        900, P=10 ** source.normal(0, 0.3, 900), S_radio_obs_mean_1400=source.random(900)
    )
    name = "survey_PMPS_ppdot_map_fluxes"
    maps = [
        survey_maps(stars, "PMPS", GeneratorConfig(), np.random.default_rng(s))[name]
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_stars_without_a_flux_or_a_motion_leave_only_those_maps(
    make_catalogue: Make, rng: np.random.Generator
) -> None:
    stars = make_catalogue(
        4,
        pm_ra=[1.0, np.nan, 3.0, 5.0],
        S_radio_obs_mean_1400=[1e-3, 0.0, np.nan, -1.0],
    )
    stars["P"][3] = np.nan
    maps = survey_maps(stars, "PMPS", UNSMOOTHED, rng)
    assert maps["survey_PMPS_position_map_radec"].sum() == 4
    assert maps["survey_PMPS_velocity_map_vra"].max() == 3
    assert maps["survey_PMPS_ppdot_map"].sum() == 3
    assert maps["survey_PMPS_ppdot_map_fluxes"].max() == pytest.approx(-3)
    assert all(np.isfinite(values).all() for values in maps.values())


def test_dropped_stars_are_counted(make_catalogue: Make) -> None:
    stars = make_catalogue(5, P=[1.0, 1e3, np.nan, 1.0, 1.0], ra=[1.0, 1.0, 1.0, 400.0, 1.0])
    catalogues = {"PMPS": stars, "SMPS": make_catalogue(0), "HTRU_low_mid": make_catalogue(2)}
    dropped = dropped_stars(catalogues, GeneratorConfig())
    assert dropped["PMPS"] == {"not_finite": 1, "out_of_range": 2}
    assert dropped["SMPS"] == dropped["HTRU"] == {"not_finite": 0, "out_of_range": 0}


def test_population_maps_are_fifteen_in_the_documented_order(
    make_catalogue: Make, rng: np.random.Generator
) -> None:
    catalogues = {
        "PMPS": make_catalogue(3),
        "SMPS": make_catalogue(2),
        "HTRU_low_mid": make_catalogue(1),
        "HTRU_high": make_catalogue(9),
    }
    maps = population_maps(catalogues, GeneratorConfig(), rng)
    assert tuple(maps) == SURVEY_CHANNELS
    assert len(maps) == 15
    assert SURVEY_CHANNELS[:4] == (
        "survey_PMPS_position_map_radec",
        "survey_SMPS_position_map_radec",
        "survey_HTRU_position_map_radec",
        "survey_PMPS_velocity_map_vra",
    )
    assert SURVEY_CHANNELS[9] == "survey_PMPS_ppdot_map"
    assert SURVEY_CHANNELS[14] == "survey_HTRU_ppdot_map_fluxes"
    totals = [maps[f"survey_{s}_ppdot_map"].sum() for s in ("PMPS", "SMPS", "HTRU")]
    np.testing.assert_allclose(totals, [3, 2, 1])
    short = population_maps(
        {"PMPS": catalogues["PMPS"], "SMPS": catalogues["SMPS"], "HTRU": make_catalogue(4)},
        GeneratorConfig(dtype="float32"),
        rng,
    )
    assert short["survey_HTRU_ppdot_map"].sum() == pytest.approx(4)
    assert {values.dtype for values in short.values()} == {np.dtype("float32")}


def test_no_detection_gives_flat_maps(make_catalogue: Make, rng: np.random.Generator) -> None:
    maps = survey_maps(make_catalogue(0), "SMPS", GeneratorConfig(), rng)
    for name, values in maps.items():
        assert (values == (-7 if name.endswith("fluxes") else 0)).all()


def test_missing_survey_and_column_are_named(
    make_catalogue: Make, rng: np.random.Generator
) -> None:
    with pytest.raises(DataError, match="survey HTRU.*'HTRU_low_mid'.*found PMPS, SMPS"):
        population_maps(
            {"PMPS": make_catalogue(1), "SMPS": make_catalogue(1)}, GeneratorConfig(), rng
        )
    stars = make_catalogue(1)
    del stars["P_dot"]
    with pytest.raises(DataError, match="catalogue of PMPS: no column P_dot"):
        survey_maps(stars, "PMPS", GeneratorConfig(), rng)
    with pytest.raises(DataError, match="equally long"):
        survey_maps(make_catalogue(2) | {"P": np.ones(3)}, "PMPS", GeneratorConfig(), rng)


def test_observed_maps_take_fluxes_of_other_pulsars(make_catalogue: Make) -> None:
    stars = {k: v for k, v in make_catalogue(3).items() if k in ("ra", "dec", "P", "P_dot")}
    fluxes = {"P": np.ones(1), "P_dot": np.full(1, 1e-15), "S_radio_obs_mean_1400": [1e-3]}
    maps = observed_survey_maps(stars, fluxes, "PMPS", UNSMOOTHED)
    assert {*maps} == {
        "survey_PMPS_position_map_radec",
        "survey_PMPS_ppdot_map",
        "survey_PMPS_ppdot_map_fluxes",
    }
    assert maps["survey_PMPS_ppdot_map"].sum() == 3
    assert maps["survey_PMPS_ppdot_map_fluxes"].max() == pytest.approx(-3)
    assert "survey_PMPS_ppdot_map_fluxes" not in observed_survey_maps(
        stars, None, "PMPS", UNSMOOTHED
    )


def test_observed_flux_of_1_mjy_has_weight_minus_3_golden_16() -> None:
    stars = {"ra": [1.0], "dec": [1.0], "P": [1.0], "P_dot": [1e-15]}
    fluxes = {"P": [1.0], "P_dot": [1e-15], "S_radio_obs_mean_1400": [1.0 / 1000]}
    maps = observed_survey_maps(stars, fluxes, "HTRU", UNSMOOTHED)
    assert maps["survey_HTRU_ppdot_map_fluxes"][19, 16] == pytest.approx(-3, abs=1e-14)


def population(n: int) -> dict[str, np.ndarray]:
    columns = {name: np.zeros(n) for name in ("r", "phi", "z", "ra", "dec", "pm_ra", "pm_dec")}
    columns |= {name: np.zeros(n) for name in ("v_r", "v_phi", "v_z")}
    return columns | {"P": np.ones(n), "P_dot": np.full(n, 1.1e-15)}


def test_end_to_end_maps_place_stars_in_the_galaxy() -> None:
    stars = population(2)
    stars["r"][:], stars["phi"][:], stars["z"][:] = 8.3, np.pi / 2, [-0.1, 5.1]
    stars["v_r"][:], stars["v_phi"][:], stars["v_z"][:] = [-100, 300], [220, -220], [10, 30]
    maps = final_population_maps(stars, UNSMOOTHED)
    assert tuple(maps) == POPULATION_CHANNELS
    # bins of 1.25 kpc: x is 5e-16, y 8.3, z -0.1 and 5.1
    assert maps["position_map_xy"][16, 22] == 2
    assert maps["position_map_xz"][16, 15] == 1
    assert maps["position_map_xz"][16, 20] == 1
    means = [maps[f"velocity_map_xy_{v}"][16, 22] for v in ("vr", "vphi", "vz")]
    assert means == [200, 220, 20]
    assert maps["position_map_radec"].shape == (32, 16)


def test_end_to_end_period_derivative_is_not_divided() -> None:
    assert final_population_maps(population(5), UNSMOOTHED)["ppdot_map"][19, 16] == 5


def test_end_to_end_flux_map_where_fluxes_are_known() -> None:
    stars = population(3) | {"S_radio_obs_mean_1400": np.array([1e-3, 1e-5, 0.0])}
    maps = final_population_maps(stars, UNSMOOTHED)
    assert tuple(maps) == (*POPULATION_CHANNELS, "ppdot_map_fluxes")
    assert maps["ppdot_map_fluxes"][19, 16] == pytest.approx(-4)
    assert maps["ppdot_map_fluxes"].min() == -7


def test_counts_are_those_at_the_stop(make_catalogue: Make, rng: np.random.Generator) -> None:
    stars = {name: make_catalogue(n) for name, n in (("PMPS", 4), ("SMPS", 2), ("HTRU", 3))}
    counting = GeneratorConfig(counts=True)
    detected = {"PMPS": 5, "SMPS": 2, "HTRU_low_mid": 9}
    maps = population_maps(stars, counting, rng, detected)
    names = ("survey_PMPS_count", "survey_SMPS_count", "survey_HTRU_count")
    assert tuple(maps) == (*SURVEY_CHANNELS, *names)
    assert [(maps[name].shape, float(maps[name])) for name in names] == [
        ((), 5.0),
        ((), 2.0),
        ((), 9.0),
    ]
    with pytest.raises(DataError, match="how many pulsars HTRU has detected; found PMPS"):
        population_maps(stars, counting, rng, {"PMPS": 5, "SMPS": 2})
    with pytest.raises(DataError, match="how many pulsars PMPS has detected; found none"):
        population_maps(stars, counting, rng)
    assert tuple(population_maps(stars, GeneratorConfig(), rng)) == SURVEY_CHANNELS
