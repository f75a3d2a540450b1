"""Is the truth one of the draws? The largest of many statistics, against exchanged truths.

If the posterior is right, the truth of a test is a draw like the others in its pool. So a
statistic of the truths has the distribution that it has for members taken at random from every
pool, and so has the largest of all statistics, however correlated they are: no correction for
their number is needed, and none for the shape of posteriors.

References:
    Westfall & Young 1993, "Resampling-based multiple testing" (maximum of statistics)
    Phipson & Smyth 2010, https://doi.org/10.2202/1544-6115.1585 (p-values of permutations)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlpop.inference.diagnostics.near import effective_number
from mlpop.inference.diagnostics.pool import Pool
from mlpop.inference.diagnostics.scores import Statistic, family, score_blocks

ALPHA = 0.05
"""Chance that a calibrated posterior is rejected, over all statistics together."""

MOST_NEAR = 0.5
"""Part of the tests that may count as near x_o; with more, what is there is everywhere."""

EXCHANGES = 1999
"""Times that truths are exchanged with draws."""


@dataclass(frozen=True)
class ExchangeTest:
    """What the exchanges tell.

    Attributes:
        statistics: m of them.
        values: (m,) of the truths, in standard deviations of exchanged truths. Those of the
            Kolmogorov-Smirnov distances are above 0, and as rare as such normal deviations.
        critical: which the largest of the absolute values exceeds in a fraction `alpha` of the
            exchanges.
        p_value: how often exchanged truths have a larger largest value.
        numbers: (m,) effective numbers of tests that a statistic rests on.
        correlations: (m, m) of the statistics of exchanged truths.
    """

    statistics: tuple[Statistic, ...]
    values: NDArray[np.float64]
    critical: float
    p_value: float
    numbers: NDArray[np.float64]
    correlations: NDArray[np.float64]

    @property
    def effects(self) -> NDArray[np.float64]:
        """(m,) mean scores, in standard deviations of a score: a bias in posterior sigmas."""
        return self.values / np.sqrt(self.numbers)

    def by_name(self) -> Mapping[str, float]:
        """Return statistic -> value."""
        names = (statistic.name for statistic in self.statistics)
        return dict(zip(names, self.values.tolist(), strict=True))


def exchange_test(
    pool: Pool,
    rng: np.random.Generator,
    *,
    weights: NDArray[np.float64] | None = None,
    alpha: float = ALPHA,
    exchanges: int = EXCHANGES,
) -> ExchangeTest:
    """Compare the truths of tests with the draws that they are among.

    Args:
        pool: the tests, at least one.
        rng: source of the exchanges.
        weights: (n,) near x_o; None leaves these statistics out, as do too few tests.
        alpha: chance that some statistic of a right posterior exceeds `critical`.
        exchanges: how often truths are exchanged with draws.
    """
    count = len(pool.success)
    if weights is not None and effective_number(weights) > MOST_NEAR * count:
        weights = None
    listed = family(pool.labels, near=weights is not None)
    sums = np.zeros((1 + exchanges, len(listed)))
    variance = np.zeros(len(listed))
    places = 1 + len(pool.labels)
    histograms = np.zeros((places, 1 + exchanges, pool.size), dtype=np.int64)
    # row 0 is the truth
    random = rng.integers(0, pool.size, (exchanges, count), dtype=np.int16)
    chosen = np.concatenate([pool.place[None].astype(np.int16), random])
    for rows, scores in score_blocks(pool, weights, rng):
        # they have mean 0
        squares = np.einsum("nsm,nsm->nm", scores.values, scores.values)
        variance += squares.sum(0, dtype=np.float64) / pool.size
        members, here = chosen[:, rows].astype(np.int64), np.arange(rows.stop - rows.start)
        flat = scores.values.reshape(-1, len(listed))
        for k, of_exchange in enumerate(members + here * pool.size):
            sums[k] += flat.take(of_exchange, 0).sum(0)
        ok = pool.success[rows]
        histograms[0] += _histograms(scores.density_ranks[here, members], pool.size)
        for j in range(len(pool.labels)):
            of_label = scores.label_ranks[here[ok], members[:, ok], j]
            histograms[1 + j] += _histograms(of_label, pool.size)
    deviations = sums / np.sqrt(np.where(variance > 0, variance, 1.0))
    distances = [_distance(histogram) for histogram in histograms]
    listed += [
        Statistic(f"shape/{' ~ '.join(of) or 'all'}", "shape", of)
        for of in [(), *((label,) for label in pool.labels)]
    ]
    values = np.concatenate([deviations, np.stack(distances, 1)], 1)
    largest = np.abs(values).max(1)
    numbers = np.full(len(listed), float(count))
    if weights is not None:
        near = [statistic.name.startswith("x_o") for statistic in listed]
        numbers[near] = effective_number(weights)
    return ExchangeTest(
        statistics=tuple(listed),
        values=values[0],
        critical=float(np.quantile(largest[1:], 1 - alpha, method="higher")),
        p_value=float((largest >= largest[0]).mean()),
        numbers=numbers,
        correlations=_correlations(values[1:]),
    )


def _correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlations (m, m) of values (k, m); 0 of those that do not vary."""
    offsets = values - values.mean(0)
    norms = np.linalg.norm(offsets, axis=0)
    offsets /= np.where(norms > 0, norms, 1.0)
    return np.asarray(offsets.T @ offsets)


def _histograms(ranks: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return how often each of `size` ranks occurs (k, size) in every row of ranks (k, n)."""
    rows = len(ranks)
    place = np.arange(rows)[:, None] * size + ranks
    return np.bincount(place.ravel(), minlength=rows * size).reshape(rows, size)


def _distance(histograms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return Kolmogorov-Smirnov distances from uniform (k,), as normal deviations as rare.

    Args:
        histograms: (k, s) counts of the ranks.
    """
    count, size = histograms.sum(1).max(), histograms.shape[1]
    if not count:
        return np.zeros(len(histograms))
    cumulative = histograms.cumsum(1) / count
    distance = np.abs(cumulative - np.arange(1, size + 1) / size).max(1)
    rarity = np.maximum(stats.kstwobign.sf(distance * np.sqrt(count)), 1e-300)
    return np.asarray(stats.norm.isf(rarity / 2))
