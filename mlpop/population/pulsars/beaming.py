"""Which stars turn a beam towards us.

Most others are refused by bounds on period and inclination long before they are evolved exactly.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.pulsars.decay_table import DecayTable
from mlpop.population.pulsars.evolution import Evolution, ln_field_today, magnetic_time, spin_today
from mlpop.population.pulsars.initial import Births
from mlpop.population.pulsars.radio import Beam, intercepted, opening_angle
from mlpop.population.pulsars.spindown import period_derivative

Vector = NDArray[np.float64]


class Beamed(NamedTuple):
    """Stars whose beam meets our line of sight, all (m,).

    Attributes:
        place: index into the stars that were tested.
        P: period [s].
        P_dot: period derivative [s/s].
        chi: inclination [rad].
        B: dipole field at the pole [G].
        zeta: angle between the line of sight and the spin axis [rad].
        rho: half opening angle of the beam [rad].
    """

    place: NDArray[np.int64]
    P: Vector
    P_dot: Vector
    chi: Vector
    B: Vector
    zeta: Vector
    rho: Vector


@njit(cache=True)
def beamed_stars(
    now: Evolution,
    table: DecayTable,
    beam: Beam,
    ages: NDArray[np.float32],
    rows: NDArray[np.int64],
    births: Births,
) -> Beamed:
    """Evolve stars as far as it takes to tell whether their beams meet our line of sight.

    `ages` (n_stars,) [yr] are those of the database, `rows` (n,) places in it.
    """
    n = rows.size
    place = np.empty(n, np.int64)
    found = np.empty((6, n))
    count = 0
    # The bounds hold for the force-free torque and a beam that narrows as the star slows down.
    bounded = now.force_free == 1 and beam.exponent <= 0.0
    for i in range(n):
        c, zeta = births.cos_chi0[i], math.acos(births.cos_zeta[i])
        p0 = math.exp(births.ln_p0[i])
        if bounded and zeta >= math.acos(c) + opening_angle(beam, p0):
            continue
        ln_t = math.log(ages[rows[i]])
        ln_b0, ln_floor = births.ln_b0[i], births.ln_floor[i]
        tau = magnetic_time(now, table, ln_b0, ln_floor, ln_t)
        if bounded and zeta >= _largest_reach(beam, p0, c, tau):
            continue
        period, sin2, cos2 = spin_today(now, p0, c * c, tau)
        chi = math.atan2(math.sqrt(sin2), math.sqrt(cos2))
        rho = opening_angle(beam, period)
        if not intercepted(chi, rho, zeta):
            continue
        ln_b = ln_field_today(now, ln_b0, ln_floor, ln_t)
        place[count] = i
        found[0, count] = period
        found[1, count] = period_derivative(ln_b, period, sin2, now.beta, now.k0, now.k1)
        found[2, count] = chi
        found[3, count] = math.exp(ln_b)
        found[4, count] = zeta
        found[5, count] = rho
        count += 1
    place, found = place[:count].copy(), found[:, :count].copy()
    return Beamed(place, found[0], found[1], found[2], found[3], found[4], found[5])


@njit(cache=True)
def _largest_reach(beam: Beam, p0: float, cos_chi0: float, tau: float) -> float:
    """Return an upper bound of chi + rho today [rad], from P^2 >= P0^2 + 2 tau.

    P sin chi / cos^2 chi is conserved, so a lower bound of P gives an upper bound of chi.
    """
    shortest = math.sqrt(p0 * p0 + 2.0 * tau)
    c = cos_chi0 * cos_chi0 * shortest
    s = math.sqrt(1.0 - cos_chi0 * cos_chi0) * p0
    sin_chi = 2.0 * s / (c + math.sqrt(c * c + 4.0 * s * s))
    return math.asin(min(1.0, sin_chi)) + opening_angle(beam, shortest)
