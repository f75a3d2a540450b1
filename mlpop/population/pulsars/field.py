"""Decay of the dipole field, B(t), and the integral of its square.

Everything here works with logarithms of fields and with the integral in units of B0^2:
J(t) = integral_0^t (B(t') / B0)^2 dt' [yr]. The residual field is not part of B(t) here; see
`crossing_time` and `mlpop.population.pulsars.spindown`.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from mlpop.config.blocks.population import PopulationConfig, given
from mlpop.population.constants import E_CHARGE, LIGHT_SPEED, YEAR_S

FITTED = 0
ANALYTICAL = 1

N_NODES = 48
NODES, WEIGHTS = np.polynomial.legendre.leggauss(N_NODES)
SERIES = 1e-3


class FieldLaw(NamedTuple):
    """A decay law: all times in yr, all fields in G.

    Attributes:
        kind: FITTED or ANALYTICAL.
        a1: exponent of the first power law.
        a2: exponent of the second.
        a_late: exponent of the last.
        ln_A1: tau1 = A1 B0^b1 [yr].
        b1: see ln_A1.
        ln_A2: tau2 = A2 B0^b2 [yr].
        b2: see ln_A2.
        tau_late: onset of the last power law [yr].
        tau_ohm: Ohmic time scale of the analytical law [yr].
        hall: Hall time scale times B0 of the analytical law [yr G].
    """

    kind: int
    a1: float
    a2: float
    a_late: float
    ln_A1: float
    b1: float
    ln_A2: float
    b2: float
    tau_late: float
    tau_ohm: float
    hall: float


def field_law(config: PopulationConfig) -> FieldLaw:
    """Build the decay law that `config` asks for.

    References:
        Graber et al. 2024, ApJ 968, 16, appendix A (fitted); Aguilera, Pons & Miralles 2008,
        A&A 486, 255, equation 17 (analytical).
    """
    if config.magneto_thermal_model == "analytical":
        conductivity, length, density = map(given, (config.sigma, config.L, config.n_e))
        square = 4.0 * math.pi * length**2
        tau_ohm = square * conductivity / (LIGHT_SPEED**2 * YEAR_S)
        hall = square * E_CHARGE * density / (LIGHT_SPEED * YEAR_S)
        return FieldLaw(ANALYTICAL, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, tau_ohm, hall)
    a1, a2, a_late, b1, b2 = map(
        given, (config.a1, config.a2, config.a_late, config.b1, config.b2)
    )
    ln_1, ln_2 = math.log(given(config.A1)), math.log(given(config.A2))
    tau_late = given(config.tau_late)
    return FieldLaw(FITTED, a1, a2, a_late, ln_1, b1, ln_2, b2, tau_late, 1.0, 1.0)


@njit(cache=True)
def time_scales(law: FieldLaw, ln_b0: float) -> tuple[float, float]:
    """Return tau1 and tau2 [yr] of the fitted law."""
    return math.exp(law.ln_A1 + law.b1 * ln_b0), math.exp(law.ln_A2 + law.b2 * ln_b0)


@njit(cache=True)
def log_decay(law: FieldLaw, ln_b0: float, t: float) -> float:
    """Return ln(B(t) / B0) at age `t` [yr], without the residual field; B0 in G."""
    if law.kind == ANALYTICAL:
        ratio = law.tau_ohm / law.hall * math.exp(ln_b0)
        return -t / law.tau_ohm - math.log1p(-ratio * math.expm1(-t / law.tau_ohm))
    tau1, tau2 = time_scales(law, ln_b0)
    late = math.log1p(t / law.tau_late)
    if tau2 < law.tau_late:
        first, second = math.log1p(t / tau1), math.log1p(t / tau2)
        return law.a1 * (first - second) + law.a2 * (second - late) + law.a_late * late
    if tau1 < law.tau_late:
        return law.a1 * (math.log1p(t / tau1) - late) + law.a_late * late
    return law.a_late * late


@njit(cache=True)
def decay_slope(law: FieldLaw, ln_b0: float, t: float) -> float:
    """Return d ln B / d ln t at age `t` [yr], without the residual field."""
    if law.kind == ANALYTICAL:
        ratio = law.tau_ohm / law.hall * math.exp(ln_b0)
        x = t / law.tau_ohm
        return -x * (1.0 + ratio * math.exp(-x) / (1.0 - ratio * math.expm1(-x)))
    tau1, tau2 = time_scales(law, ln_b0)
    late = t / (law.tau_late + t)
    if tau2 < law.tau_late:
        first, second = t / (tau1 + t), t / (tau2 + t)
        return law.a1 * (first - second) + law.a2 * (second - late) + law.a_late * late
    if tau1 < law.tau_late:
        return law.a1 * (t / (tau1 + t) - late) + law.a_late * late
    return law.a_late * late


@njit(cache=True)
def square_integral(law: FieldLaw, ln_b0: float, t: float) -> float:
    """Return J(t) = integral_0^t (B / B0)^2 dt' [yr], without the residual field; t in yr.

    The analytical law and the weakest fitted fields have closed forms; the rest is 48-point
    Gauss-Legendre quadrature in ln(1 + t / tau), tau the shortest time scale (1e-12 relative).
    """
    if law.kind == ANALYTICAL:
        return _analytical_integral(law, ln_b0, t)
    tau1, tau2 = time_scales(law, ln_b0)
    if tau2 >= law.tau_late and tau1 >= law.tau_late:
        return _power_integral(law, t)
    shortest = min(tau1, min(tau2, law.tau_late))
    upper = math.log1p(t / shortest)
    total = 0.0
    for k in range(N_NODES):
        s = 0.5 * upper * (1.0 + NODES[k])
        age = shortest * math.expm1(s)
        total += WEIGHTS[k] * math.exp(2.0 * log_decay(law, ln_b0, age) + s)
    return 0.5 * upper * shortest * total


@njit(cache=True)
def _power_integral(law: FieldLaw, t: float) -> float:
    exponent = 2.0 * law.a_late + 1.0
    late = math.log1p(t / law.tau_late)
    x = exponent * late
    if abs(x) < 1e-8:
        return law.tau_late * late * (1.0 + 0.5 * x)
    return law.tau_late * math.expm1(x) / exponent


@njit(cache=True)
def _analytical_integral(law: FieldLaw, ln_b0: float, t: float) -> float:
    ratio = law.tau_ohm / law.hall * math.exp(ln_b0)
    spent = -math.expm1(-t / law.tau_ohm)
    x = ratio * spent
    if x < SERIES:
        bend = -0.5 + x * (2.0 / 3.0 - x * (0.75 - 0.8 * x))
    else:
        bend = (x / (1.0 + x) - math.log1p(x)) / (x * x)
    return law.tau_ohm * spent * (1.0 / (1.0 + x) + spent * bend)


@njit(cache=True)
def crossing_time(law: FieldLaw, ln_b0: float, ln_floor: float, t: float) -> float:
    """Return when a field of ln B0 falls to the residual field, ln of [G] both [yr].

    The field falls monotonically, and has fallen below it by the age `t` [yr]; so a bracketed
    Newton search in ln t finds the one crossing.
    """
    target = ln_floor - ln_b0
    low, high = math.log(t) - 60.0, math.log(t)
    x = high
    for _ in range(100):
        age = math.exp(x)
        excess = log_decay(law, ln_b0, age) - target
        if excess > 0.0:
            low = x
        else:
            high = x
        slope = decay_slope(law, ln_b0, age)
        guess = x - excess / slope if slope < 0.0 else low
        if not low < guess < high:
            guess = 0.5 * (low + high)
        if abs(guess - x) < 1e-10:
            return math.exp(guess)
        x = guess
    return math.exp(x)
