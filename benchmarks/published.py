"""The numbers that we check ourselves by: published and golden counts, with their errors.

    python -P benchmarks/published.py counts [--births edm arms] [--databases 6] [--stars 120000]
        [--seeds 40]
    python -P benchmarks/published.py births
    python -P benchmarks/published.py smps --database FOLDER [--seeds 40]

`counts`: detections of 7e5 created stars against the table of the specification (section 9.4).
`births`: the share of births by electron density within 0.5 kpc of the Sun, by the grid's nodes.
`smps`: at which birth rate the Swinburne survey has its pulsars at the fit of Graber et al. 2024,
and what one number of it after the other changes; FOLDER is a stellar database up to 1e8 yr. All
variants look at the same stars in one simulation, so that differences are far more precise than
the counts themselves.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlpop.config.base import read_json
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.constants import TWO_PI
from mlpop.population.galaxy.birthmap import _density
from mlpop.population.stars.database import StellarDatabase
from mlpop.population.surveys.survey import FOLDER
from mlpop.population.synthesis.detected_population import synthesize

GROUPS = ("PMPS", "SMPS", "HTRU_low_mid", "HTRU_high")
CREATED = 700_000
EXPECTED = {"edm": (987, 251, 1249, 251), "arms": (991, 274, 1218, 294)}
EXPECTED_SEEDS = 5
"""Detections of CREATED stars up to 3e7 yr, means over so many runs (specification, 9.4)."""
NEAR_KPC, SUN_KPC = 0.5, 8.3
SMPS_TARGET = 218
UNREACHABLE = 10**6
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "latitudes 5 to 15": {"b_range_abs": [5, 15]},
    "no Fourier efficiency": {"FFT_search": False},
    "degradation 1.5": {"deg_factor": 1.5},
    "degradation 1.5, no efficiency": {"deg_factor": 1.5, "FFT_search": False},
    "mean gain of all beams": {"G0": 0.643},
    "threshold 8": {"SNR_th": 8.0},
    "threshold 10": {"SNR_th": 10.0},
    "24 K": {"T_sys": 24.0},
    "28 K": {"T_sys": 28.0},
    "240 s": {"t_obs": 240.0},
    "sampling 250 us": {"t_samp": 250.0},
    "beams of 14.4 arcmin": {"FWHM": 14.4},
}


def say(text: str) -> None:
    """Write one line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def targets(groups: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return targets that are never reached."""
    return {group: {"detected_real": UNREACHABLE} for group in groups}


def detections(stars: StellarDatabase, config: PopulationConfig, seeds: int) -> np.ndarray:
    """Return the detections (seeds, groups) of all surveys of `config` in as many populations."""
    found = [synthesize(config, stars, np.random.SeedSequence(seed)) for seed in range(seeds)]
    return np.array([[p.n_detected[g] for g in config.surveys_radio] for p in found])


def counts(births: Sequence[str], databases: int, n: int, seeds: int) -> None:
    """Compare detections of several databases of `n` stars with the table."""
    rate = n * 100 / 3e7
    config = PopulationConfig.parse({"birth_rate_max": rate, "surveys_radio": targets(GROUPS)})
    for name in births:
        edm = {"NS_number": n, "sample_edm": name == "edm"}
        found = np.array(
            [
                detections(
                    StellarDatabase.generate(DynamicsConfig.parse(edm | {"seed": seed})),
                    config,
                    seeds,
                )
                for seed in range(1, databases + 1)
            ]
        ) * (CREATED / n)  # fmt: skip
        means = found.mean(1)
        error = means.std(0, ddof=1) / math.sqrt(databases)
        of_seed = found.std(1, ddof=1).mean(0)
        excess = means.var(0, ddof=1) - of_seed**2 / seeds
        of_stars = np.sqrt(np.maximum(excess, 0.0) * n / CREATED)
        say(f"births by {name}: {databases} databases of {n} stars, {seeds} seeds each")
        for k, group in enumerate(GROUPS):
            table = EXPECTED[name][k]
            ours, of_table = means[:, k].mean(), math.sqrt(table / EXPECTED_SEEDS)
            both = math.hypot(error[k], of_table)
            say(
                f"  {group:<13} {ours:7.1f} +- {error[k]:4.1f}, table {table} +- {of_table:.1f}: "
                f"{100 * (ours / table - 1):+.1f} +- {100 * both / table:.1f} %, "
                f"{(ours - table) / both:+.1f} sigma; a run scatters by "
                f"{of_seed[k] * math.sqrt(n / CREATED):.1f} (Poisson {math.sqrt(ours):.1f}), "
                f"the stars of a database by {of_stars[k]:.1f}"
            )


def near_the_sun(nodes: int, parts: int = 12) -> float:
    """Return the share of births near the Sun, of the bilinear map with `nodes` x `nodes`."""
    density = np.asarray(_density(20_000.0, nodes))
    step, turn = 20.0 / (nodes - 1), TWO_PI / (nodes - 1)
    corners = density[1:, 1:], density[1:, :-1], density[:-1, 1:], density[:-1, :-1]
    total = sum(float(corner.sum()) for corner in corners) / 4.0
    middle = (np.arange(parts) + 0.5) / parts
    t, s = np.meshgrid(middle, middle, indexing="ij")
    near = 0.0
    first, last = (int((SUN_KPC + sign * 0.7) / step) for sign in (-1, 1))
    around = int(0.08 / turn)
    for i in range(first, last + 1):
        for j in range(int(TWO_PI / 4 / turn) - around, int(TWO_PI / 4 / turn) + around + 1):
            low = (1 - s) * density[i, j] + s * density[i, j + 1]
            high = (1 - s) * density[i + 1, j] + s * density[i + 1, j + 1]
            r, phi = (i + t) * step, (j + s) * turn
            inside = np.hypot(r * np.cos(phi), r * np.sin(phi) - SUN_KPC) < NEAR_KPC
            near += float((((1 - t) * low + t * high) * inside).mean())
    return near / total


def births() -> None:
    """Tell how the share of births near the Sun depends on the grid."""
    for nodes in (251, 501, 1001, 2001, 4001):
        share = 100.0 * near_the_sun(nodes)
        say(f"{nodes} nodes, {20e3 / (nodes - 1):.0f} pc in radius: {share:.4f} % of all births")


def smps(folder: Path, seeds: int) -> None:
    """Tell what single numbers of the Swinburne survey change."""
    stars = StellarDatabase.open(folder)
    base = read_json(FOLDER / "SMPS.json") | {"versions": {}}
    own = [base | change | {"key": f"v{k}"} for k, change in enumerate(VARIANTS.values())]
    groups = [*GROUPS, *(survey["key"] for survey in own)]
    rate = math.floor(len(stars) * 100 / stars.t_age_max * 1e3) / 1e3
    for version in ("current", "older"):
        config = PopulationConfig.parse(
            {
                "preset": "graber2024",
                "survey_version": version,
                "birth_rate_max": rate,
                "surveys_radio": targets(groups),
                "surveys": own,
            }
        )
        found = detections(stars, config, seeds)
        places = {name: place for place, name in enumerate(config.surveys_radio)}
        say(f"{version} survey parameters, {seeds} seeds, detections at {rate:g} a century:")
        for group in GROUPS:
            n = found[:, places[group]]
            say(f"  {group:<13} {n.mean():7.1f} +- {n.std(ddof=1) / math.sqrt(seeds):.1f}")
        if version == "current":
            variants(found[:, [places[survey["key"]] for survey in own]], rate)


def variants(found: np.ndarray, rate: float) -> None:
    """Print the birth rate at which each variant of SMPS has its pulsars."""
    seeds = len(found)
    for name, n in zip(VARIANTS, found.T, strict=True):
        share = n.sum() / found[:, 0].sum()
        change = n - share * found[:, 0]
        error = math.sqrt(seeds) * change.std(ddof=1) / found[:, 0].sum()
        reached = rate * SMPS_TARGET / n.mean()
        say(f"  SMPS, {name:<31} {share:.3f} +- {error:.3f} times, {reached:.2f} a century")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("counts", "births", "smps"))
    parser.add_argument("--births", nargs="+", choices=tuple(EXPECTED), default=tuple(EXPECTED))
    parser.add_argument("--databases", type=int, default=6)
    parser.add_argument("--stars", type=int, default=120_000)
    parser.add_argument("--database", type=Path)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    if options.what == "counts":
        counts(options.births, options.databases, options.stars, options.seeds)
    elif options.what == "births":
        births()
    elif options.database is None:
        parser.error("smps needs --database")
    else:
        smps(options.database, options.seeds)


if __name__ == "__main__":
    main()
