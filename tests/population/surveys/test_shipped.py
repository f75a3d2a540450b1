"""Surveys that ship beside those of Parkes: their sensitivity is what their papers say.

The tests take the radiometer equation alone, as the papers do, without the efficiency of a search.
"""

import math

import numpy as np
import pytest

from mlpop.population.galaxy.scattering import tau_327
from mlpop.population.galaxy.sky import t_sky_408
from mlpop.population.surveys.detection import effective_width, receivers, signal_to_noise
from mlpop.population.surveys.survey import coverage, surveys


def faintest(key, period, duty, dm, direction, declination=0.0):
    """Return the faintest flux on the axis of the best beam [mJy]."""
    radio = receivers([surveys()[key]])._replace(fft=np.array([0]))
    width = effective_width(radio, 0, duty * period, float(tau_327(dm)), dm)
    sky = float(t_sky_408([direction[0]], [direction[1]])[0])
    signal = signal_to_noise(radio, 0, 1e-3, width / period, 0.0, sky, math.radians(declination))
    return float(radio.threshold[0]) / signal


def test_GPPS_finds_pulsars_of_a_few_microjansky():
    """Flux densities of only a few or a few tens of uJy at 1.25 GHz (Su et al. 2023, abstract)."""
    found = faintest("FAST_GPPS", 0.5, 0.05, 100.0, (50.0, 3.0))
    assert 3e-3 < found < 9e-3


def test_LOTAAS_has_a_threshold_of_1_to_5_mJy():
    """A detection threshold of 1-5 mJy for periodic emission (Sanidas et al. 2019, abstract)."""
    found = [faintest("LOTAAS", 0.5, duty, 30.0, (100.0, 30.0), 45.0) for duty in (0.03, 0.1)]
    assert 1.0 < found[0] < found[1] < 5.0


def test_GBNCC_sees_0_74_mJy_in_the_mean():
    """A mean sensitivity of 0.74 mJy at 350 MHz (McEwen et al. 2020)."""
    rng = np.random.default_rng(1)
    longitude, sine = rng.uniform(-180.0, 180.0, 400), rng.uniform(0.0, 1.0, 400)
    latitude = np.degrees(np.arcsin(sine))
    found = [
        faintest("GBNCC", 0.5, 0.06, 30.0, (gl, gb))
        for gl, gb in zip(longitude, latitude, strict=True)
    ]
    assert np.mean(found) == pytest.approx(0.74, rel=0.2)


def test_PALFA_is_limited_at_some_20_microjansky():
    """As the radiometer equation of Cordes et al. 2006 with the Mock spectrometers' bandwidth."""
    found = faintest("PALFA_inner", 0.5, 0.05, 100.0, (45.0, 2.0))
    outer = found * 10.4 / 8.2
    assert outer == pytest.approx(0.020, rel=0.2)
    longer = faintest("PALFA_anticentre", 0.5, 0.05, 100.0, (45.0, 2.0))
    assert longer / found == pytest.approx(math.sqrt(268.0 / 180.0), rel=1e-6)


def test_PALFA_has_its_most_sensitive_beam_in_the_middle():
    survey = surveys()["PALFA_inner"]
    assert survey.G0 == 10.4
    gains, shares = np.array(survey.beams).T
    np.testing.assert_allclose(survey.G0 * gains, [10.4, 8.2])
    np.testing.assert_allclose(shares, [1 / 7, 6 / 7])


def test_MMGPS_has_the_noise_of_its_telescope():
    """MeerKAT's 2.8 K/Jy and 18 K (Bailes et al. 2020), with 44 of 64 antennas for 505 s."""
    found = faintest("MMGPS_L", 0.5, 0.1, 10.0, (-60.0, 5.0))
    sky = float(t_sky_408([-60.0], [5.0])[0]) * (1284.0 / 408.0) ** -2.6
    noise = 1e3 * (18.0 + sky) / (2.8 * 44 / 64) / math.sqrt(2 * 505 * 700e6)
    assert found == pytest.approx(9.0 * noise / 3.0, rel=1e-3)
    assert 0.03 < found < 0.06


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("FAST_GPPS", (40.0, 9.0, 280.0, 10.0), (40.0, 11.0, 280.0, 10.0)),
        ("FAST_GPPS", (40.0, 9.0, 280.0, -13.0), (40.0, 9.0, 280.0, -15.0)),
        ("MMGPS_L", (-60.0, 5.0, 180.0, -60.0), (-60.0, 5.3, 180.0, -60.0)),
        ("PALFA_inner", (33.0, 4.0, 285.0, 5.0), (31.0, 4.0, 285.0, 5.0)),
        ("PALFA_anticentre", (175.0, 4.0, 80.0, 30.0), (150.0, 4.0, 60.0, 37.0)),
        ("PALFA_anticentre", (-150.0, 4.0, 100.0, 15.0), (-140.0, 4.0, 100.0, 10.0)),
        ("GBNCC", (10.0, 40.0, 230.0, -39.0), (10.0, 40.0, 230.0, -41.0)),
        ("LOTAAS", (100.0, 20.0, 100.0, 1.0), (100.0, 20.0, 100.0, -1.0)),
    ],
)
def test_areas(key, inside, outside):
    chosen = [surveys()[key]]
    assert coverage(chosen, *([value] for value in inside))[0] == 1
    assert coverage(chosen, *([value] for value in outside))[0] == 0
