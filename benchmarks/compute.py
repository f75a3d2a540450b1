"""What the compute backends cost, and what a second worker brings.

    python benchmarks/compute.py [--seconds 0.05] [--tasks 60]

Prints one JSON object: overhead a task of every backend [ms], the start of a worker pool [s], and
the speed of two workers over one: on simulations that use the processor alone (needs two idle
cores), and on tasks that only wait, which shows what the backend itself loses.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mlpop.compute.backends.base import Backend
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.compute.backends.workers import available_cores

MAKERS: dict[str, Callable[[int], Backend]] = {
    "serial": lambda _: SerialBackend(),
    "processes": ProcessesBackend,
    "dask": DaskBackend,
}


def busy(seconds: float) -> int:
    """Use the processor for `seconds` of its time [s]."""
    end = time.process_time() + seconds
    count = 0
    while time.process_time() < end:
        count += sum(range(1000)) > 0
    return count


def timed(backend: Backend, function: Callable[..., Any], tasks: Sequence[Any]) -> float:
    """Wall time of a run whose outcomes are all ok [s]."""
    started = time.perf_counter()
    for outcome in backend.run(function, tasks):
        outcome.result()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one task")
    parser.add_argument("--tasks", type=int, default=60)
    options = parser.parse_args()
    work = [options.seconds] * options.tasks
    report: dict[str, Any] = {"cores": available_cores(), "seconds_of_a_task": options.seconds}
    for name, make in MAKERS.items():
        walls = {}
        waits = {}
        for workers in (1,) if name == "serial" else (1, 2):
            started = time.perf_counter()
            with make(workers) as backend:
                timed(backend, abs, range(2 * workers))
                start = time.perf_counter() - started
                empty = timed(backend, abs, range(200))
                walls[workers] = timed(backend, busy, work)
                waits[workers] = timed(backend, time.sleep, work)
            report[f"{name}-{workers}"] = {
                "start_s": round(start, 3),
                "overhead_ms": round(1e3 * empty / 200, 3),
                "wall_s": round(walls[workers], 3),
            }
        if 2 in walls:
            report[f"{name}: two workers over one"] = {
                "processor": round(walls[1] / walls[2], 2),
                "waiting": round(waits[1] / waits[2], 2),
            }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
