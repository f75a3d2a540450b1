"""What the checks of a backend run in its workers."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from threadpoolctl import threadpool_info

from mlpop.compute.backends.base import Emit
from mlpop.errors import SimulationFailed

REASON = "no pulsar\nis seen"
ANSWER_SECONDS = 10.0
"""How long a task waits for the listener's answer to its event [s]."""


def draw(number: int) -> bytes:
    """Return random bits that only `number` decides."""
    return np.random.default_rng(SeedSequence(7, spawn_key=(number,))).bytes(1000)


def fail_for_one(task: tuple[int, str]) -> int:
    """Return the number of the task; raise if it is 1."""
    number, folder = task
    _note_start(folder, number)
    if number == 1:
        raise SimulationFailed(REASON)
    return number


def count_to(number: int, emit: Emit) -> int:
    """Emit 0, 1, ... and return `number`."""
    for value in range(number):
        emit({"number": value})
    return number


def wait_for_file(path: str, emit: Emit) -> bool:
    """Emit once, then wait for the file that the listener makes; tell whether it came."""
    emit({"waiting": True})
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        if Path(path).exists():
            return True
        time.sleep(0.02)
    return False


def kill_worker(task: tuple[int, int, str]) -> int:
    """Return the number of the task; number 1 kills its own process in its first starts."""
    number, times, folder = task
    _note_start(folder, number)
    if number == 1 and len(starts(Path(folder), number)) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def starts(folder: Path, number: int) -> str:
    """Return one letter for every start of task `number`."""
    return (folder / f"starts-{number}").read_text()


def span(seconds: float) -> tuple[float, float]:
    """Sleep; return start and end on the clock of the machine [s]."""
    start = time.time()
    time.sleep(seconds)
    return start, time.time()


def note_slowly(task: tuple[int, str]) -> None:
    """Sleep, then leave a file."""
    number, folder = task
    time.sleep(0.05)
    (Path(folder) / f"done-{number}").touch()


def process_id(_: object) -> int:
    """Return the number of the process that runs the task."""
    return os.getpid()


def thread_counts(_: object) -> dict[str, int]:
    """Return the number of threads of numba, torch and every BLAS."""
    import numba
    import torch

    np.ones((2, 2)) @ np.ones((2, 2))
    counts = {"numba": numba.get_num_threads(), "torch": torch.get_num_threads()}
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            counts[Path(pool["filepath"]).name] = pool["num_threads"]
    return counts


def _note_start(folder: str, number: int) -> None:
    with (Path(folder) / f"starts-{number}").open("a") as file:
        file.write("x")
