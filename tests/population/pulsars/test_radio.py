"""Radio emission of one pulsar: golden numbers of simulator.md 10.6."""

import math

import numpy as np
import pytest

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.pulsars.radio import (
    F_MEERKAT,
    beam_law,
    bolometric_flux,
    intercepted,
    ln_luminosity,
    luminosity_law,
    opening_angle,
    pulse_width,
    solid_angle,
    spectral_density,
)

DEFAULT = PopulationConfig.parse({})
PPDOT = DEFAULT.with_override({"radio_luminosity_model": "lum_radio_ppdot"})
BEAM = beam_law(DEFAULT)


def test_opening_angle_G54():
    found = [opening_angle(BEAM, period) for period in (0.5, 0.1, 0.01, 1.0)]
    assert found == pytest.approx([0.168207930, 0.376124366, 1.189409681, 0.118940968], rel=1e-6)


def test_opening_angle_is_at_most_a_right_angle():
    assert opening_angle(BEAM, 5e-3) == pytest.approx(math.pi / 2)
    assert opening_angle(BEAM, 6e-3) < math.pi / 2


def test_power_law_beam():
    beam = beam_law(DEFAULT.with_override({"radio_beam_model": "power-law_period_cone"}))
    assert math.degrees(opening_angle(beam, 4.0)) == pytest.approx(1.25, rel=1e-12)
    steep = beam_law(
        DEFAULT.with_override({"radio_beam_model": "power-law_period_cone", "a_beam": -0.3})
    )
    assert math.degrees(opening_angle(steep, 4.0)) == pytest.approx(2.5 * 4**-0.3, rel=1e-12)


def test_solid_angle_G55():
    found = [solid_angle(opening_angle(BEAM, period)) for period in (0.5, 0.1)]
    assert found == pytest.approx([0.177357096, 0.878449508], rel=1e-6)


def beaming_fraction(chi, rho):
    """Probability of interception (Emmering & Chevalier 1989, ApJ 345, 931)."""
    return math.cos(max(0.0, chi - rho)) - math.cos(min(math.pi / 2, chi + rho))


CASES = [(45, 0.5), (3, 0.5), (88, 0.1)]


def test_beaming_fraction_G56():
    found = [beaming_fraction(math.radians(c), opening_angle(BEAM, p)) for c, p in CASES]
    assert found == pytest.approx([0.236761754, 0.024226620, 0.399554623], rel=1e-6)


@pytest.mark.parametrize(("chi", "period"), CASES)
def test_interception_has_the_analytic_probability(chi, period):
    zeta = np.arccos(np.random.default_rng(1).random(200_000))
    chi, rho = math.radians(chi), opening_angle(BEAM, period)
    found = intercepted(np.full_like(zeta, chi), np.full_like(zeta, rho), zeta)
    assert found.mean() == pytest.approx(beaming_fraction(chi, rho), abs=4 * 0.5 / 200_000**0.5)
    assert [intercepted(chi, rho, z) for z in zeta[:50]] == found[:50].tolist()


@pytest.mark.parametrize(
    ("chi", "period", "zeta", "width"),
    [
        (45, 0.5, 48, 0.441352895),
        (45, 0.5, 45, 0.476328153),
        (10, 0.5, 12, 1.788890708),
        (60, 0.1, 50, 0.817950576),
        (2, 0.5, 5, 2 * math.pi),
        (0, 0.5, 5, 2 * math.pi),
        (45, 0.5, 0, 2 * math.pi),
    ],
)
def test_pulse_width_G57(chi, period, zeta, width):
    rho = opening_angle(BEAM, period)
    assert pulse_width(math.radians(chi), rho, math.radians(zeta)) == pytest.approx(
        width, rel=1e-6
    )


def test_pulse_width_G58():
    assert pulse_width(math.pi / 4, 0.1, 0.8) == pytest.approx(0.277910387, rel=1e-6)


def test_pulse_width_vanishes_at_the_beam_edge():
    chi, rho = 0.9, 0.2
    assert pulse_width(chi, rho, chi + rho * (1 - 1e-12)) < 1e-4


SPINS = [(0.5, 1e-15), (1.0, 1e-16)]


def test_spin_down_power_G59():
    law = luminosity_law(DEFAULT.with_override({"epsilon_L": 1.0, "L_radio_log10_mean": 29.0}))
    found = [math.exp(ln_luminosity(law, p, derivative, 0.0, 0.0)) for p, derivative in SPINS]
    assert found == pytest.approx([5.606853e32, 7.008567e30], rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [(DEFAULT, [5.237561e28, 2.660896e27]), (PPDOT, [2.828427e28, 3.162278e27])],
    ids=["G60", "G61"],
)
def test_median_luminosity(settings, expected):
    law = luminosity_law(settings)
    found = [math.exp(ln_luminosity(law, p, derivative, 0.0, 0.0)) for p, derivative in SPINS]
    assert found == pytest.approx(expected, rel=1e-6)
    one_sigma = ln_luminosity(law, 0.5, 1e-15, 1.0, 0.0) - ln_luminosity(law, 0.5, 1e-15, 0.0, 0.0)
    assert one_sigma == pytest.approx(0.8 * math.log(10.0))


LINE = DEFAULT.with_override({"radio_death_model": "line"})
VALLEY = DEFAULT.with_override(
    {
        "radio_death_model": "valley",
        "death_Edot_log10_mean": 31.0,
        "death_Edot_log10_sigma": 0.4,
    }
)
INERTIA = 0.4 * 2.8e33 * 1.259e6**2


def silent(settings, period, derivative, deviate=0.0):
    return ln_luminosity(luminosity_law(settings), period, derivative, 0.0, deviate) == -math.inf


@pytest.mark.parametrize("period", [0.3, 1.0, 8.5])
@pytest.mark.parametrize("law", ["lum_radio_edot", "lum_radio_ppdot"])
def test_death_line_of_Bhattacharya(period, law):
    settings = LINE.with_override({"radio_luminosity_model": law})
    field = 0.17e12 * period**2
    derivative = (field / 3.2e19) ** 2 / period
    assert silent(settings, period, derivative * (1 - 1e-9), deviate=9.0)
    assert not silent(settings, period, derivative * (1 + 1e-9), deviate=-9.0)
    # it is a line of constant spin-down power: 1.1e30 erg/s for 1e45 g cm^2
    power = 4 * math.pi**2 * 1e45 * derivative / period**3
    assert power == pytest.approx(1.114e30, rel=1e-3)
    assert not silent(settings.with_override({"radio_death_model": "none"}), period, 1e-25)


@pytest.mark.parametrize("law", ["lum_radio_edot", "lum_radio_ppdot"])
def test_death_valley_is_normal_in_the_logarithm_of_the_power(law):
    settings = VALLEY.with_override({"radio_luminosity_model": law})
    for deviate in (-2.0, 0.0, 1.5):
        power = 10 ** (31.0 + 0.4 * deviate)
        derivative = power * 0.7**3 / (4 * math.pi**2 * INERTIA)
        assert silent(settings, 0.7, derivative * (1 - 1e-9), deviate)
        assert not silent(settings, 0.7, derivative * (1 + 1e-9), deviate)


def test_a_star_on_the_loud_side_has_the_luminosity_of_the_law():
    found = [
        ln_luminosity(luminosity_law(settings), 0.5, 1e-15, 0.7, -3.0)
        for settings in (DEFAULT, LINE, VALLEY)
    ]
    assert found[0] == found[1] == found[2]


def _flux():
    law = luminosity_law(DEFAULT)
    luminosity = math.exp(ln_luminosity(law, 0.5, 1e-15, 0.0, 0.0))
    return bolometric_flux(luminosity, opening_angle(BEAM, 0.5), 5.0)


def test_bolometric_flux_G62():
    assert _flux() == pytest.approx(1.240622e-15, rel=1e-6)


def test_flux_density_G63_G64():
    found = [_flux() * spectral_density(-1.8, f * 1e6) for f in (1374, 1352, 1429, 190)]
    expected = [1.408080e-3, 1.449591e-3, 1.312035e-3, 4.957321e-2]
    assert found == pytest.approx(expected, rel=1e-6)
    assert _flux() * spectral_density(-1.6, 1374e6) == pytest.approx(2.836248e-3, rel=1e-6)
    assert pytest.approx(1429e6) == F_MEERKAT


@pytest.mark.parametrize("index", [-1.8, -1.0, -1.0 + 1e-13, 0.0, 1.0])
def test_spectrum_holds_the_whole_flux(index):
    ln_f = np.linspace(math.log(1e7), math.log(1e11), 200_001)
    density = np.array([spectral_density(index, f) for f in np.exp(ln_f[::100])])
    whole = np.trapezoid(density * np.exp(ln_f[::100]), ln_f[::100]) * 1e-23
    assert whole == pytest.approx(1.0, rel=1e-4)
