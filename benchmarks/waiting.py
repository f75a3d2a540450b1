"""A simulator that only waits: what a campaign itself costs."""

import time

import numpy as np

from mlpop.simulators.base import Simulation

WAIT = 0.02
"""Time of one simulation [s]."""


def simulate(theta: np.ndarray) -> np.ndarray:
    """Return six maps of 32 x 32 that hold the first label, after `WAIT`."""
    time.sleep(WAIT)
    return np.full((6, 32, 32), theta[0], dtype=np.float32)


class Waiting:
    """The same as a simulator of mlpop."""

    labels = ("a", "b")
    channels = tuple(f"c{k}" for k in range(6))

    def __call__(self, theta: np.ndarray, seed: np.random.SeedSequence) -> Simulation:
        """Return the maps of `theta`."""
        return Simulation(simulate(theta))
