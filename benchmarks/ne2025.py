"""Dispersion measures of NE2025: our integral against that of its package.

    python -m benchmarks.ne2025 [--lines 1000] [--stars 100000] [--distances FOLDER]

Needs `mlpop[ne2025]`. Lines are those of `dispersion.py`. The package integrates with its own
steps, the smooth Galaxy from splines through points 100 pc apart; so its numbers are no exact ones
either. Costs are those of one core. FOLDER holds `psr_dist_data.npz` and `GCdata.npz` of the
package's repository (`ne2025f/cal.NE2025`), distances of 171 pulsars and clusters: the dispersion
measures that both models have there are compared with those observed.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks.dispersion import draw_lines
from mlpop.population.galaxy.dispersion import dispersion_measures


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


def against_package(lines: int) -> None:
    """Compare random lines one by one."""
    l_deg, b_deg, d = draw_lines(lines, seed=1)
    started = time.process_time()
    theirs = np.array([of_package(*line) for line in zip(l_deg, b_deg, d, strict=True)])
    cost = (time.process_time() - started) / lines
    ours = dispersion_measures(l_deg, b_deg, d, "ne2025")
    error = np.abs(ours / theirs - 1.0)
    say(
        f"{lines} lines of {d.mean():.1f} kpc in the mean, package {cost:.2f} s each; ours over "
        f"theirs {np.mean(ours / theirs):.4f} in the mean, difference median "
        f"{np.median(error):.1e}, 90 % {np.quantile(error, 0.9):.1e}, 99 % "
        f"{np.quantile(error, 0.99):.1e}, max {error.max():.1e}"
    )
    for k in np.argsort(error)[-5:]:
        say(f"  l {l_deg[k]:.3f} b {b_deg[k]:.3f} d {d[k]:.3f}: {ours[k]:.2f} and {theirs[k]:.2f}")


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
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--stars", type=int, default=100_000)
    parser.add_argument("--distances", type=Path)
    options = parser.parse_args()
    if options.distances is not None:
        at_known_distances(options.distances)
    costs(options.stars)
    against_package(options.lines)


if __name__ == "__main__":
    main()
