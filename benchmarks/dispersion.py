"""Dispersion measures of a stellar database: the tabulated integral against the reference.

    python benchmarks/dispersion.py [--stars 100000] [--reference 3000]

Both integrate the same population in this one run, the reference a part of it; costs are those
of one core (process time), so that other work on the machine does not count.
"""

import argparse
import math
import sys
import time

import numba
import numpy as np

from mlpop.population.galaxy import electrons as ed
from mlpop.population.galaxy.dispersion import LINE_END, STEP, _direction, dispersion_measures


@numba.njit
def integral(l_deg: float, b_deg: float, d_kpc: float) -> float:
    """Integrate the whole model to one star by the midpoint rule [pc cm^-3]: the reference."""
    ax, ay, az = _direction(l_deg, b_deg)
    d = min(1e3 * d_kpc, LINE_END)
    h = STEP if d >= 1000.0 else d / 200
    total = 0.0
    for i in range(math.ceil(d / h - 1e-9)):
        width = min(h, d - i * h)
        t = i * h + 0.5 * width
        total += width * ed.electron_density(t * ax, ed.SUN_Y + t * ay, ed.SUN_Z + t * az, l_deg)
    return total


def draw_lines(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw l, b [deg] and d < 25 kpc of n stars: births in the disc, part of them kicked high."""
    rng = np.random.default_rng(seed)
    r, phi = rng.gamma(4.0, 1.9, 2 * n), rng.uniform(0.0, 2.0 * np.pi, 2 * n)
    height = np.where(rng.random(2 * n) < 0.4, 0.2, 1.5)
    z = rng.exponential(height) * rng.choice([-1.0, 1.0], 2 * n) - 0.02
    towards, along = 8.3 - r * np.sin(phi), r * np.cos(phi)
    d = np.sqrt(towards**2 + along**2 + z**2)
    keep = np.flatnonzero(d < 25.0)[:n]
    l_deg, b_deg = np.degrees(np.arctan2(along, towards)), np.degrees(np.arcsin(z / d))
    return l_deg[keep], b_deg[keep], d[keep]


def main() -> None:
    """Time both, and compare their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=100_000)
    parser.add_argument("--reference", type=int, default=3000)
    arguments = parser.parse_args()
    l_deg, b_deg, d = draw_lines(arguments.stars, seed=1)
    part = slice(arguments.reference)

    integral(0.0, 0.0, 1.0)
    started = time.process_time()
    lines = zip(l_deg[part], b_deg[part], d[part], strict=True)
    exact = np.array([integral(*line) for line in lines])
    plain = (time.process_time() - started) / exact.size

    dispersion_measures(l_deg[:2], b_deg[:2], d[:2])
    started, wall = time.process_time(), time.perf_counter()
    fast = dispersion_measures(l_deg, b_deg, d)
    wall = (time.perf_counter() - wall) / d.size
    cost = (time.process_time() - started) / d.size

    error = np.abs(fast[part] / exact - 1.0)
    report = (
        f"{d.size} stars at {d.mean():.1f} kpc in the mean",
        f"reference   {plain * 1e6:7.1f} us a star and core",
        f"tabulated   {cost * 1e6:7.1f} us a star and core, {plain / cost:.1f} times faster",
        f"wall        {wall * 1e6:7.1f} us a star: {wall * 1e6:.0f} s for 1e6 stars",
        f"difference  median {np.median(error):.1e}, 99 % {np.quantile(error, 0.99):.1e}, "
        f"max {error.max():.1e}",
    )
    sys.stdout.write("\n".join(report) + "\n")


if __name__ == "__main__":
    main()
