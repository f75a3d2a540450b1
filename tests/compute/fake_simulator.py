"""A simulator that does on request whatever a simulator can do wrong."""

import os
import signal
import time
from collections import deque
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from mlpop.errors import SimulationFailed
from mlpop.simulators.base import Simulation

OK, FAILED, ERROR, NAN, SLEEP, KILL, HANG, LIMIT, SHAPE, KILL_ONCE, SPIN, PAUSE = range(12)


class FakeSimulator:
    """theta = (mode, x); notes each call in the file `<calls>/<x>`."""

    labels = ("mode", "x")
    channels = ("a", "b")

    def __init__(self, calls: str) -> None:
        self.calls = Path(calls)

    def in_detail(self, theta: NDArray[np.float64], seed: SeedSequence) -> Simulation:
        return replace(self(theta, seed), details={"stars": theta.copy()})

    def __call__(self, theta: NDArray[np.float64], seed: SeedSequence) -> Simulation:
        mode, x = int(theta[0]), float(theta[1])
        note = self.calls / str(int(x))
        with note.open("a") as file:
            file.write("x")
        maps = x + np.random.default_rng(seed).standard_normal((2, 4, 3)).astype(np.float32)
        info: dict[str, object] = {"detected": np.int64(3), "rates": np.array([1.5, 2.5])}
        if mode == FAILED:
            raise SimulationFailed("no pulsar\nis seen")
        if mode == ERROR:
            raise ZeroDivisionError("division by zero")
        if mode == NAN:
            maps[1, 0, 0] = np.nan
        if mode == SLEEP:
            time.sleep(60)
        if mode == PAUSE:
            with (self.calls / "pids").open("a") as pids:
                pids.write(f"{os.getpid()}\n")
            time.sleep(0.2)
        if mode == SPIN:
            try:
                _spin(60)
            except Exception:
                _spin(60)
        if mode == KILL or (mode == KILL_ONCE and len(note.read_text()) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == HANG:
            # Compiled code that keeps the interpreter's lock and looks at no signal.
            deque(repeat(0, 10**11), maxlen=0)
        if mode == LIMIT:
            info["status"] = "limit"
        if mode == SHAPE:
            return Simulation(x=maps[:1], info=info)
        return Simulation(x=maps, info=info)


def _spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(100))


class KillsWhenBuilt:
    """Ends its process before it has simulated anything."""

    labels = ("mode", "x")
    channels = ("a", "b")

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, theta, seed):
        raise AssertionError("never reached")
