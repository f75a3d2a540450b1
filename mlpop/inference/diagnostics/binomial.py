"""How far a fraction of successes may be from its probability by chance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def binomial_band(
    probability: ArrayLike, trials: int, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the central interval of the fraction of successes, at every probability.

    Args:
        probability: (k,) of one success, e.g. credibility levels.
        trials: e.g. the number of tests that a coverage is a mean of.
        level: mass of the interval.

    Returns:
        (k,) lower and (k,) upper edges, in [0, 1].
    """
    p = np.asarray(probability, dtype=np.float64)
    low, high = stats.binom.interval(level, trials, p)
    return np.maximum(low, 0) / trials, np.maximum(high, 0) / trials
