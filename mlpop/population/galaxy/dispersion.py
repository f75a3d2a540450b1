"""Dispersion measures: integrals of the electron density along lines of sight.

The reference is a midpoint rule in steps of 5 pc (d / 200 for stars nearer than 1 kpc) through
the whole model of `electrons`, about 1 ms a line. `dispersion_measures` is for stellar databases
of millions of stars. It differs in three ways that its accuracy does not notice and its speed
does:

- the spiral arms in the plane, the dearest term, are read from a table on a 20-pc grid;
- the local features (Local Bubble, Loop I, Gum nebula) are evaluated only where the line passes
  through them; there, and in the Galactic centre, the steps are those of the reference;
- elsewhere, where nothing is thinner than 50 pc, the steps are 40 pc long, and longer far from
  the plane, where only the thick disc is left.

Against the reference its relative differences are below 2e-4 (median), 3e-3 (99 %) and 2e-2
(all); `benchmarks/dispersion.py` measures them.

Lines end at 25 kpc: the dispersion measure of a farther star is that at 25 kpc.

References:
    Yao, Manchester & Wang 2017, ApJ 835, 29 (YMW16).
"""

import functools
import math

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import DataError
from mlpop.population.constants import PC_KPC
from mlpop.population.galaxy import electrons as ed
from mlpop.population.galaxy.ne2025 import lines_of_sight
from mlpop.population.galaxy.ne2025_model import found_or_tabulated

STEP = 5.0
"""Step of the reference integral, and of ours where the structure is fine [pc]."""
LINE_END = 25_000.0
"""Length at which every line of sight ends [pc]."""
_NEAR, _NEAR_STEPS = 1000.0, 200

_CELL = 20.0
_CELLS = 2048
_HALF = 0.5 * _CELL * (_CELLS - 1)
# strides of the fast integral, in steps of the reference
_STRIDE, _STRIDE_HIGH = 8, 40
_HIGH = 1500.0
# beyond this distance from its axis the Galactic-centre disc is below 1e-4 of its surroundings
_CENTRE_FINE, _CENTRE_HEIGHT = 560.0, 210.0
GUM_REACH = 300.0
"""No part of the shell of the Gum nebula is farther from its centre than this [pc]."""

Array = NDArray[np.float64]


def dispersion_measures(
    l_deg: ArrayLike, b_deg: ArrayLike, d_kpc: ArrayLike, ed_model: str = "ymw16"
) -> Array:
    """Integrate the electron density to many stars, fast: (n,) dispersion measure [pc cm^-3].

    Every star is computed by itself, so that the result depends neither on the other stars nor
    on the number of numba threads.

    Args:
        l_deg, b_deg: (n,) Galactic longitude, in any turn, and latitude [deg].
        d_kpc: (n,) distance from the Sun [kpc], >= 0.
        ed_model: "ymw16" or "ne2025".

    Raises:
        DataError: shapes differ, a coordinate is not finite, or a distance is negative.
        ConfigError: the package of NE2025 is needed and not installed.
    """
    longitude, latitude, d = _checked(l_deg, b_deg, d_kpc)
    if ed_model == "ne2025":
        return lines_of_sight(longitude, latitude, d * PC_KPC, found_or_tabulated())
    # neighbours in longitude read the same part of the table, which then stays in the cache
    order = np.argsort(longitude, kind="stable")
    result = np.empty_like(d)
    _fast_many(longitude, latitude, d, order, _arms_table(), result)
    return result


def _checked(l_deg: ArrayLike, b_deg: ArrayLike, d_kpc: ArrayLike) -> tuple[Array, Array, Array]:
    """Return longitude in (-180, 180] [deg], latitude [deg] and line length [pc]."""
    columns = [np.atleast_1d(np.asarray(c, dtype=np.float64)) for c in (l_deg, b_deg, d_kpc)]
    shapes = [c.shape for c in columns]
    if len(set(shapes)) != 1 or columns[0].ndim != 1:
        raise DataError(f"l, b and d must be vectors of one length, but their shapes are {shapes}")
    for name, column in zip(("l", "b", "d"), columns, strict=True):
        bad = ~np.isfinite(column)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"{name} must be finite, but {name}[{row}] is {column[row]}")
    longitude, latitude, d = columns
    if (d < 0.0).any():
        row = int(np.argmax(d < 0.0))
        raise DataError(f"d must be >= 0 kpc, but d[{row}] is {d[row]}")
    longitude = 180.0 - np.mod(180.0 - longitude, 360.0)
    return longitude, latitude, np.minimum(d / PC_KPC, LINE_END)


@functools.cache
def _arms_table() -> NDArray[np.float32]:
    """Return the density of the arms in the plane on the grid of cells [cm^-3] (17 MB)."""
    table = np.empty((_CELLS, _CELLS), dtype=np.float32)
    _fill_arms(table)
    table.flags.writeable = False
    return table


@njit(cache=True, parallel=True)
def _fill_arms(table: NDArray[np.float32]) -> None:
    for i in prange(_CELLS):
        x = i * _CELL - _HALF
        for j in range(_CELLS):
            table[i, j] = _arms_at(x, j * _CELL - _HALF)


@njit(cache=True)
def _arms_at(x: float, y: float) -> float:
    theta = math.atan2(y, x)
    if theta < 0.0:
        theta += 2.0 * math.pi
    return ed.arms_in_plane(math.hypot(x, y), theta)


@njit(cache=True)
def _direction(l_deg: float, b_deg: float) -> tuple[float, float, float]:
    longitude, latitude = math.radians(l_deg), math.radians(b_deg)
    flat = math.cos(latitude)
    return flat * math.sin(longitude), -flat * math.cos(longitude), math.sin(latitude)


@njit(cache=True, parallel=True)
def _fast_many(
    l_deg: Array,
    b_deg: Array,
    d: Array,
    order: NDArray[np.int64],
    table: NDArray[np.float32],
    out: Array,
) -> None:
    for i in prange(order.size):
        k = order[i]
        out[k] = _fast(l_deg[k], b_deg[k], d[k], table)


@njit(cache=True)
def _arms(x: float, y: float, table: NDArray[np.float32]) -> float:
    """Interpolate the table; beyond its edge, where few stars are, compute."""
    u, v = (x + _HALF) / _CELL, (y + _HALF) / _CELL
    if u < 0.0 or v < 0.0 or u >= _CELLS - 1 or v >= _CELLS - 1:
        return _arms_at(x, y)
    i, j = int(u), int(v)
    fu, fv = u - i, v - j
    low = (1.0 - fv) * table[i, j] + fv * table[i, j + 1]
    high = (1.0 - fv) * table[i + 1, j] + fv * table[i + 1, j + 1]
    return (1.0 - fu) * low + fu * high


@njit(cache=True)
def _density(
    x: float, y: float, z: float, l_deg: float, local: bool, table: NDArray[np.float32]
) -> float:
    radius = math.sqrt(x * x + y * y)
    zp = ed.warped_height(x, z, radius)
    height = ed.scale_height(radius)
    profile = ed.arms_profile(zp, height)
    disc = profile * _arms(x, y, table) if profile > 0.0 else 0.0
    disc = max(disc, ed.thin_disc(radius, zp, height))
    thick = ed.thick_disc(radius, zp)
    centre = ed.galactic_centre(x, y, z)
    if local:
        return ed.combine(x, y, z, l_deg, thick, disc, centre)
    return thick + disc + centre


@njit(cache=True)
def _ball(
    ax: float, ay: float, az: float, px: float, py: float, pz: float, reach: float
) -> tuple[float, float]:
    """Return where a line from the Sun enters and leaves a ball, (inf, -inf) if never [pc]."""
    along = ax * px + ay * py + az * pz
    square = along * along - (px * px + py * py + pz * pz) + reach * reach
    if square < 0.0:
        return math.inf, -math.inf
    half = math.sqrt(square)
    return along - half, along + half


@njit(cache=True)
def _bubble_end(ax: float, ay: float, az: float) -> float:
    """Return where a line leaves the reach of the Local Bubble, a cylinder around the Sun [pc]."""
    p0 = ed.BUBBLE_COS * (ed.SUN_Y - ed.BUBBLE_Y) - ed.BUBBLE_SIN * ed.SUN_Z
    p1 = ed.BUBBLE_COS * ay - ed.BUBBLE_SIN * az
    a, b, c = p1 * p1 + ax * ax, p0 * p1, p0 * p0 - ed.BUBBLE_REACH**2
    if a < 1e-9:
        return LINE_END
    return (-b + math.sqrt(b * b - a * c)) / a


@njit(cache=True)
def _fast(l_deg: float, b_deg: float, d: float, table: NDArray[np.float32]) -> float:
    ax, ay, az = _direction(l_deg, b_deg)
    bubble = _bubble_end(ax, ay, az)
    loop0, loop1 = _ball(
        ax, ay, az, ed.LOOP_X, ed.LOOP_Y - ed.SUN_Y, ed.LOOP_Z - ed.SUN_Z, ed.LOOP_REACH
    )
    gum0, gum1 = _ball(ax, ay, az, ed.GUM_X, ed.GUM_Y - ed.SUN_Y, ed.GUM_Z - ed.SUN_Z, GUM_REACH)
    centre0, centre1 = math.inf, -math.inf
    flat = math.hypot(ax, ay)
    if flat > 0.0:
        centre0, centre1 = _ball(
            ax / flat, ay / flat, 0.0, ed.CENTRE_X, ed.CENTRE_Y - ed.SUN_Y, 0.0, _CENTRE_FINE
        )
        centre0, centre1 = centre0 / flat, centre1 / flat
        z0, z1 = ed.SUN_Z + centre0 * az, ed.SUN_Z + centre1 * az
        if min(z0, z1) > _CENTRE_HEIGHT or max(z0, z1) < -_CENTRE_HEIGHT:
            centre0, centre1 = math.inf, -math.inf
    h = STEP if d >= _NEAR else d / _NEAR_STEPS
    steps = int(d / h + 1e-9) if d > 0.0 else 0
    fine_only = d < _NEAR
    total = 0.0
    k = 0
    while k < steps:
        t = k * h
        local = t < bubble or loop0 - h < t < loop1 or gum0 - h < t < gum1
        stride = 1
        if not (local or fine_only or centre0 - h < t < centre1):
            z = abs(ed.SUN_Z + t * az)
            stride = _STRIDE_HIGH if z > _HIGH else _STRIDE
            ahead = math.inf
            if t < loop0:
                ahead = min(ahead, loop0)
            if t < gum0:
                ahead = min(ahead, gum0)
            if t < centre0:
                ahead = min(ahead, centre0)
            if ahead < t + stride * h:
                stride = max(1, int((ahead - t) / h))
            stride = min(stride, steps - k)
        t += 0.5 * stride * h
        x, y, z = t * ax, ed.SUN_Y + t * ay, ed.SUN_Z + t * az
        total += stride * h * _density(x, y, z, l_deg, local, table)
        k += stride
    rest = d - steps * h
    if rest > 1e-9 * h:
        t = d - 0.5 * rest
        x, y, z = t * ax, ed.SUN_Y + t * ay, ed.SUN_Z + t * az
        total += rest * _density(x, y, z, l_deg, True, table)
    return total
