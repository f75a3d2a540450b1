"""The field's decay in single precision, with its error: for bounds, not for results.

A look-up interpolates linearly in (ln B0, ln t) and costs a twentieth of the exact one. The nodes
are those of the `decay_table`, or, for the analytical law, which has none, its closed forms.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.pulsars.decay_table import STEP_B, STEP_T, T_FIRST, DecayTable
from mlpop.population.pulsars.field import ANALYTICAL, FieldLaw, log_decay, square_integral
from mlpop.population.single_precision import Single, f32, i32

ANALYTICAL_RANGE = (math.log(1e8), math.log(1e17))
"""Fields at birth in the grid of the analytical law, ln of [G]; it is constant below to 1e-4."""
SPARE = f32(1e-3)
"""Added to the error of interpolation: for rounding, and for what lies below the grid."""


class DecayGrid(NamedTuple):
    """Nodes of ln(J / t) and ln(B / B0).

    Attributes:
        low: (2,) smallest ln B0 of each of two blocks; weaker fields decay like the first.
        per_step: (2,) nodes for one e-fold of B0.
        high: largest ln B0.
        first_t: smallest ln t.
        last_t: largest ln t.
        integral: (2, n_b, n_t) ln(J / t).
        field: (2, n_b, n_t) ln(B / B0).
        error: largest errors of interpolating them.
    """

    low: Single
    per_step: Single
    high: np.float32
    first_t: np.float32
    last_t: np.float32
    integral: Single
    field: Single
    error: tuple[np.float32, np.float32]


@lru_cache(maxsize=8)
def _analytical_grid(law: FieldLaw, t_max: float) -> DecayGrid:
    low, high = ANALYTICAL_RANGE
    n_t = math.ceil(math.log(max(t_max, 10.0) / T_FIRST) / STEP_T) + 1
    n_b = math.ceil(0.5 * (high - low) / STEP_B) + 1
    ln_b0 = np.linspace(low, high, 2 * n_b - 1)
    ln_t = math.log(T_FIRST) + STEP_T * np.arange(n_t, dtype=np.float64)
    integral, field = _closed_forms(law, ln_b0, ln_t)
    blocks = [slice(0, n_b), slice(n_b - 1, 2 * n_b - 1)]
    return _grid(
        ln_b0[[0, n_b - 1]],
        np.full(2, ln_b0[1] - ln_b0[0]),
        high,
        float(ln_t[-1]),
        np.stack([integral[block] for block in blocks]),
        np.stack([field[block] for block in blocks]),
    )


def decay_grid(law: FieldLaw, table: DecayTable, t_max: float) -> DecayGrid | None:
    """Build the grid of a law for ages up to `t_max` [yr]; None where the law has no table."""
    if law.kind == ANALYTICAL:
        return _analytical_grid(law, t_max)
    if table.usable == 0:
        return None
    return _grid(table.low, table.step, table.high, table.last_t, table.integral, table.field)


def _grid(
    low: NDArray[np.float64],
    step: NDArray[np.float64],
    high: float,
    last_t: float,
    integral: NDArray[np.float64],
    field: NDArray[np.float64],
) -> DecayGrid:
    nodes = integral.astype(f32), field.astype(f32)
    error = f32(_largest_error(integral)) + SPARE, f32(_largest_error(field)) + SPARE
    ends = f32(high), f32(math.log(T_FIRST)), f32(last_t)
    return DecayGrid(low.astype(f32), (1.0 / step).astype(f32), *ends, *nodes, error)


@njit(cache=True)
def _largest_error(values: NDArray[np.float64]) -> float:
    """Return the largest error of linear interpolation, from second differences of the nodes.

    It is a sixth of them; an eighth is what a parabola has.
    """
    n_blocks, n_b, n_t = values.shape
    along_b, along_t = 0.0, 0.0
    for block in range(n_blocks):
        for i in range(n_b):
            for j in range(n_t):
                twice = 2.0 * values[block, i, j]
                if 0 < i < n_b - 1:
                    bend = values[block, i - 1, j] + values[block, i + 1, j] - twice
                    along_b = max(along_b, abs(bend))
                if 0 < j < n_t - 1:
                    bend = values[block, i, j - 1] + values[block, i, j + 1] - twice
                    along_t = max(along_t, abs(bend))
    return (along_b + along_t) / 6.0


@njit(cache=True)
def _closed_forms(
    law: FieldLaw, ln_b0: NDArray[np.float64], ln_t: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    integral = np.empty((ln_b0.size, ln_t.size))
    field = np.empty((ln_b0.size, ln_t.size))
    for i in range(ln_b0.size):
        for j in range(ln_t.size):
            t = math.exp(ln_t[j])
            integral[i, j] = math.log(square_integral(law, ln_b0[i], t)) - ln_t[j]
            field[i, j] = log_decay(law, ln_b0[i], t)
    return integral, field


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def interpolate(
    grid: DecayGrid, nodes: Single, ln_b0: Single, ln_t: Single, room: Single, out: Single
) -> None:
    """Fill `out` (n,) with ln(J / t) or ln(B / B0), whose `nodes` are given; NaN above the grid.

    `ln_b0` and `ln_t` are (n,); `room` (n,) is overwritten.
    """
    n_b, n_t = nodes.shape[1:]
    last_i, last_j, width, block = i32(n_b - 2), i32(n_t - 2), i32(n_t), i32(n_b * n_t)
    low, high, per_low, per_high = grid.low[0], grid.low[1], grid.per_step[0], grid.per_step[1]
    per_t, zero = f32(1.0 / STEP_T), f32(0.0)
    cells = np.empty(ln_b0.size, np.uint32)
    for k in range(ln_b0.size):
        upper = ln_b0[k] >= high
        x = (ln_b0[k] - (high if upper else low)) * (per_high if upper else per_low)
        x, y = max(x, zero), (ln_t[k] - grid.first_t) * per_t
        i, j = min(i32(x), last_i), min(i32(y), last_j)
        inside = ln_b0[k] <= grid.high and y >= zero
        out[k] = x - f32(i) if inside else f32(np.nan)
        room[k] = y - f32(j)
        cells[k] = np.uint32((block if upper else i32(0)) + i * width + j) if inside else 0
    flat, one, row = nodes.reshape(-1), np.uint32(1), np.uint32(n_t)
    for k in range(ln_b0.size):
        here, x, y = cells[k], out[k], room[k]
        a, b = flat[here], flat[here + one]
        c, d = flat[here + row], flat[here + row + one]
        a, c = a + y * (b - a), c + y * (d - c)
        out[k] = a + x * (c - a)
