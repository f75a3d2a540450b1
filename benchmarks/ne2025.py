"""Dispersion measures of NE2025: our integral against that of its package.

    python -m benchmarks.ne2025 [--lines 1000] [--package 100] [--stars 50000]
        [--distances FOLDER]

Needs `mlpop[ne2025]`. Lines are those of `dispersion.py`. `--lines` of them are integrated in
steps of 1.25 pc through the same model, which tells what our steps and closed forms cost in
accuracy; `--package` by the package, which tells what the table of the arms does too, but
integrates the smooth Galaxy from splines through points 100 pc apart and so is no exact number
either. Costs are those of one core. FOLDER holds `psr_dist_data.npz` and `GCdata.npz` of the
package's repository (`ne2025f/cal.NE2025`), distances of 171 pulsars and clusters: the dispersion
measures that both models have there are compared with those observed.
"""

import argparse
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from numba import njit

from benchmarks.dispersion import draw_lines
from mlpop.population.galaxy import ne2025
from mlpop.population.galaxy.dispersion import dispersion_measures
from mlpop.population.galaxy.ne2025_model import found_or_tabulated

FINE = 0.00125
"""Steps of the plain integral [kpc]."""


@njit
def plain(l_deg: float, b_deg: float, d: float, model: ne2025.Ne2025) -> float:
    """Integrate every component by the midpoint rule [pc cm^-3]."""
    longitude, latitude = math.radians(l_deg), math.radians(b_deg)
    flat = math.cos(latitude)
    n = max(200, int(d / FINE))
    total = 0.0
    for i in range(n):
        t = (i + 0.5) * d / n
        x, y = t * flat * math.sin(longitude), model.disc.r_sun - t * flat * math.cos(longitude)
        z = t * math.sin(latitude)
        density = ne2025.local_density(x, y, z, model.local)
        outside = density < 0.0
        if outside:
            density = ne2025.smooth(x, y, z, model.disc, model.arms)
        for k in range(model.ellipsoids.shape[0]):
            e = model.ellipsoids[k]
            dx, dy, dz = x - e[0], y - e[1], z - e[2]
            q = 0.0
            for m in range(3):
                q += (e[3 + 3 * m] * dx + e[4 + 3 * m] * dy + e[5 + 3 * m] * dz) ** 2
            if k == 0:
                if q <= 1.0 and outside:
                    density += model.disc.n_centre
            elif e[13] != 0.0 and q <= 1.0:
                density = e[12]
            elif e[13] == 0.0 and q < 3.0:
                density = e[12] * math.exp(-q)
        for k in range(model.clumps.shape[0]):
            c = model.clumps[k]
            q = ((x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2) / c[4] ** 2
            if c[5] != 0.0 and q <= 1.0:
                density += c[3]
            elif c[5] == 0.0 and q < 5.0:
                density += c[3] * math.exp(-q)
        total += density
    return 1e3 * total * d / n


def of_package(l_deg: float, b_deg: float, d: float) -> float:
    """Return the package's dispersion measure [pc cm^-3]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mwprop.nemod.NE2025 import ne2025

        return float(ne2025(l_deg, b_deg, d, -1, classic=False, dmd_only=True)[1]["DM"])


def say(text: str) -> None:
    """Write one line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def against_plain(lines: int) -> None:
    """Compare random lines with the plain integral."""
    l_deg, b_deg, d = draw_lines(lines, seed=1)
    model = found_or_tabulated()
    exact = np.array([plain(*line, model) for line in zip(l_deg, b_deg, d, strict=True)])
    tell(f"{lines} lines in steps of 1.25 pc", exact, l_deg, b_deg, d)


def against_package(lines: int) -> None:
    """Compare random lines with the package."""
    l_deg, b_deg, d = draw_lines(lines, seed=1)
    started = time.process_time()
    theirs = np.array([of_package(*line) for line in zip(l_deg, b_deg, d, strict=True)])
    cost = (time.process_time() - started) / lines
    tell(f"{lines} lines by the package, {cost:.2f} s each", theirs, l_deg, b_deg, d)


def tell(
    title: str, expected: np.ndarray, l_deg: np.ndarray, b_deg: np.ndarray, d: np.ndarray
) -> None:
    """Print how far our dispersion measures are from others of the same lines."""
    ours = dispersion_measures(l_deg, b_deg, d, "ne2025")
    error = np.abs(ours / expected - 1.0)
    say(
        f"{title}: {d.mean():.1f} kpc in the mean; ours {np.mean(ours / expected):.5f} of it in "
        f"the mean, difference median {np.median(error):.1e}, 90 % {np.quantile(error, 0.9):.1e}, "
        f"99 % {np.quantile(error, 0.99):.1e}, max {error.max():.1e}"
    )
    for k in np.argsort(error)[-3:]:
        say(f"  l {l_deg[k]:.3f} b {b_deg[k]:.3f} d {d[k]:.3f}: {ours[k]:.2f}, {expected[k]:.2f}")


def costs(stars: int) -> None:
    """Time many stars with both models."""
    l_deg, b_deg, d = draw_lines(stars, seed=1)
    for model in ("ymw16", "ne2025"):
        dispersion_measures(l_deg[:2], b_deg[:2], d[:2], model)
        started = time.process_time()
        dispersion_measures(l_deg, b_deg, d, model)
        say(f"{model}: {1e6 * (time.process_time() - started) / d.size:.1f} us a star and core")


def at_known_distances(folder: Path) -> None:
    """Compare both models with pulsars and clusters of known distance."""
    with np.load(folder / "psr_dist_data.npz") as near, np.load(folder / "GCdata.npz") as far:
        l_deg, b_deg, d, dm = (
            np.concatenate([near[name], far[name]]) for name in ("gl", "gb", "dkpc", "dm")
        )
    for model in ("ymw16", "ne2025"):
        ratio = np.log(dispersion_measures(l_deg, b_deg, d, model) / dm)
        say(
            f"{model}: {d.size} known distances, predicted over observed DM "
            f"{np.exp(np.median(ratio)):.3f} in the median, |ln ratio| "
            f"{np.median(np.abs(ratio)):.3f} in the median, within 20 %: "
            f"{np.mean(np.abs(ratio) < np.log(1.2)):.2f}"
        )


def main() -> None:
    """Run all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--package", type=int, default=100)
    parser.add_argument("--stars", type=int, default=50_000)
    parser.add_argument("--distances", type=Path)
    options = parser.parse_args()
    if options.distances is not None:
        at_known_distances(options.distances)
    costs(options.stars)
    against_plain(options.lines)
    against_package(options.package)


if __name__ == "__main__":
    main()
