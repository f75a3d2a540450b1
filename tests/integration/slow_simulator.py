"""A simulator that takes its time, so that a test can interrupt it."""

import time

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
