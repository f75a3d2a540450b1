"""A table of the field's decay: one look-up in place of a quadrature a star.

For the fitted laws ln(J / t) and ln(B / B0) are smooth in (ln B0, ln t) except across two values
of B0 where the law changes its form; each form has its own block of nodes. Weaker fields than the
lower boundary have a closed form and need none. Interpolation is cubic (Lagrange, 4 x 4 nodes).

All factors but (1 + t / tau_late)^(2 a_late) are the same for every theta: they are kept, and a
new `a_late` costs about a millisecond.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.pulsars.field import FITTED, FieldLaw, log_decay, square_integral

Array = NDArray[np.float64]

STEP_T = 0.08
"""Spacing of ln t."""
STEP_B = 0.1
"""Largest spacing of ln B0."""
T_FIRST = 1.0
"""Shortest age in the table [yr]; quadrature below."""
SHORTEST_TAU = 0.05
"""Fields that decay faster than this [yr] are left to quadrature."""
PER_CELL = 4
"""Gauss-Legendre nodes in each interval of ln t; the error is below 1e-13."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(PER_CELL)


class DecayTable(NamedTuple):
    """Nodes of ln(J / t) and of ln(B / B0).

    Attributes:
        usable: 0 where the law has no table; then look-ups fall back to quadrature.
        low: (2,) smallest ln B0 of each block.
        step: (2,) spacing of ln B0 in each block.
        high: largest ln B0 of the second block.
        first_t: smallest ln t.
        last_t: largest ln t.
        integral: (2, n_b, n_t) ln(J / t).
        field: (2, n_b, n_t) ln(B / B0).
    """

    usable: int
    low: Array
    step: Array
    high: float
    first_t: float
    last_t: float
    integral: Array
    field: Array


@lru_cache(maxsize=8)
def decay_table(law: FieldLaw, t_max: float) -> DecayTable:
    """Build the table for ages up to `t_max` [yr]; laws and tables are kept by value."""
    static = _static(law._replace(a_late=0.0), t_max)
    if static is None:
        empty = np.zeros((2, 4, 4))
        return DecayTable(0, np.zeros(2), np.ones(2), 0.0, 0.0, 0.0, empty, empty)
    late = np.exp(2.0 * law.a_late * np.log1p(static.inner / law.tau_late))
    integral = _accumulate(static.weight, late, static.ln_t)
    field = static.field + law.a_late * np.log1p(np.exp(static.ln_t) / law.tau_late)
    low, high = static.low, static.high
    n_b, n_t = integral.shape[1:]
    step = (np.array([low[1], high]) - low) / (n_b - 1)
    last_t = math.log(T_FIRST) + STEP_T * (n_t - 1)
    return DecayTable(1, low, step, high, math.log(T_FIRST), last_t, integral, field)


class _Static(NamedTuple):
    """What does not depend on a_late.

    Attributes:
        low: (2,) smallest ln B0 of each block.
        high: largest ln B0 of the second block.
        ln_t: (n_t,) nodes of ln t.
        weight: (2, n_b, n_t, PER_CELL) quadrature weight times (B / B0)^2 dt for a_late = 0 in
            the interval that ends at each node; the first interval starts at t = 0.
        inner: (n_t, PER_CELL) ages of the quadrature nodes [yr].
        field: (2, n_b, n_t) ln(B / B0) for a_late = 0.
    """

    low: Array
    high: float
    ln_t: Array
    weight: Array
    inner: Array
    field: Array


@lru_cache(maxsize=4)
def _static(law: FieldLaw, t_max: float) -> _Static | None:
    if law.kind != FITTED or law.b1 >= 0.0 or law.b2 >= 0.0:
        return None
    ln_late = math.log(law.tau_late)
    low = np.array([(ln_late - law.ln_A1) / law.b1, (ln_late - law.ln_A2) / law.b2])
    high = (math.log(SHORTEST_TAU) - law.ln_A1) / law.b1
    if not low[0] < low[1] < high:
        return None
    width = max(low[1] - low[0], high - low[1])
    n_b = max(4, math.ceil(width / STEP_B) + 1)
    n_t = max(4, math.ceil((math.log(max(t_max, 10.0)) - math.log(T_FIRST)) / STEP_T) + 1)
    ln_t = math.log(T_FIRST) + STEP_T * np.arange(n_t, dtype=np.float64)
    inner = np.exp(ln_t[:, None] + 0.5 * STEP_T * (_NODES - 1.0))
    # The first interval starts at t = 0 and is one number; its late factor is that of half way.
    inner[0, 0] = 0.5 * T_FIRST
    ln_b0 = np.stack([np.linspace(low[0], low[1], n_b), np.linspace(low[1], high, n_b)])
    weight, field = _static_nodes(law, ln_b0, np.exp(ln_t), inner)
    return _Static(low, high, ln_t, weight, inner, field)


@njit(cache=True)
def _block_decay(law: FieldLaw, block: int, ln_b0: float, t: float) -> float:
    """Return ln(B / B0) by the form of a block, on whichever side of its edge rounding puts us."""
    late = math.log1p(t / law.tau_late)
    first = math.log1p(t / math.exp(law.ln_A1 + law.b1 * ln_b0))
    if block == 0:
        return law.a1 * (first - late) + law.a_late * late
    second = math.log1p(t / math.exp(law.ln_A2 + law.b2 * ln_b0))
    return law.a1 * (first - second) + law.a2 * (second - late) + law.a_late * late


@njit(cache=True)
def _static_nodes(law: FieldLaw, ln_b0: Array, t: Array, inner: Array) -> tuple[Array, Array]:
    n_blocks, n_b = ln_b0.shape
    n_t, n_inner = inner.shape
    weight = np.empty((n_blocks, n_b, n_t, n_inner))
    field = np.empty((n_blocks, n_b, n_t))
    for block in range(n_blocks):
        for i in range(n_b):
            y = ln_b0[block, i]
            for j in range(n_t):
                field[block, i, j] = _block_decay(law, block, y, t[j])
                for k in range(n_inner):
                    age = inner[j, k]
                    square = math.exp(2.0 * _block_decay(law, block, y, age))
                    weight[block, i, j, k] = 0.5 * STEP_T * _WEIGHTS[k] * square * age
            weight[block, i, 0, :] = 0.0
            weight[block, i, 0, 0] = _start(law, block, y, t[0])
    return weight, field


@njit(cache=True)
def _start(law: FieldLaw, block: int, ln_b0: float, t: float) -> float:
    """Return J up to the first node, by 64 panels in ln(1 + t / tau1)."""
    tau = math.exp(law.ln_A1 + law.b1 * ln_b0)
    width = math.log1p(t / tau) / 64
    total = 0.0
    for panel in range(64):
        for k in range(PER_CELL):
            s = width * (panel + 0.5 * (1.0 + _NODES[k]))
            age = tau * math.expm1(s)
            total += _WEIGHTS[k] * math.exp(2.0 * _block_decay(law, block, ln_b0, age) + s)
    return 0.5 * width * tau * total


@njit(cache=True)
def _accumulate(weight: Array, late: Array, ln_t: Array) -> Array:
    n_blocks, n_b, n_t, n_inner = weight.shape
    out = np.empty((n_blocks, n_b, n_t))
    for block in range(n_blocks):
        for i in range(n_b):
            total = 0.0
            for j in range(n_t):
                for k in range(n_inner):
                    total += weight[block, i, j, k] * late[j, k]
                out[block, i, j] = math.log(total) - ln_t[j]
    return out


@njit(cache=True)
def lookup(table: DecayTable, law: FieldLaw, ln_b0: float, ln_t: float) -> tuple[float, float]:
    """Return ln(J / t) and ln(B / B0), both without the residual field.

    The first is good to 1e-6; the second, by the same nodes linearly, to about 0.01, enough to
    tell whether the residual field matters. `law` serves for what lies outside the table;
    `ln_b0` is ln of the field at birth [G], `ln_t` ln of the age [yr].
    """
    inside = table.low[0] <= ln_b0 < table.high and table.first_t <= ln_t <= table.last_t
    if table.usable == 0 or not inside:
        t = math.exp(ln_t)
        return math.log(square_integral(law, ln_b0, t)) - ln_t, log_decay(law, ln_b0, t)
    block = 1 if ln_b0 >= table.low[1] else 0
    n_b, n_t = table.integral.shape[1:]
    x = (ln_b0 - table.low[block]) / table.step[block]
    y = (ln_t - table.first_t) / STEP_T
    i = min(max(int(x) - 1, 0), n_b - 4)
    j = min(max(int(y) - 1, 0), n_t - 4)
    x -= i
    y -= j
    x0, x1, x2, x3 = _lagrange(x)
    y0, y1, y2, y3 = _lagrange(y)
    nodes = table.integral[block]
    integral = (
        x0 * _row(nodes, i, j, y0, y1, y2, y3)
        + x1 * _row(nodes, i + 1, j, y0, y1, y2, y3)
        + x2 * _row(nodes, i + 2, j, y0, y1, y2, y3)
        + x3 * _row(nodes, i + 3, j, y0, y1, y2, y3)
    )
    p, q = min(int(x), 2), min(int(y), 2)
    fx, fy = x - p, y - q
    field = table.field[block]
    lower = field[i + p, j + q] * (1.0 - fy) + field[i + p, j + q + 1] * fy
    upper = field[i + p + 1, j + q] * (1.0 - fy) + field[i + p + 1, j + q + 1] * fy
    return integral, lower * (1.0 - fx) + upper * fx


@njit(cache=True, inline="always")
def _row(nodes: Array, i: int, j: int, y0: float, y1: float, y2: float, y3: float) -> float:
    return nodes[i, j] * y0 + nodes[i, j + 1] * y1 + nodes[i, j + 2] * y2 + nodes[i, j + 3] * y3


@njit(cache=True, inline="always")
def _lagrange(x: float) -> tuple[float, float, float, float]:
    """Return the cubic Lagrange weights of nodes 0, 1, 2, 3 at x."""
    a, b, c = x - 1.0, x - 2.0, x - 3.0
    return -a * b * c / 6.0, x * b * c / 2.0, -x * a * c / 2.0, x * a * b / 6.0
