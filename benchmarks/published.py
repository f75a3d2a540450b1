"""The numbers that we check ourselves by: published and golden counts, with their errors.

    python -P benchmarks/published.py counts [--births edm arms] [--databases 6] [--stars 120000]
        [--seeds 40]
    python -P benchmarks/published.py births
    python -P benchmarks/published.py smps --databases_of FOLDER [FOLDER ...] [--seeds 40]

`counts`: detections of 7e5 created stars against the table of the specification (section 9.4).
`births`: the share of births by electron density within 0.5 kpc of the Sun, by the grid's nodes.
`smps`: at which birth rate the Swinburne survey has its pulsars at the fit of Graber et al. 2024,
and what one number of it after the other changes; FOLDER is a stellar database up to 1e8 yr, those
after it of other models. All variants look at the same stars in one simulation, so that
differences are far more precise than the counts themselves.
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
from mlpop.population.galaxy.birthmap import density_at_nodes
from mlpop.population.stars.database import StellarDatabase
from mlpop.population.surveys.survey import FOLDER
from mlpop.population.synthesis.detected_population import synthesize

GROUPS = ("PMPS", "SMPS", "HTRU_low_mid", "HTRU_high")
CREATED = 700_000
EXPECTED = {"edm": (987, 251, 1249, 251), "arms": (991, 274, 1218, 294)}
EXPECTED_SEEDS = 5
"""Detections of CREATED stars up to 3e7 yr, means over so many runs (specification, 9.4)."""
NEAR_KPC, SUN_KPC = 0.5, 8.3
TARGETS = {"PMPS": 1009, "SMPS": 218, "HTRU_low_mid": 1023, "HTRU_high": 20}
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
    "0.30 mJy instead of 0.263": {"deg_factor": 1.25 * 0.30 / 0.263},
}
WARMER = (10.0, 20.0)
"""Added to the sky at 408 MHz, everywhere [K]."""


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
    density = np.asarray(density_at_nodes(20_000.0, nodes))
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


def smps(folders: Sequence[Path], seeds: int) -> None:
    """Tell what single numbers of the Swinburne survey, the sky and other stars change."""
    first, *others = [StellarDatabase.open(folder) for folder in folders]
    base = read_json(FOLDER / "SMPS.json") | {"versions": {}}
    own = [base | change | {"key": f"v{k}"} for k, change in enumerate(VARIANTS.values())]
    groups = [*GROUPS, *(survey["key"] for survey in own)]
    for version in ("current", "older"):
        config = published(version, first, groups, own)
        found = detections(first, config, seeds)
        tell_groups(f"{version} survey parameters", config, found)
        if version == "current":
            places = [list(config.surveys_radio).index(survey["key"]) for survey in own]
            variants(found[:, places], config.birth_rate_max)
    for more in WARMER:
        columns = {**first.columns, "T_sky408": first.columns["T_sky408"] + np.float32(more)}
        config = published("older", first, GROUPS, [])
        found = detections(StellarDatabase(columns, first.header), config, seeds)
        tell_groups(f"a sky warmer by {more:g} K at 408 MHz", config, found)
    for stars in others:
        config = published("older", stars, GROUPS, [])
        tell_groups(str(stars.header["config"]), config, detections(stars, config, seeds))


def published(
    version: str,
    stars: StellarDatabase,
    groups: Sequence[str],
    own: Sequence[Mapping[str, Any]],
) -> PopulationConfig:
    """Return the fit of Graber et al. 2024, for all stars of a database."""
    rate = math.floor(len(stars) * 100 / stars.t_age_max * 1e3) / 1e3
    values = {"preset": "graber2024", "survey_version": version, "birth_rate_max": rate}
    return PopulationConfig.parse(
        values | {"surveys_radio": targets(groups), "surveys": list(own)}
    )


def tell_groups(title: str, config: PopulationConfig, found: np.ndarray) -> None:
    """Print the birth rates at which the four catalogues are complete."""
    say(f"{title}, {len(found)} seeds, detections at {config.birth_rate_max:g} a century:")
    for place, name in enumerate(config.surveys_radio):
        if name in TARGETS:
            n, error = found[:, place].mean(), found[:, place].std(ddof=1) / math.sqrt(len(found))
            rate = config.birth_rate_max * TARGETS[name] / n
            say(
                f"  {name:<13} {n:7.1f} +- {error:4.1f}: {TARGETS[name]} at "
                f"{rate:.3f} +- {rate * error / n:.3f} a century"
            )


def variants(found: np.ndarray, rate: float) -> None:
    """Print the birth rate at which each variant of SMPS has its pulsars."""
    seeds = len(found)
    for name, n in zip(VARIANTS, found.T, strict=True):
        share = n.sum() / found[:, 0].sum()
        change = n - share * found[:, 0]
        error = math.sqrt(seeds) * change.std(ddof=1) / found[:, 0].sum()
        reached = rate * TARGETS["SMPS"] / n.mean()
        say(f"  SMPS, {name:<31} {share:.3f} +- {error:.3f} times, {reached:.2f} a century")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("counts", "births", "smps"))
    parser.add_argument("--births", nargs="+", choices=tuple(EXPECTED), default=tuple(EXPECTED))
    parser.add_argument("--databases", type=int, default=6)
    parser.add_argument("--stars", type=int, default=120_000)
    parser.add_argument("--databases_of", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    if options.what == "counts":
        counts(options.births, options.databases, options.stars, options.seeds)
    elif options.what == "births":
        births()
    elif options.databases_of is None:
        parser.error("smps needs --databases_of")
    else:
        smps(options.databases_of, options.seeds)


if __name__ == "__main__":
    main()
