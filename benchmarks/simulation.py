"""One default pulsar simulation on one core: seconds by stage, peak memory, spin-down.

    python benchmarks/simulation.py [--database FOLDER] [--repeats 5] [--odes 200]

Without a database one of 800 000 stars is built, or found in the cache. Costs are process time
with one thread. The spin-down is compared with the plain way, a loop of scipy's odeint over stars
on the reference implementation's grid of 0.01 dex.
"""

import argparse
import math
import resource
import sys
import time
from pathlib import Path

import numpy as np
from scipy.integrate import odeint

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.blocks.population import PopulationConfig, given
from mlpop.population.constants import CENTURY_YR, YEAR_S
from mlpop.population.pulsars.decay_table import decay_table
from mlpop.population.pulsars.evolution import evolution, evolve_births
from mlpop.population.pulsars.field import log_decay
from mlpop.population.pulsars.initial import Births
from mlpop.population.pulsars.spindown import beta
from mlpop.population.stars.database import StellarDatabase, find_or_build
from mlpop.population.synthesis.detected_population import synthesize
from mlpop.simulators.pulsar import PulsarSimulator

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean", "a_late")
THETA = (13.09, -0.67, -0.88)


def say(text: str) -> None:
    """Write one line."""
    sys.stdout.write(f"{text}\n")


def peak_mib() -> float:
    """Return the largest resident memory of this process so far [MiB], mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_simulations(stars: StellarDatabase, repeats: int) -> None:
    """Time synthesis and whole simulations with the default configuration."""
    rate = min(5.0, math.floor(len(stars) * CENTURY_YR / stars.t_age_max * 1e3) / 1e3)
    config = PopulationConfig.parse({"birth_rate_max": rate})
    libraries = peak_mib()
    synthesize(config, stars, np.random.SeedSequence(0))
    costs, stages = [], []
    for number in range(1, repeats + 1):
        start = time.process_time()
        population = synthesize(config, stars, np.random.SeedSequence(number))
        costs.append(time.process_time() - start)
        stages.append(population.seconds)
    say(
        f"synthesis: {np.median(costs):.3f} s, {population.n_created} stars created, "
        f"{population.status}, detected {dict(population.n_detected)}"
    )
    for stage in stages[0]:
        milliseconds = 1e3 * np.median([seconds[stage] for seconds in stages])
        say(f"  {stage:<10} {milliseconds:7.1f} ms")
    assert stars.folder is not None
    simulator = PulsarSimulator(LABELS, config, stars.folder)
    simulator(THETA, np.random.SeedSequence(0))
    start = time.process_time()
    for number in range(1, repeats + 1):
        simulator(THETA, np.random.SeedSequence(number))
    cost = (time.process_time() - start) / repeats
    say(f"simulation with its 15 maps: {cost:.3f} s (budget 1 s)")
    say(f"peak memory: {peak_mib():.0f} MiB, of which {libraries:.0f} MiB before the first run")


def compare_spin_down(n_odes: int, n_stars: int) -> None:
    """Compare the closed form with a loop of odeint over stars."""
    config = PopulationConfig.parse({})
    rng = np.random.default_rng(0)
    b0, p0 = 10 ** rng.normal(13.09, 0.5, n_stars), 10 ** rng.normal(-0.67, 0.55, n_stars)
    chi0, age = np.arccos(rng.random(n_stars)), rng.uniform(1.0, 3e7, n_stars)
    none = np.full(n_stars, -700.0)
    births = Births(np.log(b0), none, np.log(p0), np.cos(chi0), none)
    now = evolution(config)
    evolve_births(now, decay_table(now.law, age.max()), births, age)
    costs = []
    for _ in range(3):
        start = time.process_time()
        spins = evolve_births(now, decay_table(now.law, age.max()), births, age)
        costs.append((time.process_time() - start) / n_stars)
    start = time.process_time()
    periods = np.array(
        [
            _odeint(config, *star)
            for star in zip(b0[:n_odes], p0[:n_odes], chi0[:n_odes], age[:n_odes], strict=True)
        ]
    )
    plain = (time.process_time() - start) / n_odes
    error = np.abs(spins.P[:n_odes] / periods - 1.0)
    say(
        f"spin-down: {1e9 * min(costs):.0f} ns a star, odeint {1e6 * plain:.0f} us a star: "
        f"{plain / min(costs):.0f} times faster (target 500); periods agree to "
        f"{np.median(error):.1e} (median), {error.max():.1e} (largest)"
    )


def _odeint(config: PopulationConfig, b0: float, p0: float, chi0: float, age: float) -> float:
    strength = beta(config.NS_mass, given(config.NS_radius)) * YEAR_S
    law, ln_b0 = evolution(config).law, math.log(b0)

    def rates(y: np.ndarray, t: float) -> tuple[float, float]:
        period, chi = y
        pull = strength * math.exp(2.0 * (ln_b0 + log_decay(law, ln_b0, max(t, 0.0)))) / period
        sine, cosine = math.sin(chi), math.cos(chi)
        return pull * (1.0 + sine * sine), -pull / period * sine * cosine

    grid = np.append(10.0 ** np.arange(0.0, math.log10(age), 0.01), age)
    return float(odeint(rates, [p0, chi0], grid)[-1, 0])


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--odes", type=int, default=200)
    parser.add_argument("--stars", type=int, default=200_000)
    options = parser.parse_args()
    if options.database is None:
        stars = find_or_build(DynamicsConfig.parse({"NS_number": 800_000, "seed": 11}))
    else:
        stars = StellarDatabase.open(options.database)
    time_simulations(stars, options.repeats)
    compare_spin_down(options.odes, options.stars)


if __name__ == "__main__":
    main()
