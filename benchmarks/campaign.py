"""A thousand simulations of the main job on Dask: seconds with one and with two workers.

    python -P benchmarks/campaign.py [--simulations 1000]

The stellar database of `experiments/main.json` is built first where it is not in the cache; every
worker is warmed up before its clock starts.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from mlpop.compute import Backend, Purpose, make_backend, seed_sequence
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.rounds.proposals import prior_theta
from mlpop.experiment.simulations.simulated_set import SimulatorPlan, simulate_set
from mlpop.experiment.simulations.simulator import experiment_plan

CONFIGURATION = Path(__file__).parents[1] / "experiments" / "main.json"
ROOT_SEED = 42


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
    count = parser.parse_args().simulations
    config = SbiConfig.parse(read_json(CONFIGURATION))
    plan, _ = experiment_plan(config)
    found = {}
    for workers in (1, 2):
        with make_backend(
            enable_dask=True, workers_dask=workers, compute=config.compute
        ) as backend:
            seconds(config, plan, backend, 2 * config.compute.simulations_per_task)
            found[workers] = seconds(config, plan, backend, count)
        sys.stdout.write(f"{workers} worker(s): {found[workers]:.1f} s\n")
    sys.stdout.write(f"ratio: {found[1] / found[2]:.2f}\n")


if __name__ == "__main__":
    main()
