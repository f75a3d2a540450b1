"""Bounds change the time that a simulation takes, and not one bit of its result."""

import numpy as np
import pytest
from fake_stars import N_STARS, T_AGE_MAX, make_stars

from benchmarks import bounds
from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.pulsars.evolution import evolve_births
from mlpop.population.pulsars.radio import opening_angles
from mlpop.population.synthesis.detected_population import synthesize
from mlpop.population.synthesis.stream import StarStream

GROUPS = ("PMPS", "SMPS", "HTRU_low_mid", "HTRU_high")
PARKES = {group: {"detected_real": None} for group in GROUPS}
EVERYONE = {"birth_rate_max": N_STARS * 100 / T_AGE_MAX, "surveys_radio": PARKES}

OWN = {
    "key": "own",
    "name": "own survey",
    "reference": "none",
    "beams": [{"G0": 1.4, "number": 1}, {"G0": 0.3, "number": 6, "FWHM": 9.0}],
    **{"t_obs": 900.0, "t_samp": 100.0, "T_sys": 25.0, "f_central": 700.0, "BW": 200.0},
    **{"channel_width": 0.1, "FWHM": 20.0, "SNR_th": 10.0, "b_range_abs": [0, 20]},
}

MODELS = {
    "default": {},
    "weak fields": {"B_initial_log10_mean": 12.0},
    "strong fields": {"B_initial_log10_mean": 14.0, "B_initial_log10_sigma": 1.0},
    "fast decay": {"a_late": -3.0, "P_initial_log10_mean": -1.5, "P_initial_log10_sigma": 1.0},
    "residual field": {"a_late": -3.0, "B_millisec_mean": 11.5, "B_millisec_sigma": 1.0},
    "double log-normal": {"magnetic_field_model": "double_log-normal"},
    "top-hat": {"magnetic_field_model": "smooth_tophat", "B_initial_log10_slope": 0.5},
    "normal periods": {"spin_period_model": "normal"},
    "Weibull periods": {"spin_period_model": "weibull"},
    "log-uniform fields": {"magnetic_field_model": "log-uniform"},
    "shortest period": {"P_initial_min": 0.05},
    "vacuum": {"k_coefficients": [0.0, 2 / 3, 2 / 3]},
    "no alignment by angle": {"k_coefficients": [1.0, 0.0, 1.0]},
    "other torque": {"k_coefficients": [1.0, 1.4, 0.8]},
    "slow alignment": {"k_coefficients": [0.8, 0.7, 0.1]},
    "SLy4": {"magneto_thermal_model": "SLy4_dip-tor_heavy"},
    "multipoles": {"magneto_thermal_model": "BSk24_multi_light"},
    "analytical": {"magneto_thermal_model": "analytical"},
    "graber2024": {"preset": "graber2024"},
    "pardo2025": {"preset": "pardo2025"},
    "power-law beam": {"radio_beam_model": "power-law_period_cone", "rho_b_0": 5.0},
    "constant beam": {"radio_beam_model": "power-law_period_cone", "rho_b_0": 5.0, "a_beam": 0.0},
    "widening beam": {"radio_beam_model": "power-law_period_cone", "rho_b_0": 5.0, "a_beam": 0.3},
    "flat luminosity": {"epsilon_L": 0.0, "L_radio_log10_mean": 28.5},
    "falling luminosity": {"epsilon_L": -0.3, "L_radio_log10_mean": 29.0},
    "steep luminosity": {"epsilon_L": 1.5, "L_radio_log10_mean": 24.0},
    "no scatter": {"L_radio_log10_sigma": 0.0},
    "death line": {"radio_death_model": "line"},
    "death valley": {"radio_death_model": "valley"},
    "late death, falling luminosity": {
        "radio_death_model": "valley",
        "death_Edot_log10_mean": 31.5,
        "death_Edot_log10_sigma": 1.5,
        "epsilon_L": -0.3,
        "L_radio_log10_mean": 29.0,
    },
    "spread of indices": {"std_spectral_index": 0.6, "mean_spectral_index": -1.4},
    "flat spectra": {"mean_spectral_index": -1.0},
    "near stars": {"d_max": 5.0},
    "map-free sky": {"tsky_model": "narayan87"},
    "cuts": {"observed_cuts": True},
    "own survey of unlike beams": {"surveys": [OWN]},
    "northern": {"surveys_radio": {name: {} for name in ("GBNCC", "LOTAAS", "PALFA")}},
    "SKA": {"surveys_radio": {name: {} for name in ("SKA_low_AA4", "SKA_mid_B2_AA4", "PMPS")}},
}
"""Every law of the configuration, and both signs of what may have either."""


@pytest.fixture(scope="module")
def stars():
    return make_stars()


@pytest.mark.parametrize("model", MODELS)
def test_bounds_change_no_bit(stars, model):
    config = PopulationConfig.parse(EVERYONE | MODELS[model])
    seed = np.random.SeedSequence(4)
    bounded, exact = (synthesize(config, stars, seed, bounded=choice) for choice in (True, False))
    assert sum(exact.n_detected.values()) > 30
    assert bounded.n_detected == exact.n_detected
    for group, table in exact.catalogues.items():
        for name, column in table.items():
            np.testing.assert_array_equal(column, bounded.catalogues[group][name], err_msg=name)


@pytest.mark.parametrize("model", MODELS)
def test_bounds_leave_few_stars(stars, model):
    config = PopulationConfig.parse(EVERYONE | MODELS[model])
    stream = StarStream(config, stars, np.random.SeedSequence(4))
    left = len(stream.draw(N_STARS)[0])
    exact = StarStream(config, stars, np.random.SeedSequence(4), bounded=False)
    # Torques without a closed form of the inclination have wider bounds.
    share = 0.6 if "k_coefficients" in MODELS[model] else 0.25
    assert left < share * len(exact.draw(N_STARS)[0])


@pytest.mark.parametrize("b2", [0.1, 0.3])
def test_a_decay_without_a_table_is_evolved_exactly(stars, b2):
    config = PopulationConfig.parse(EVERYONE | {"b2": b2, "A2": 1e5, "birth_rate_max": 0.2})
    stream, exact = (
        StarStream(config, stars, np.random.SeedSequence(4), bounded=choice)
        for choice in (True, False)
    )
    assert stream.table.usable == 0
    np.testing.assert_array_equal(stream.draw(5000)[0], exact.draw(5000)[0])


@pytest.mark.parametrize(
    "theta",
    [
        {"B_initial_log10_mean": 20.0, "B_initial_log10_sigma": 5.0},
        {"P_initial_log10_mean": 9.0, "P_initial_log10_sigma": 1.0},
        {"P_initial_log10_mean": -9.5, "P_initial_log10_sigma": 1.0},
        {"a_late": -100.0, "B_millisec_mean": 25.0},
    ],
)
def test_stars_beyond_single_precision_are_never_left_out(stars, theta):
    config = PopulationConfig.parse(EVERYONE | theta | {"birth_rate_max": 0.3})
    seed = np.random.SeedSequence(1)
    bounded = synthesize(config, stars, seed)
    exact = synthesize(config, stars, seed, bounded=False)
    assert bounded.n_detected == exact.n_detected
    for group, table in exact.catalogues.items():
        np.testing.assert_array_equal(table["idx"], bounded.catalogues[group]["idx"])


def test_what_is_left_out_is_not_beamed_or_too_faint(stars):
    """Of the stars left out that are beamed none comes near any survey's threshold."""
    config = PopulationConfig.parse(EVERYONE)
    seed = np.random.SeedSequence(8)
    exact = StarStream(config, stars, seed, bounded=False)
    rows, places = exact.draw(N_STARS)
    kept = StarStream(config, stars, seed).draw(N_STARS)[1]
    out = ~np.isin(places, kept)
    births = exact.births(places)
    spins = evolve_births(exact.now, exact.table, births, stars.columns["age"][rows])
    zeta, rho = np.arccos(births.cos_zeta), opening_angles(exact.beam, spins.P)
    beamed = (zeta < spins.chi + rho) & (zeta > spins.chi - rho)
    # Bounds are close: most of what remains is beamed, and most of what is beamed is too faint.
    assert beamed[~out].mean() > 0.5
    assert out[beamed].mean() > 0.5


def test_the_population_is_that_of_the_plain_way(stars):
    """Other random numbers, another order and bounds, against numpy's and no bounds."""
    rate = 0.75 * 100 * N_STARS / T_AGE_MAX
    config = PopulationConfig.parse(EVERYONE | {"birth_rate_max": rate})
    first = bounds.populations("plain", config, stars, range(40), GROUPS)
    second = bounds.populations("here", config, stars, range(40, 80), GROUPS)
    found = bounds.differences(first, second, GROUPS)
    assert first["counts"].sum(axis=0).min() > 1000
    assert max(abs(sigma) for sigma, *_ in found.values()) < 4.0
    assert min(min(p) for _, *p in found.values()) > 1e-3


def test_the_comparison_notices_a_wrong_population(stars):
    config = PopulationConfig.parse(EVERYONE)
    first = bounds.populations("plain", config, stars, range(10), GROUPS)
    brighter = config.with_override({"L_radio_log10_mean": 26.3})
    second = bounds.populations("here", brighter, stars, range(10), GROUPS)
    assert bounds.differences(first, second, GROUPS)["PMPS"][0] > 4.0
    slower = config.with_override({"P_initial_log10_mean": -0.6})
    third = bounds.populations("here", slower, stars, range(10), GROUPS)
    assert bounds.differences(first, third, GROUPS)["PMPS"][1] < 1e-3
