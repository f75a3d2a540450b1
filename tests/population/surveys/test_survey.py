"""Surveys: their files, their areas, detection of one star."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from mlpop.population.galaxy.scattering import DISPERSION, tau_327
from mlpop.population.galaxy.sky import t_sky_408
from mlpop.population.surveys.detection import (
    DUTY_CAP,
    SMALL_DUTY,
    beam_gain,
    duty_factor,
    effective_width,
    may_be_detected,
    receivers,
    search_efficiency,
    signal_to_noise,
)
from mlpop.population.surveys.survey import coverage, groups, surveys

KEYS = list(surveys())
BITS = {key: place for place, key in enumerate(KEYS)}
ALL = receivers([surveys()[key] for key in KEYS])


def bits_of(longitude, latitude, ra=180.0, dec=-30.0):
    found = int(coverage(list(surveys().values()), [longitude], [latitude], [ra], [dec])[0])
    return {key for key in KEYS if found >> BITS[key] & 1}


def test_keys_are_the_documented_ones_in_sorted_order():
    tags = ("AA4", "AAstar")
    ska = [f"SKA_{part}_{tag}" for part in ("low", "mid_B1", "mid_B2") for tag in tags]
    assert sorted(KEYS) == KEYS
    northern = {"PALFA_inner", "PALFA_anticentre", "GBNCC", "LOTAAS", "FAST_GPPS"}
    parkes = {"PMPS", "SMPS", "HTRU_low", "HTRU_mid", "HTRU_high"}
    assert set(KEYS) == {*parkes, *northern, "MMGPS_L", *ska}


@pytest.mark.parametrize(
    ("direction", "inside", "outside"),
    [
        ((-100.0, 1.0), {"HTRU_mid"}, {"PMPS", "SMPS"}),
        ((-99.999, 4.999), {"PMPS", "HTRU_mid"}, {"SMPS"}),
        ((49.999, -4.0), {"PMPS"}, {"HTRU_mid", "HTRU_low"}),
        ((50.0, 4.0), set(), {"PMPS"}),
        ((0.0, 5.0), {"HTRU_mid"}, {"PMPS", "SMPS"}),
        ((0.0, 5.001), {"SMPS", "HTRU_mid"}, {"PMPS"}),
        ((0.0, 29.999), {"SMPS", "HTRU_high"}, {"HTRU_mid"}),
        ((0.0, -30.0), {"HTRU_high"}, {"SMPS"}),
        ((-79.999, 3.499), {"HTRU_low", "HTRU_mid"}, set()),
        ((-80.0, 3.0), {"HTRU_mid"}, {"HTRU_low"}),
        ((-60.0, 3.5), {"HTRU_mid"}, {"HTRU_low"}),
        ((29.999, 14.999), {"HTRU_mid"}, {"HTRU_high"}),
        ((-120.0, 10.0), set(), {"HTRU_mid", "HTRU_high"}),
    ],
)
def test_areas_have_strict_bounds(direction, inside, outside):
    found = bits_of(*direction)
    assert inside <= found
    assert not outside & found


def test_htru_high_is_longitude_or_latitude():
    assert "HTRU_high" in bits_of(100.0, 0.5)
    assert "HTRU_high" in bits_of(-150.0, 2.0)
    assert "HTRU_high" in bits_of(0.0, -40.0)
    assert "HTRU_high" not in bits_of(0.0, 10.0)
    assert "HTRU_high" not in bits_of(100.0, 40.0, dec=10.0)


def test_ska_areas_do_not_overlap_and_end_in_declination():
    assert bits_of(170.0, 3.0, dec=29.9) & {"SKA_mid_B2_AA4", "SKA_low_AA4"} == {"SKA_mid_B2_AA4"}
    assert "SKA_mid_B1_AAstar" in bits_of(170.0, -10.0, dec=29.9)
    assert "SKA_mid_B1_AAstar" not in bits_of(170.0, -10.0, dec=30.1)
    assert "SKA_low_AAstar" in bits_of(170.0, -50.0, dec=35.9)
    assert "SKA_low_AAstar" not in bits_of(170.0, -50.0, dec=36.1)


def test_longitude_15_of_the_generator_goldens():
    assert {"PMPS", "HTRU_mid"} <= bits_of(-50.0, 3.0)
    six = bits_of(-50.0, 6.0)
    assert "PMPS" not in six
    assert "HTRU_mid" in six
    assert not {"HTRU_mid", "HTRU_low"} & bits_of(40.0, 3.0)


def test_groups_are_declared():
    found = groups(surveys().values())
    assert found["HTRU_low_mid"] == ("HTRU_low", "HTRU_mid")
    assert found["PALFA"] == ("PALFA_anticentre", "PALFA_inner")
    assert found["PMPS"] == ("PMPS",)
    assert {key for members in found.values() for key in members} == set(KEYS)


def test_older_parkes_surveys():
    older = surveys("older")
    assert (older["PMPS"].deg_factor, older["PMPS"].FFT_search) == (1.5, False)
    assert older["SKA_low_AA4"] == surveys()["SKA_low_AA4"]
    assert (
        dataclasses.replace(older["SMPS"], deg_factor=1.25, FFT_search=True) == surveys()["SMPS"]
    )


def test_all_beams_have_the_mean_gain_of_the_thirteen():
    """Manchester et al. 2001: one beam of 0.735, six of 0.690 and six of 0.581 K/Jy."""
    mean = (0.735 + 6 * 0.690 + 6 * 0.581) / 13
    every = surveys("all_beams")
    for key in ("PMPS", "SMPS", "HTRU_low", "HTRU_mid", "HTRU_high"):
        assert pytest.approx(mean, abs=5e-4) == every[key].G0
        assert dataclasses.replace(every[key], G0=0.735) == surveys()[key]
    assert every["GBNCC"] == surveys()["GBNCC"]


def test_smearing_in_a_channel_G73():
    k, other = BITS["PMPS"], BITS["HTRU_mid"]
    assert 100.0 * ALL.smearing[k] == pytest.approx(9.596528e-4, rel=1e-6)
    assert 100.0 * ALL.smearing[other] == pytest.approx(1.311545e-4, rel=1e-6)
    mid, width = surveys()["PMPS"].f_central * 1e6, surveys()["PMPS"].channel_width * 1e6
    low, high = mid - width / 2, mid + width / 2
    assert ALL.smearing[k] == pytest.approx(DISPERSION * (low**-2 - high**-2), rel=1e-5)


def test_scattering_falls_with_frequency():
    ratio = surveys()["SKA_low_AA4"].f_central / 327.0
    assert ALL.tau_scale[BITS["SKA_low_AA4"]] == pytest.approx(ratio**-4.4)


def test_gain_G77():
    found = [beam_gain(0.735, offset2 / 14.0**2) for offset2 in (0, 10, 24.5, 49)]
    assert found == pytest.approx([0.735, 0.63813124, 0.51989169, 0.36773792], rel=1e-6)


def test_mean_gain_over_the_beam():
    offset2 = 0.25 * np.random.default_rng(0).random(200_000)
    mean = np.mean([beam_gain(1.0, o) for o in offset2])
    assert mean == pytest.approx(0.72155, abs=1e-3)


def test_search_efficiency_G78():
    found = [search_efficiency(duty) for duty in (0.005, 0.01, 0.05, 0.1, 0.5)]
    expected = [0.43271071, 0.54085950, 0.76367257, 0.83306736, 0.93192496]
    assert found == pytest.approx(expected, rel=1e-6)


def test_aperture_factor_G79():
    k = BITS["SKA_low_AA4"]
    flat = ALL._replace(aperture=np.zeros_like(ALL.aperture))

    def ratio(dec):
        arguments = (k, 1.0, 0.1, 0.0, 0.0, math.radians(dec))
        return signal_to_noise(ALL, *arguments) / signal_to_noise(flat, *arguments)

    assert [ratio(dec) for dec in (-30, 50)] == pytest.approx([0.99862953, 0.22495105], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "key", "period", "duty", "dm", "direction", "width", "faintest"),
    [
        ("G80", "PMPS", 0.5, 0.05, 100, (0, 0), 2.501966116e-2, 0.1412133),
        ("G81", "PMPS", 0.5, 0.05, 100, (-60, 2), 2.501966116e-2, 0.1034148),
        ("G82", "PMPS", 0.05, 0.05, 300, (-60, 2), 3.834625210e-3, 0.1226564),
        ("G83", "SMPS", 0.5, 0.05, 50, (-60, 10), 2.500491669e-2, 0.2634337),
        ("G84", "HTRU_low", 0.5, 0.05, 100, (-60, 2), 2.500042620e-2, 0.0723027),
        ("G85", "HTRU_mid", 0.5, 0.05, 100, (-60, 2), 2.500042620e-2, 0.2040289),
        ("G86", "HTRU_high", 0.5, 0.05, 30, (60, 40), 2.500011288e-2, 0.2589629),
    ],
)
def test_faintest_pulsar_G80_to_G86(name, key, period, duty, dm, direction, width, faintest):
    k = BITS[key]
    recorded = effective_width(ALL, k, duty * period, float(tau_327(dm)), dm)
    assert recorded == pytest.approx(width, rel=1e-9)
    t_sky = float(t_sky_408([direction[0]], [direction[1]])[0])
    snr = signal_to_noise(ALL, k, 1e-3, recorded / period, 0.0, t_sky, 0.0)
    assert 9.0 / snr == pytest.approx(faintest, rel=1e-6)


def test_bright_pulsar_G88():
    older = receivers([surveys("older")["PMPS"]])
    offset2 = -math.log(0.68485507 / 0.735) / 2.77
    t_sky_at_408 = 3.00651602 / float(older.sky_scale[0])
    snr = signal_to_noise(older, 0, 7.28263e-3, 1.37313e-3 / 0.1, offset2, t_sky_at_408, 0.0)
    assert snr == pytest.approx(1291.00883, rel=1e-5)


def test_broadened_away():
    assert duty_factor(1.0, 1) == 0.0
    assert duty_factor(1.5, 0) == 0.0
    assert duty_factor(0.999999, 1) > 0.0


def test_duty_cap_of_7_4():
    peak = minimize_scalar(lambda d: -duty_factor(d, 1), bounds=(1e-5, 1e-2), method="bounded")
    assert peak.x == pytest.approx(8.6e-4, rel=0.02)
    assert -peak.fun == pytest.approx(DUTY_CAP, rel=1e-3)
    assert -peak.fun <= DUTY_CAP
    falling = [duty_factor(d, 1) for d in np.geomspace(SMALL_DUTY, 0.999, 2000)]
    assert (np.diff(falling) < 0).all()


def test_bound_never_refuses_what_would_be_detected():
    rng = np.random.default_rng(1)
    detected = refused = 0
    for _ in range(20_000):
        k, duty = int(rng.integers(len(KEYS))), 10 ** rng.uniform(-4, 0)
        period, flux, dm = 10 ** rng.uniform((-3, -7, 0), (1, -1, 3.3))
        recorded = effective_width(ALL, k, duty * period, float(tau_327(dm)), dm)
        offset2, t_sky, dec = rng.uniform((0, 25, -1.5), (0.25, 300, 0.6))
        snr = signal_to_noise(ALL, k, flux, recorded / period, offset2, t_sky, dec)
        possible = may_be_detected(ALL, k, flux, duty)
        detected += snr > ALL.threshold[k]
        refused += not possible
        assert possible or snr <= ALL.threshold[k]
    assert detected > 2000
    assert refused > 2000
