"""Spin-down and alignment in closed form: no differential equation is solved.

With tau = beta * integral B^2 dt [s^2] the equations

    dP/dt = beta B^2 / P (k0 + k1 sin^2 chi),   dchi/dt = -k2 beta B^2 / P^2 sin chi cos chi

depend on time through tau alone, and P (tan chi)^(k0/k2) (cos chi)^(-k1/k2) is conserved.

References:
    Philippov, Tchekhovskoy & Li 2014, MNRAS 441, 1879; Pons & Vigano 2019, Living Reviews in
    Computational Astrophysics 5, 3, equations 70-72.
"""

import math

from numba import njit

from mlpop.population.constants import LIGHT_SPEED
from mlpop.population.pulsars.field import NODES, WEIGHTS

SMALL = 1e-3


def moment_of_inertia(mass: float, radius: float) -> float:
    """Return 2/5 M R^2 [g cm^2] of a uniform sphere: `mass` [g], `radius` [cm]."""
    return 0.4 * mass * radius**2


def beta(mass: float, radius: float) -> float:
    """Return beta = pi^2 R^6 / (I c^3) [s G^-2]: `mass` [g], `radius` [cm]."""
    return math.pi**2 * radius**6 / (moment_of_inertia(mass, radius) * LIGHT_SPEED**3)


@njit(cache=True)
def force_free(p0: float, cos2_chi0: float, tau: float) -> tuple[float, float, float]:
    """Return P [s], sin^2 chi and cos^2 chi for k = (1, 1, 1), from `p0` [s] and tau [s^2].

    Newton's method on a convex increasing function of x = (tan chi0 / tan chi)^2 - 1, which stays
    well conditioned for aligned and orthogonal rotators alike.
    """
    target = 2.0 * tau / (p0 * p0)
    c = cos2_chi0
    s = 1.0 - c
    x = target if target < 1e-8 else math.sqrt(1.0 + 2.0 * target) - 1.0
    for _ in range(60):
        y = c * x
        if y < SMALL:
            q = 0.5 - y * (1.0 / 3.0 - y * (0.25 - 0.2 * y))
        else:
            q = (y - math.log1p(y)) / (y * y)
        step = (x + s * x * x * q - target) / (1.0 + s * x / (1.0 + y))
        x -= step
        # Quadratic convergence: the next step would be below rounding.
        if abs(step) <= 1e-8 * x:
            break
    x = max(x, 0.0)
    grown = 1.0 + c * x
    return p0 * (1.0 + x) / math.sqrt(grown), s / grown, c * (1.0 + x) / grown


@njit(cache=True)
def general(
    p0: float, cos2_chi0: float, tau: float, k0: float, k1: float, k2: float
) -> tuple[float, float, float]:
    """Return P [s], sin^2 chi and cos^2 chi for any torque coefficients with `k2` > 0.

    The unknown is z = ln(tan chi0 / tan chi) >= 0, in which d(ln P)/dz = (k0 + k1 sin^2 chi) / k2
    and dtau/dz = P^2 / k2: tau(z) is a smooth increasing integral, inverted by a bracketed Newton
    search. `p0` is in s, tau in s^2.
    """
    c, s = cos2_chi0, 1.0 - cos2_chi0
    target = tau * k2 / (p0 * p0)
    if target <= 0.0:
        return p0, s, c
    # dtau/dz >= P0^2 / k2, hence z <= target; and P grows at least like exp(k0 z / k2).
    low, high = 0.0, target
    z = high if high < 1.0 else math.log1p(high)
    for _ in range(200):
        excess = _elapsed(z, c, s, k0 / k2, k1 / k2) - target
        if excess > 0.0:
            high = z
        else:
            low = z
        guess = z - excess / _growth(z, c, s, k0 / k2, k1 / k2)
        if not low < guess < high:
            guess = 0.5 * (low + high)
        if abs(guess - z) <= 1e-14 * z:
            z = guess
            break
        z = guess
    shrunk = s * math.exp(-2.0 * z)
    norm = c + shrunk
    period = p0 * math.sqrt(_growth(z, c, s, k0 / k2, k1 / k2))
    return period, shrunk / norm, c / norm


@njit(cache=True)
def _growth(z: float, c: float, s: float, q0: float, q1: float) -> float:
    """Return (P / P0)^2 after tan chi has fallen by exp(-z)."""
    # cos^2 chi / cos^2 chi0 = 1 / (c + s exp(-2 z)), with no division by a vanishing cos chi0.
    return math.exp(2.0 * q0 * z) * (c + s * math.exp(-2.0 * z)) ** (-q1)


@njit(cache=True)
def _elapsed(z: float, c: float, s: float, q0: float, q1: float) -> float:
    """Return k2 tau / P0^2 = integral_0^z (P / P0)^2 dz', panel by panel."""
    # Where tan chi no longer counts, the integrand is one exponential.
    late = 20.0 - 0.5 * math.log(c) if c > 0.0 else z
    early = min(z, late)
    n_panels = int(early) + 1
    width = early / n_panels
    total = 0.0
    for panel in range(n_panels):
        for k in range(NODES.size):
            total += WEIGHTS[k] * _growth(width * (panel + 0.5 * (1.0 + NODES[k])), c, s, q0, q1)
    total *= 0.5 * width
    if z > late:
        rest = math.expm1(2.0 * q0 * (z - late)) / (2.0 * q0) if q0 > 0.0 else z - late
        total += rest * _growth(late, c, s, q0, q1)
    return total


@njit(cache=True)
def period_derivative(
    ln_b: float, period: float, sin2_chi: float, beta: float, k0: float, k1: float
) -> float:
    """Return dP/dt [s/s] today: ln of the field in G, the period in s, `beta` in s G^-2."""
    return beta * math.exp(2.0 * ln_b) / period * (k0 + k1 * sin2_chi)
