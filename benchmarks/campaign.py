"""Simulations of the main job on processes and on Dask: the gain of a worker, the cost of Dask.

    python -P benchmarks/campaign.py [--simulations 1000] [--repeats 3]

The stellar database of `experiments/main.json` is built first where it is not in the cache; every
worker is warmed up before its clock starts; one process is this one (serial). `apart` are serial
processes that share nothing, each with its part: what the machine itself gives a second worker.
All ways run turn by turn. Times are medians of the repeats, ratios medians of the ratios within a
turn.
"""

import argparse
import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from mlpop.compute import Backend, Purpose, make_backend, seed_sequence
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.rounds.proposals import prior_theta
from mlpop.experiment.simulations.simulated_set import SimulatorPlan, simulate_set
from mlpop.experiment.simulations.simulator import experiment_plan

CONFIGURATION = Path(__file__).parents[1] / "experiments" / "main.json"
ROOT_SEED = 42
WORKERS = (1, 2)
WAYS = ("apart", "processes", "dask")


def seconds_of(way: str, workers: int, simulations: int) -> float:
    """Return the wall time of `simulations` on warm workers [s]."""
    config = SbiConfig.parse(read_json(CONFIGURATION))
    if way == "apart":
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            each = [simulations // workers] * workers
            return max(pool.map(partial(seconds_of, "processes", 1), each))
    plan, _ = experiment_plan(config)
    with make_backend(**backend_of(way, workers), compute=config.compute) as backend:
        seconds(config, plan, backend, 2 * config.compute.simulations_per_task)
        return seconds(config, plan, backend, simulations)


def backend_of(name: str, workers: int) -> dict[str, Any]:
    """Return the fields of a configuration that ask for a backend."""
    if name == "dask":
        return {"enable_dask": True, "workers_dask": workers}
    return {"n_processes": workers}


def seconds(config: SbiConfig, plan: SimulatorPlan, backend: Backend, count: int) -> float:
    """Return the wall time of `count` simulations [s]."""
    theta = prior_theta(config, count, seed_sequence(ROOT_SEED, Purpose.PRIOR, 0))
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        simulate_set(
            plan,
            theta,
            Path(folder),
            backend,
            root_seed=ROOT_SEED,
            purpose=Purpose.SIMULATION_TRAINING,
            round_=0,
            compute=config.compute,
            min_success_fraction=0.9,
            title=f"{count} simulations",
        )
        return time.monotonic() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ways = list(itertools.product(WAYS, WORKERS))
    found: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for _, way in itertools.product(range(options.repeats), ways):
        found[way].append(seconds_of(*way, options.simulations))
    for (name, workers), walls in found.items():
        sys.stdout.write(f"{name}, {workers} worker(s): {statistics.median(walls):.1f} s\n")
    for name in WAYS:
        sys.stdout.write(f"two workers over one, {name}: {ratio(found, (name, 1), (name, 2))}\n")
    for workers in WORKERS:
        cost = ratio(found, ("dask", workers), ("processes", workers))
        sys.stdout.write(f"dask over processes, {workers} worker(s): {cost}\n")


def ratio(
    found: dict[tuple[str, int], list[float]], above: tuple[str, int], below: tuple[str, int]
) -> str:
    """Return the median of the ratios within a turn, and their range."""
    ratios = [a / b for a, b in zip(found[above], found[below], strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
