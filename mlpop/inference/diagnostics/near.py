"""Tests whose posterior is near that of x_o: they say how good it is there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpop.inference.diagnostics.pool import Pool

MIN_NEAR = 50
"""Effective number of tests near x_o, at least: all of them if there are not so many."""

NEAR_FRACTION = 0.2
"""Part of the tests that is near x_o, where that is more."""

_STEPS = 60


@dataclass(frozen=True)
class Gaussians:
    """Mean and standard deviation (n, d) of posteriors, label by label."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, theta: NDArray[np.floating]) -> "Gaussians":
        """Summarize draws (n, s, d)."""
        return cls(theta.mean(1, dtype=np.float64), theta.std(1, dtype=np.float64))


def near_weights(pool: Pool, observed: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a weight (n,) for every test that falls with its posterior's distance from x_o's.

    The distance is that of Wasserstein between normal distributions, label by label, in units of
    the spread of theta over the tests: labels that x says nothing about do not count. A failed
    test has the mean weight of the others, since nobody knows where it is.

    Args:
        pool: the tests.
        observed: (s, d) draws of the posterior at x_o in the unit cube of the prior.
    """
    ok = pool.success
    tests = Gaussians.of(pool.theta[ok])
    here = Gaussians.of(np.asarray(observed)[None])
    scale = np.sqrt(tests.mean.var(0) + (tests.spread**2).mean(0)) + 1e-12
    offsets = ((tests.mean - here.mean) / scale) ** 2 + ((tests.spread - here.spread) / scale) ** 2
    distance = offsets.sum(1)
    wanted = min(len(distance), max(MIN_NEAR, NEAR_FRACTION * len(distance)))
    weights = np.ones(len(pool.success))
    if len(distance):
        weights[ok] = _kernel(distance, wanted)
        weights[~ok] = weights[ok].mean()
    return weights


def effective_number(weights: NDArray[np.float64]) -> float:
    """Return how many equal weights say as much as these (n,) (Kish)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _kernel(distance: NDArray[np.float64], wanted: float) -> NDArray[np.float64]:
    """Return exp(-distance / 2h), with the h that gives the effective number wanted."""
    low, high = 1e-9, 1e9
    nearest = distance - distance.min()
    weights = np.ones_like(distance)
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        weights = np.exp(-nearest / (2 * middle))
        low, high = (middle, high) if effective_number(weights) < wanted else (low, middle)
    return np.asarray(np.exp(-nearest / (2 * high)))
