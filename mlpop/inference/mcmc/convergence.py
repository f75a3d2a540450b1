"""Have Markov chains converged, and how many independent draws are they worth?

References:
    Vehtari et al. 2021, https://doi.org/10.1214/20-BA1221 (rank-normalized split R-hat and ESS)
    Geyer 1992, https://doi.org/10.1214/ss/1177011137 (initial monotone sequence)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mlpop.errors import DataError

MIN_DRAWS = 4
"""Fewer draws a chain cannot be split and compared."""


def r_hat(draws: ArrayLike) -> NDArray[np.float64]:
    """Return the rank-normalized split R-hat (...): near 1 where the chains agree.

    The greater of those of the draws and of their distances from the median, so that chains of
    equal means but different widths are seen too. NaN where all draws are equal.

    Args:
        draws: (n, c, ...) of n steps of c chains.

    Raises:
        DataError: fewer than `MIN_DRAWS` steps.
    """
    values = _split(draws)
    folded = np.abs(values - np.median(values, axis=(0, 1)))
    return np.maximum(_r_hat(_rank_normalized(values)), _r_hat(_rank_normalized(folded)))


def bulk_ess(draws: ArrayLike) -> NDArray[np.float64]:
    """Return the effective number (...) of independent draws, for means and medians.

    Args:
        draws: (n, c, ...) of n steps of c chains.

    Raises:
        DataError: fewer than `MIN_DRAWS` steps.
    """
    values = _rank_normalized(_split(draws))
    steps, chains = values.shape[:2]
    covariance = _autocovariance(values)
    within = covariance[0].mean(0) * steps / (steps - 1)
    total = covariance[0].mean(0) + values.mean(0).var(0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = 1 - (within - covariance.mean(1)) / total
    correlation[0] = 1.0
    pairs = correlation[: steps // 2 * 2].reshape(steps // 2, 2, *values.shape[2:]).sum(1)
    # the sum ends at the first pair that is not positive, and never grows on the way
    positive = np.logical_and.accumulate(pairs > 0, axis=0)
    monotone = np.minimum.accumulate(np.where(positive, pairs, 0.0), axis=0)
    time = -1 + 2 * monotone.sum(0)
    size = steps * chains
    return np.where(total > 0, size / np.maximum(time, 1 / np.log10(size)), np.nan)


def _split(draws: ArrayLike) -> NDArray[np.float64]:
    """Return the halves of every chain as chains: (n // 2, 2 c, ...)."""
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim < 2 or len(values) < MIN_DRAWS or not values.shape[1]:
        raise DataError(
            f"convergence needs draws (n, c, ...) with n at least {MIN_DRAWS}, but got "
            f"{values.shape}"
        )
    half = len(values) // 2
    return np.concatenate([values[:half], values[-half:]], axis=1)


def _rank_normalized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = values.reshape(values.shape[0] * values.shape[1], -1)
    ranks = stats.rankdata(flat, axis=0)
    normal = stats.norm.ppf((ranks - 0.375) / (len(flat) + 0.25))
    return np.asarray(normal).reshape(values.shape)


def _r_hat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = len(values)
    between = steps * values.mean(0).var(0, ddof=1)
    within = values.var(0, ddof=1).mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((between / within + steps - 1) / steps)


def _autocovariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the biased autocovariance at every lag, over axis 0."""
    steps = len(values)
    centred = values - values.mean(0)
    size = 1 << (2 * steps - 1).bit_length()
    spectrum = np.fft.rfft(centred, size, axis=0)
    return np.fft.irfft(np.abs(spectrum) ** 2, size, axis=0)[:steps] / steps
