"""The simulator against the plain way, in one run: time, counts of surveys, distributions.

    python benchmarks/bounds.py [--database FOLDER] [--repeats 7] [--seeds 1000] [--stars 250000]

The plain way draws every number of every star from numpy's generators, permutes all stars of the
database and evolves each one that a survey covers: neither random numbers nor bounds are shared.
Times are those of one core (process time), of whole default simulations, alternating, at four
thetas. With `--seeds` both ways make populations of `--stars` stars at six thetas; the mean
counts of every survey and the distributions of P, Pdot, DM and S1400 are compared.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.blocks.population import PopulationConfig, given
from mlpop.population.constants import CENTURY_YR, LN10
from mlpop.population.pulsars.initial import Births
from mlpop.population.stars.database import StellarDatabase, find_or_build
from mlpop.population.surveys.observing import Deviates
from mlpop.population.synthesis import detected_population
from mlpop.population.synthesis.detected_population import Population, synthesize
from mlpop.population.synthesis.stream import Stars, StarStream


def _births(b: float, b_sigma: float, p: float, p_sigma: float, **more: float) -> dict[str, float]:
    births = {"B_initial_log10_mean": b, "B_initial_log10_sigma": b_sigma}
    return births | {"P_initial_log10_mean": p, "P_initial_log10_sigma": p_sigma} | more


THETAS: Mapping[str, Mapping[str, float]] = {
    "centre": _births(13.0, 0.55, -0.9, 0.55),
    "default": _births(13.1, 0.45, -0.7, 0.5),
    "strong fields": _births(13.8, 0.4, -0.7, 0.5),
    "weak fields": _births(12.3, 0.4, -0.7, 0.5),
    "graber2024": _births(13.1, 0.45, -1.0, 0.38, a_late=-1.8),
    "pardo2025": _births(
        13.25, 0.75, -0.6, 0.3, a_late=-2.0, L_radio_log10_mean=26.9, epsilon_L=0.5
    ),
}
TIMED = ("centre", "default", "strong fields", "weak fields")
GROUPS = ("PMPS", "SMPS", "HTRU_low_mid", "HTRU_high")
COLUMNS = ("P", "P_dot", "DM", "S_radio_obs_mean_1400")
Runs = dict[str, Any]


class PlainStream(StarStream):
    """Draws as the books say, for log-normal births; see the head of this file."""

    def __init__(
        self,
        config: PopulationConfig,
        stars: Stars,
        seed: np.random.SeedSequence,
        *,
        bounded: bool,
    ) -> None:
        super().__init__(config, stars, seed, bounded=False)
        assert (config.magnetic_field_model, config.spin_period_model) == ("log-normal",) * 2
        self._rng = np.random.default_rng(seed)
        self._permutation = self._rng.permutation(len(stars))

    def draw(
        self, n: int, *, everyone: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Draw the next stars of the permutation that a survey covers."""
        rows = self._permutation[self.n_drawn : self.n_drawn + n]
        chosen = np.flatnonzero(self._coverage[rows])
        places = (self.n_drawn + chosen).astype(np.uint32)
        self.n_drawn += n
        return rows[chosen], places

    def births(self, places: NDArray[np.uint32]) -> Births:
        """Draw the properties at birth of as many stars as there are places."""
        config, rng, n = self.config, self._rng, len(places)
        b, b_sigma = given(config.B_initial_log10_mean), given(config.B_initial_log10_sigma)
        p, p_sigma = given(config.P_initial_log10_mean), given(config.P_initial_log10_sigma)
        return Births(
            LN10 * rng.normal(b, b_sigma, n),
            LN10 * rng.normal(config.B_millisec_mean, config.B_millisec_sigma, n),
            LN10 * rng.normal(p, p_sigma, n),
            rng.random(n),
            rng.random(n),
        )

    def _deviates(self, places: NDArray[np.uint32]) -> Deviates:
        config, rng, n = self.config, self._rng, len(places)
        return Deviates(
            luminosity=rng.standard_normal(n),
            spectral_index=rng.normal(config.mean_spectral_index, config.std_spectral_index, n),
            tau=10.0 ** rng.normal(0.0, config.tau_sc_log10_sigma, n),
            offset2=0.25 * rng.random((len(self.keys), n)),
            death=rng.standard_normal(n),
            beam=np.ones((len(self.keys), n)),
        )


def plain(config: PopulationConfig, stars: Stars, seed: np.random.SeedSequence) -> Population:
    """Simulate the plain way."""
    with mock.patch.object(detected_population, "StarStream", PlainStream):
        return synthesize(config, stars, seed)


WAYS = {"plain": plain, "here": synthesize}


def say(text: str) -> None:
    """Write one line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def time_both(stars: StellarDatabase, repeats: int) -> None:
    """Time whole default simulations both ways, alternately."""
    rate = min(5.0, math.floor(len(stars) * CENTURY_YR / stars.t_age_max * 1e3) / 1e3)
    base = PopulationConfig.parse({"birth_rate_max": rate})
    for name in TIMED:
        config = base.with_override(THETAS[name])
        costs: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(repeats + 1):
            for way, simulate in WAYS.items():
                start = time.process_time()
                population = simulate(config, stars, np.random.SeedSequence(number))
                costs[way].append(time.process_time() - start)
        before, now = (1e3 * float(np.median(cost[1:])) for cost in costs.values())
        say(
            f"{name:<14} plain {before:6.1f} ms, here {now:5.1f} ms: {before / now:.1f} times; "
            f"{population.n_created} stars, {population.status}"
        )


def populations(
    way: str, config: PopulationConfig, stars: Stars, seeds: range, groups: tuple[str, ...]
) -> Runs:
    """Simulate once a seed; return counts (n, groups) and log10 of the columns of each group."""
    counts, columns = [], {group: [] for group in groups}
    for number in seeds:
        found = WAYS[way](config, stars, np.random.SeedSequence(number))
        counts.append([found.n_detected[group] for group in groups])
        for group in groups:
            table = found.catalogues[group]
            columns[group].append([np.log10(table[name]) for name in COLUMNS])
    return {
        "counts": np.array(counts),
        **{group: np.concatenate(pieces, axis=1) for group, pieces in columns.items()},
    }


def differences(first: Runs, second: Runs, groups: tuple[str, ...]) -> dict[str, list[float]]:
    """Compare runs: of each group the difference of mean counts in sigma, and four KS p-values."""
    a, b = first["counts"], second["counts"]
    error = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
    sigma = (b.mean(axis=0) - a.mean(axis=0)) / error
    found = {}
    for k, group in enumerate(groups):
        pairs = zip(first[group], second[group], strict=True)
        found[group] = [float(sigma[k]), *(float(ks_2samp(*pair).pvalue) for pair in pairs)]
    return found


def compare(stars: StellarDatabase, n_seeds: int, n_stars: int) -> None:
    """Compare counts and distributions at six thetas."""
    base = PopulationConfig.parse(
        {
            "birth_rate_max": n_stars * CENTURY_YR / stars.t_age_max,
            "surveys_radio": {group: {"detected_real": None} for group in GROUPS},
        }
    )
    for name, theta in THETAS.items():
        config = base.with_override(theta)
        # other seeds: the order of the stars shall not be shared either
        first = populations("plain", config, stars, range(n_seeds), GROUPS)
        second = populations("here", config, stars, range(n_seeds, 2 * n_seeds), GROUPS)
        for group, (sigma, *p) in differences(first, second, GROUPS).items():
            k = GROUPS.index(group)
            means = first["counts"][:, k].mean(), second["counts"][:, k].mean()
            say(
                f"{name:<14} {group:<13} plain {means[0]:8.2f}, here {means[1]:8.2f} "
                f"({sigma:+.1f} sigma); p of P, Pdot, DM, S1400: "
                + ", ".join(f"{value:.3f}" for value in p)
            )


def main() -> None:
    """Time both ways, and compare them where seeds are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--stars", type=int, default=250_000)
    options = parser.parse_args()
    if options.database is None:
        stars = find_or_build(DynamicsConfig.parse({"NS_number": 1_000_000, "seed": 42}))
    else:
        stars = StellarDatabase.open(options.database)
    if options.repeats:
        time_both(stars, options.repeats)
    if options.seeds:
        compare(stars, options.seeds, options.stars)


if __name__ == "__main__":
    main()
