"""Simulators that take their time, so that a test can interrupt them, or end their process."""

import ctypes
import os
import time
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from mlpop.simulators.base import Simulation


class SlowGaussian:
    """x = theta + noise, after `seconds`."""

    labels = ("theta_1", "theta_2")
    channels = ("x_1", "x_2")

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self, theta: NDArray[np.float64], seed: SeedSequence) -> Simulation:
        time.sleep(self.seconds)
        noise = np.random.default_rng(seed).standard_normal(2)
        return Simulation((theta + 0.2 * noise).astype(np.float32))


class EndsItsProcess(SlowGaussian):
    """Ends the process, by a segmentation fault or with code 3, while a file `flag` is there."""

    def __init__(self, flag: str, how: str) -> None:
        super().__init__()
        self.flag, self.how = Path(flag), how

    def __call__(self, theta: NDArray[np.float64], seed: SeedSequence) -> Simulation:
        if self.flag.exists():
            if self.how == "segfault":
                ctypes.string_at(0)
            os._exit(3)
        return super().__call__(theta, seed)
