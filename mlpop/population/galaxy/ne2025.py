"""Lines of sight through NE2025: what dispersion measures are made of, integrated fast.

Lengths are in **kpc**, the frame is that of the rest of `population`: x towards l = 90 deg, y
from the Galactic centre towards the Sun, z north; the model's own Sun stands at (0, 8.5, 0).

Clumps add to everything else, so each is integrated in closed form. Voids and the Galactic
centre are ellipsoids: steps end where a line enters and leaves them. Steps are 5 pc long (d / 200
for stars nearer than 1 kpc) in the local interstellar medium, and 40 pc or, far from the plane,
200 pc elsewhere; the thinnest disc there has a scale height of 150 pc.

References:
    Ocker & Cordes 2026, ApJ 1002, 3 (NE2025). Cordes & Lazio 2002, astro-ph/0207156 (NE2001),
    sections 3 and 4: the components and how they are combined.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit
from numpy.typing import NDArray

from mlpop.population.galaxy.electrons import sech2

Array = NDArray[np.float64]

STEP, STEP_COARSE, STEP_HIGH = 0.005, 0.04, 0.2
HIGH = 1.5
_NEAR, _NEAR_STEPS = 1.0, 200
_EXPONENTIAL_STEP = 0.002
_CLUMP_CUT, _VOID_CUT = 5.0, 3.0
"""Where a Gaussian clump and a Gaussian void end, in squares of their own size."""
_RING, _RING_CUT = 1.8, 10.0
_ARMS_CUT = 6.0


class Disc(NamedTuple):
    """The smooth Galaxy: thick disc, thin disc, Galactic centre [cm^-3, kpc]."""

    n1: float
    h1: float
    r1: float
    n2: float
    h2: float
    r2: float
    n_centre: float
    r_sun: float


class Local(NamedTuple):
    """The local interstellar medium, which replaces the smooth Galaxy [cm^-3, kpc].

    `low` and `super_` are ellipsoids (x, y, z, xx, yy, zz, xy, n): place, coefficients of the
    squares and of x y, density. `hot` is a slanted cylinder (x, y, z, a, b, c, slope, n), `loop`
    two spheres (x, y, z, r, width, n, n of the shell), cut at z = 0. Outside of `reach` from the
    Sun and `height` from the plane there is none of it.
    """

    low: Array
    super_: Array
    hot: Array
    loop: Array
    reach: float
    height: float


class Arms(NamedTuple):
    """The spiral arms in the plane: (nx, ny, k) density by scale height (k,) [cm^-3, kpc].

    The grid of squares of `cell` begins at -`half` in x and y; beyond it there are no arms.
    """

    plane: NDArray[np.float32]
    heights: Array
    half: float
    cell: float


class Ne2025(NamedTuple):
    """The model.

    `clumps` (n, 6) are x, y, z [kpc], density [cm^-3], size [kpc] and whether the edge is sharp.
    `ellipsoids` (m, 14) are x, y, z [kpc], nine elements of the matrix that makes the ellipsoid
    a unit sphere [1/kpc], density [cm^-3] and whether the edge is sharp: voids, of which the last
    one that holds a point replaces all else there; the first row is the Galactic centre, which
    adds to the discs.
    """

    disc: Disc
    local: Local
    arms: Arms
    clumps: Array
    ellipsoids: Array


def lines_of_sight(l_deg: Array, b_deg: Array, d_kpc: Array, model: Ne2025) -> Array:
    """Return the dispersion measures (n,) [pc cm^-3] of stars at l, b (n,) [deg] and d [kpc].

    Every star is computed by itself, so that the result depends neither on the other stars nor
    on the number of numba threads.
    """
    result = np.empty_like(d_kpc)
    # neighbours in longitude read the same part of the table; numba's own loops take no model
    order = np.argsort(l_deg, kind="stable")
    threads = get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        parts = np.array_split(order, threads)
        list(pool.map(lambda part: _many(l_deg, b_deg, d_kpc, part, model, result), parts))
    return result


@njit(cache=True, nogil=True)
def _many(
    l_deg: Array, b_deg: Array, d: Array, part: NDArray[np.int64], model: Ne2025, out: Array
) -> None:
    for k in part:
        out[k] = dispersion(l_deg[k], b_deg[k], d[k], model)


@njit(cache=True)
def smooth(x: float, y: float, z: float, disc: Disc, arms: Arms) -> float:
    """Return the density of thick disc, thin disc and spiral arms at a point [cm^-3]."""
    radius = math.hypot(x, y)
    total = 0.0
    if radius <= disc.r1:
        half_pi = 0.5 * math.pi
        plane = math.cos(half_pi * radius / disc.r1) / math.cos(half_pi * disc.r_sun / disc.r1)
        total += disc.n1 * plane * sech2(z / disc.h1)
    ring = ((radius - disc.r2) / _RING) ** 2
    if ring < _RING_CUT:
        total += disc.n2 * math.exp(-ring) * sech2(z / disc.h2)
    return total + spiral(x, y, z, arms)


@njit(cache=True)
def spiral(x: float, y: float, z: float, arms: Arms) -> float:
    """Return the density of the spiral arms at a point [cm^-3]."""
    u, v = (x + arms.half) / arms.cell, (y + arms.half) / arms.cell
    n = arms.plane.shape[0] - 1
    if u < 0.0 or v < 0.0 or u >= n or v >= n:
        return 0.0
    i, j = int(u), int(v)
    fu, fv = u - i, v - j
    total = 0.0
    for k in range(arms.heights.size):
        if abs(z) < _ARMS_CUT * arms.heights[k]:
            low = (1.0 - fv) * arms.plane[i, j, k] + fv * arms.plane[i, j + 1, k]
            high = (1.0 - fv) * arms.plane[i + 1, j, k] + fv * arms.plane[i + 1, j + 1, k]
            total += ((1.0 - fu) * low + fu * high) * sech2(z / arms.heights[k])
    return total


@njit(cache=True, inline="always")
def _in_ellipsoid(x: float, y: float, z: float, e: Array) -> bool:
    dx, dy, dz = x - e[0], y - e[1], z - e[2]
    return dx * dx * e[3] + dy * dy * e[4] + dz * dz * e[5] + dx * dy * e[6] <= 1.0


@njit(cache=True)
def local_density(x: float, y: float, z: float, local: Local) -> float:
    """Return the density of the local interstellar medium [cm^-3], -1 where it does not reach.

    The hot bubble comes before Loop I, that before the superbubble, that before the region of
    low density.
    """
    hot, loop = local.hot, local.loop
    width = hot[3]
    if hot[2] - hot[5] <= z <= 0.0:
        width = 0.001 + (hot[3] - 0.001) * (1.0 - z / (hot[2] - hot[5]))
    across = ((x - hot[0]) / width) ** 2 + ((y - hot[1] - hot[6] * z) / hot[4]) ** 2
    if across <= 1.0 and abs(z - hot[2]) <= hot[5]:
        return hot[7]
    if z >= 0.0:
        radius = math.sqrt((x - loop[0]) ** 2 + (y - loop[1]) ** 2 + (z - loop[2]) ** 2)
        if radius <= loop[3]:
            return loop[5]
        if radius <= loop[3] + loop[4]:
            return loop[6]
    if _in_ellipsoid(x, y, z, local.super_):
        return local.super_[7]
    if _in_ellipsoid(x, y, z, local.low):
        return local.low[7]
    return -1.0


@njit(cache=True)
def _clumps(ax: float, ay: float, az: float, d: float, clumps: Array, r_sun: float) -> float:
    """Integrate all clumps from the Sun to `d` along a line [kpc cm^-3]."""
    total = 0.0
    for k in range(clumps.shape[0]):
        x, y, z = clumps[k, 0], clumps[k, 1] - r_sun, clumps[k, 2]
        density, size = clumps[k, 3], clumps[k, 4]
        along = ax * x + ay * y + az * z
        beside = x * x + y * y + z * z - along * along
        sharp = clumps[k, 5] != 0.0
        square = (size * size if sharp else _CLUMP_CUT * size * size) - beside
        if square <= 0.0:
            continue
        first = max(0.0, along - math.sqrt(square))
        last = min(d, along + math.sqrt(square))
        if last <= first:
            continue
        if sharp:
            total += density * (last - first)
        else:
            ends = math.erf((last - along) / size) - math.erf((first - along) / size)
            peak = density * math.exp(-beside / (size * size))
            total += peak * 0.5 * math.sqrt(math.pi) * size * ends
    return total


@njit(cache=True)
def _squares(
    ax: float, ay: float, az: float, ellipsoid: Array, r_sun: float
) -> tuple[float, float, float]:
    """Return a, b, c of q(t) = a t^2 + 2 b t + c along a line; q is 1 at the ellipsoid's edge."""
    x, y, z = -ellipsoid[0], r_sun - ellipsoid[1], -ellipsoid[2]
    a = b = c = 0.0
    for i in range(3):
        m0, m1, m2 = ellipsoid[3 + 3 * i], ellipsoid[4 + 3 * i], ellipsoid[5 + 3 * i]
        place, turn = m0 * x + m1 * y + m2 * z, m0 * ax + m1 * ay + m2 * az
        a += turn * turn
        b += place * turn
        c += place * place
    return a, b, c


@njit(cache=True)
def dispersion(l_deg: float, b_deg: float, d: float, model: Ne2025) -> float:
    """Integrate the electron density from the Sun to one star [pc cm^-3].

    Args:
        l_deg, b_deg: Galactic longitude and latitude [deg].
        d: distance [kpc], at least 0.
        model: what to integrate.
    """
    disc, local, ellipsoids = model.disc, model.local, model.ellipsoids
    longitude, latitude = math.radians(l_deg), math.radians(b_deg)
    ax = math.cos(latitude) * math.sin(longitude)
    ay = -math.cos(latitude) * math.cos(longitude)
    az = math.sin(latitude)
    n = ellipsoids.shape[0]
    ends = np.empty((n, 2))
    squares = np.empty((n, 3))
    for k in range(n):
        a, b, c = _squares(ax, ay, az, ellipsoids[k], disc.r_sun)
        squares[k, 0], squares[k, 1], squares[k, 2] = a, b, c
        root = b * b - a * (c - (1.0 if ellipsoids[k, 13] != 0.0 else _VOID_CUT))
        ends[k, 0], ends[k, 1] = math.inf, -math.inf
        if root > 0.0:
            ends[k, 0], ends[k, 1] = (-b - math.sqrt(root)) / a, (-b + math.sqrt(root)) / a
    fine = STEP if d >= _NEAR else d / _NEAR_STEPS
    total, t = 0.0, 0.0
    while t < d:
        height = abs(t * az)
        near = t < local.reach and height < local.height
        h = min(fine, d) if near else (STEP_COARSE if height < HIGH else STEP_HIGH)
        inside = -1
        for k in range(n):
            if ends[k, 0] > t:
                h = min(h, ends[k, 0] - t)
            elif ends[k, 1] > t:
                h = min(h, ends[k, 1] - t)
                if k > 0:
                    inside = k
        h = min(h, d - t)
        if inside >= 0 and ellipsoids[inside, 13] == 0.0:
            h = min(h, _EXPONENTIAL_STEP)
        if t + h <= t:
            # an edge nearer than a double can tell
            h = 1e-12
        middle = t + 0.5 * h
        x, y, z = middle * ax, disc.r_sun + middle * ay, middle * az
        if inside >= 0:
            density = ellipsoids[inside, 12]
            if ellipsoids[inside, 13] == 0.0:
                a, b, c = squares[inside, 0], squares[inside, 1], squares[inside, 2]
                density *= math.exp(-(a * middle * middle + 2.0 * b * middle + c))
        else:
            density = local_density(x, y, z, local) if near else -1.0
            if density < 0.0:
                density = smooth(x, y, z, disc, model.arms)
                if ends[0, 0] < middle < ends[0, 1]:
                    density += disc.n_centre
        total += h * density
        t += h
    return 1e3 * (total + _clumps(ax, ay, az, d, model.clumps, disc.r_sun))
