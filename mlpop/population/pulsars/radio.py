"""Radio emission of one pulsar: beam, geometry, pulse width, luminosity, flux density."""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.config.blocks.population import PopulationConfig, given
from mlpop.population.constants import DEG, JY, KPC_CM, LIGHT_SPEED, LN10, MHZ
from mlpop.population.pulsars.spindown import moment_of_inertia

F_MIN = 1e7
"""Lower end of the radio spectrum [Hz]."""
F_MAX = 1e11
"""Upper end of the radio spectrum [Hz]."""
F_MEERKAT = 1429.0 * MHZ
"""Channel 6 of the MeerKAT census [Hz]."""
CHARACTERISTIC_FIELD = 3.2e19
"""B / sqrt(P Pdot) [G s^-1/2] of the field that observers quote."""
HALF_PI = 0.5 * math.pi
LN_BAND = math.log(F_MAX / F_MIN)

Vector = NDArray[np.float64]


class Beam(NamedTuple):
    """Opening angle rho = coefficient * P^exponent [rad], at most pi/2."""

    coefficient: float
    exponent: float


class Luminosity(NamedTuple):
    """ln L = ln L0 + epsilon * ln(scale * Pdot / P^3), L0 log-normal; 0 of a star that is silent.

    A star is silent from the Pdot / P^3 on that is its own, log-normal over stars. A line in
    B / P^2 and one in the spin-down power are both of this kind: either is a power of Pdot / P^3.

    Attributes:
        ln_mean: mean of ln(L0 / erg/s).
        ln_sigma: standard deviation of it.
        epsilon: exponent.
        ln_scale: ln of what makes Pdot / P^3 the spin-down power in its unit; 0 for the law in
            P and Pdot themselves.
        ln_death: mean of ln of the Pdot / P^3 [s^-3] below which stars are silent; -inf for none.
        ln_death_sigma: standard deviation of it.
    """

    ln_mean: float
    ln_sigma: float
    epsilon: float
    ln_scale: float
    ln_death: float
    ln_death_sigma: float


def beam_law(config: PopulationConfig) -> Beam:
    """Build the beam that `config` asks for.

    References:
        Johnston et al. 2020, MNRAS 497, 1957, equation 2; Lorimer & Kramer 2004, equation 3.29;
        Maciesiak, Gil & Melikidze 2012, MNRAS 424, 1762.
    """
    if config.radio_beam_model == "power-law_period_cone":
        return Beam(given(config.rho_b_0) * DEG, given(config.a_beam))
    return Beam(math.sqrt(9.0 * math.pi * given(config.r_em) / (2.0 * LIGHT_SPEED)), -0.5)


def luminosity_law(config: PopulationConfig) -> Luminosity:
    """Build the luminosity law that `config` asks for.

    References:
        Pardo-Araujo et al. 2025, A&A 696, A114 (`lum_radio_edot`); Graber et al. 2024, ApJ 968,
        16 (`lum_radio_ppdot`).
    """
    ln_scale = 0.0
    if config.radio_luminosity_model == "lum_radio_edot":
        ln_scale = math.log(_edot_scale(config) / given(config.Erot_dot_0))
    return Luminosity(
        LN10 * given(config.L_radio_log10_mean),
        LN10 * config.L_radio_log10_sigma,
        given(config.epsilon_L),
        ln_scale,
        *death_law(config),
    )


def death_law(config: PopulationConfig) -> tuple[float, float]:
    """Return mean and standard deviation over stars of ln of the Pdot / P^3 of their death [s^-3].

    The line is that of observers: B is the field that a period and its derivative are said to
    tell, 3.2e19 G sqrt(P Pdot), so that it lies in their diagram where it was drawn, whatever
    torque and radius are. The valley stands for what differs from star to star and is not
    modelled, such as the field's geometry at the surface: each star has its own threshold, which
    it keeps. So stars fall silent once and for all, and none is dimmed on the way.

    References:
        Bhattacharya & van den Heuvel 1991, Physics Reports 203, 1, and Bhattacharya, Wijers,
        Hartman & Verbunt 1992, A&A 254, 198 (line); Chen & Ruderman 1993, ApJ 402, 264 (valley).
    """
    if config.radio_death_model == "line":
        ln_field = math.log(CHARACTERISTIC_FIELD)
        return 2.0 * (LN10 * given(config.death_BP2_log10) - ln_field), 0.0
    if config.radio_death_model == "valley":
        mean = LN10 * given(config.death_Edot_log10_mean) - math.log(_edot_scale(config))
        return mean, LN10 * given(config.death_Edot_log10_sigma)
    return -math.inf, 0.0


def _edot_scale(config: PopulationConfig) -> float:
    """Return 4 pi^2 I [g cm^2], which makes Pdot / P^3 the spin-down power."""
    return 4.0 * math.pi**2 * moment_of_inertia(config.NS_mass, given(config.NS_radius))


@njit(cache=True)
def opening_angle(beam: Beam, period: float) -> float:
    """Return the half opening angle of the beam [rad] at `period` [s]."""
    if beam.exponent == -0.5:
        return min(HALF_PI, beam.coefficient / math.sqrt(period))
    return min(HALF_PI, beam.coefficient * period**beam.exponent)


@njit(cache=True)
def solid_angle(rho: float) -> float:
    """Return the solid angle of both beams, 4 pi (1 - cos rho) [sr]."""
    return 8.0 * math.pi * math.sin(0.5 * rho) ** 2


@njit(cache=True)
def intercepted(chi: Any, rho: Any, zeta: Any) -> Any:
    """Tell whether a beam sweeps over the line of sight: angles in rad, of one or (n,) stars."""
    return (chi - rho < zeta) & (zeta < chi + rho)


@njit(cache=True)
def opening_angles(beam: Beam, periods: Vector) -> Vector:
    """Return the half opening angles [rad] at `periods` (n,) [s]."""
    rho = np.empty(periods.size)
    for i in range(periods.size):
        rho[i] = opening_angle(beam, periods[i])
    return rho


@njit(cache=True)
def pulse_width(chi: float, rho: float, zeta: float) -> float:
    """Return the width of the pulse [rad]; 2 pi where the line of sight stays in the beam.

    All angles are in rad, `chi` and `zeta` those of the magnetic axis and of the line of sight to
    the spin axis, `rho` half the beam's opening.

    References:
        Lorimer & Kramer 2004, equation 3.26; Maciesiak, Gil & Ribeiro 2011, MNRAS 414, 1314.
    """
    numerator = math.sin(0.5 * rho) ** 2 - math.sin(0.5 * (zeta - chi)) ** 2
    denominator = math.sin(zeta) * math.sin(chi)
    if denominator <= 0.0 or numerator >= denominator:
        return 2.0 * math.pi
    return 4.0 * math.asin(math.sqrt(max(0.0, numerator / denominator)))


@njit(cache=True)
def ln_luminosity(
    law: Luminosity, period: float, period_derivative: float, deviate: float, death: float
) -> float:
    """Return ln of the bolometric radio luminosity [erg/s] at a period [s] and derivative [s/s].

    `deviate` and `death` are standard normal deviates of the star's luminosity scale and of the
    logarithm of its threshold; below the threshold the luminosity is 0 and this -inf.
    """
    power = law.ln_scale + math.log(period_derivative) - 3.0 * math.log(period)
    if power < law.ln_scale + law.ln_death + law.ln_death_sigma * death:
        return -math.inf
    return law.ln_mean + law.ln_sigma * deviate + law.epsilon * power


@njit(cache=True)
def bolometric_flux(luminosity: float, rho: float, distance: float) -> float:
    """Return F = L / (Omega d^2) [erg/s/cm^2]: [erg/s], [rad], [kpc]."""
    return luminosity / (solid_angle(rho) * (distance * KPC_CM) ** 2)


@njit(cache=True)
def spectral_density(index: float, frequency: float) -> float:
    """Return the share of the bolometric flux at a frequency [Hz], as Jy per erg/s/cm^2.

    The spectrum is a power law of this index between F_MIN and F_MAX.
    """
    b = index + 1.0
    x = b * LN_BAND
    # b / (F_MAX^b - F_MIN^b) * F_MIN^b, which tends to 1 / ln(F_MAX / F_MIN) where b is 0
    share = b / math.expm1(x) if abs(x) > 1e-12 else 1.0 / LN_BAND
    return share * (frequency / F_MIN) ** b / (frequency * JY)
