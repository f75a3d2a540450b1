"""From birth to today: field, period, inclination and period derivative of each star."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mlpop.config.blocks.population import PopulationConfig, given
from mlpop.population.constants import YEAR_S
from mlpop.population.pulsars.decay_table import DecayTable, lookup
from mlpop.population.pulsars.field import FieldLaw, crossing_time, field_law, log_decay
from mlpop.population.pulsars.initial import Births
from mlpop.population.pulsars.spindown import beta, force_free, general, period_derivative

MARGIN = 0.02
"""Nearness to the residual field, in ln B, below which the table's field is made exact."""

Vector = NDArray[np.float64]


class Evolution(NamedTuple):
    """What one theta fixes for all stars.

    Attributes:
        law: decay of the field.
        beta: strength of the magnetic torque [s G^-2].
        ln_beta_yr: ln of beta times a year [s^2 G^-2 yr^-1].
        k0: torque of the aligned rotator.
        k1: additional torque of the orthogonal rotator.
        k2: strength of the alignment.
        force_free: 1 where k0 = k1 = k2 = 1.
    """

    law: FieldLaw
    beta: float
    ln_beta_yr: float
    k0: float
    k1: float
    k2: float
    force_free: int


class Spins(NamedTuple):
    """Stars today, all (n,).

    Attributes:
        P: period [s].
        P_dot: period derivative [s/s].
        chi: inclination [rad].
        B: dipole field at the pole [G].
    """

    P: Vector
    P_dot: Vector
    chi: Vector
    B: Vector


def evolution(config: PopulationConfig) -> Evolution:
    """Gather what `config` fixes for all stars."""
    strength = beta(config.NS_mass, given(config.NS_radius))
    k0, k1, k2 = config.k_coefficients
    simple = int(k0 == 1.0 and k1 == 1.0 and k2 == 1.0)
    return Evolution(field_law(config), strength, math.log(strength * YEAR_S), k0, k1, k2, simple)


def evolve_births(now: Evolution, table: DecayTable, births: Births, ages: ArrayLike) -> Spins:
    """Evolve stars with these properties at birth to their ages (n,) [yr]."""
    ln_t = np.log(np.asarray(ages, dtype=np.float64))
    return _evolve(now, table, births, ln_t)


@njit(cache=True)
def magnetic_time(
    now: Evolution, table: DecayTable, ln_b0: float, ln_floor: float, ln_t: float
) -> float:
    """Return tau = beta integral B^2 dt over the age [s^2], residual field included.

    Fields are ln of [G], the age is ln of [yr]. A star born below `ln_floor`, the residual field,
    keeps its field.
    """
    scale = now.ln_beta_yr + 2.0 * ln_b0
    if ln_b0 <= ln_floor:
        return math.exp(scale + ln_t)
    ln_mean, ln_decay = lookup(table, now.law, ln_b0, ln_t)
    if ln_b0 + ln_decay > ln_floor + MARGIN:
        return math.exp(scale + ln_t + ln_mean)
    t = math.exp(ln_t)
    if ln_b0 + log_decay(now.law, ln_b0, t) >= ln_floor:
        return math.exp(scale + ln_t + ln_mean)
    crossing = crossing_time(now.law, ln_b0, ln_floor, t)
    ln_mean, _ = lookup(table, now.law, ln_b0, math.log(crossing))
    rest = math.exp(2.0 * (ln_floor - ln_b0)) * max(0.0, t - crossing)
    return math.exp(scale) * (crossing * math.exp(ln_mean) + rest)


@njit(cache=True)
def ln_field_today(now: Evolution, ln_b0: float, ln_floor: float, ln_t: float) -> float:
    """Return ln of the field today [G], residual field included."""
    if ln_b0 <= ln_floor:
        return ln_b0
    return max(ln_floor, ln_b0 + log_decay(now.law, ln_b0, math.exp(ln_t)))


@njit(cache=True)
def spin_today(
    now: Evolution, p0: float, cos2_chi0: float, tau: float
) -> tuple[float, float, float]:
    """Return P [s], sin^2 chi and cos^2 chi."""
    if now.force_free:
        return force_free(p0, cos2_chi0, tau)
    return general(p0, cos2_chi0, tau, now.k0, now.k1, now.k2)


@njit(cache=True)
def _evolve(now: Evolution, table: DecayTable, births: Births, ln_t: Vector) -> Spins:
    n = ln_t.size
    period, derivative = np.empty(n), np.empty(n)
    chi, field = np.empty(n), np.empty(n)
    for i in range(n):
        ln_b0, ln_floor = births.ln_b0[i], births.ln_floor[i]
        tau = magnetic_time(now, table, ln_b0, ln_floor, ln_t[i])
        p0, cos2_chi0 = math.exp(births.ln_p0[i]), births.cos_chi0[i] ** 2
        period[i], sin2, cos2 = spin_today(now, p0, cos2_chi0, tau)
        ln_b = ln_field_today(now, ln_b0, ln_floor, ln_t[i])
        derivative[i] = period_derivative(ln_b, period[i], sin2, now.beta, now.k0, now.k1)
        chi[i] = math.atan2(math.sqrt(sin2), math.sqrt(cos2))
        field[i] = math.exp(ln_b)
    return Spins(period, derivative, chi, field)
