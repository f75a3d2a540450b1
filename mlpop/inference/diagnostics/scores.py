"""The family of statistics: each is a sum, over the tests, of a score that every truth gets.

A score says how a member of a pool stands among the others. It must not depend on which of them
is the truth; so its sum over the truths has the distribution of its sum over members that were
drawn at random, whatever the posteriors look like (see `exchange`).

References:
    Rao 1948, Proc. Camb. Phil. Soc. 44, 50 (score tests); Neyman 1937 (smooth tests)
    Talts et al. 2018, https://arxiv.org/abs/1804.06788 (ranks)
    Lemos et al. 2023, https://arxiv.org/abs/2302.03026 (TARP)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlpop.inference.diagnostics.pool import Pool, ranks

Cause = Literal[
    "bias", "width", "tails", "correlation", "edge", "local bias", "local width", "shape"
]

EDGE = 0.5
"""Range of an edge in standard deviations of a posterior: how far leaking density is missed."""

_RIDGE = 1e-3
_BLOCK = 2**22


@dataclass(frozen=True)
class Statistic:
    """One statistic of the family.

    Attributes:
        name: e.g. `bias/a`: what it measures, and of which labels.
        cause: of a large value.
        labels: that it is about; none is all of them.
    """

    name: str
    cause: Cause
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """All scores of some tests.

    Attributes:
        values: (c, s + 1, m), of mean 0 in every pool.
        density_ranks: (c, s + 1) ranks of the negative log density.
        label_ranks: (c, s + 1, d) ranks in every label.
    """

    values: NDArray[np.float32]
    density_ranks: NDArray[np.int64]
    label_ranks: NDArray[np.int64]


def family(labels: Sequence[str], *, near: bool) -> list[Statistic]:
    """Return the statistics that are sums of scores, in the order of `Scores.values`.

    Args:
        labels: d names.
        near: whether the tests have weights near x_o.
    """
    each = [(label,) for label in labels]
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    listed: list[tuple[str, Cause, Sequence[tuple[str, ...]]]] = [
        ("bias", "bias", each),
        ("width", "width", [*each, ()]),
        ("tails", "tails", [()]),
        ("correlation", "correlation", pairs),
        ("edge", "edge", [*each, ()]),
        ("slope", "local bias", [(a, b) for a in labels for b in labels]),
        ("width slope", "local width", each),
        ("distance", "shape", [()]),
        ("near distance", "shape", [()]),
    ]
    if near:
        listed += [("x_o bias", "local bias", each), ("x_o width", "local width", [*each, ()])]
    return [
        Statistic(f"{name}/{' ~ '.join(of) or 'all'}", cause, of)
        for name, cause, places in listed
        for of in places
    ]


def score_blocks(
    pool: Pool, weights: NDArray[np.float64] | None, rng: np.random.Generator
) -> Iterator[tuple[slice, Scores]]:
    """Yield rows of the tests and their scores, as many at once as memory likes.

    Args:
        pool: the tests.
        weights: (n,) near x_o; None leaves these statistics out.
        rng: chooses the points from which distances are measured.
    """
    count, dimension = len(pool.success), len(pool.labels)
    uniform = rng.random((count, *pool.references.shape[1:]), dtype=np.float32)
    features = _normal_scores_over_tests(pool)
    width = len(family(pool.labels, near=weights is not None))
    lot = max(1, _BLOCK // (pool.size * (width + 4 * dimension)))
    for start in range(0, count, lot):
        rows = slice(start, min(start + lot, count))
        of_rows = None if weights is None else weights[rows]
        yield rows, _scores(pool, rows, uniform[rows], features[rows], of_rows)


def _scores(
    pool: Pool,
    rows: slice,
    uniform: NDArray[np.float32],
    features: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
) -> Scores:
    theta, ok = pool.theta[rows], pool.success[rows]
    grid = special.ndtri((np.arange(pool.size) + 0.5) / pool.size).astype(np.float32)
    label_ranks = np.stack([ranks(theta[..., j]) for j in range(theta.shape[2])], -1)
    density_ranks = ranks(-pool.log_density[rows])
    # nobody could draw there: the truth is as far out as can be
    first = np.where(ok, 0, pool.size - 1 - density_ranks[np.arange(len(ok)), pool.place[rows]])
    density_ranks = (density_ranks + first[:, None]) % pool.size
    z, h = grid[label_ranks], grid[density_ranks]
    white = _whitened(z)
    dimension = z.shape[2]
    pairs = [(a, b) for a in range(dimension) for b in range(a + 1, dimension)]
    spread = theta.std(1, keepdims=True) + np.float32(1e-9)
    edge = np.exp(-0.5 * (np.minimum(theta, 1 - theta) / (EDGE * spread)) ** 2)
    slopes = z[..., :, None] * features[:, None, None, :].astype(np.float32)
    columns = [
        z,
        z**2,
        h[..., None],
        h[..., None] ** 2,
        *(white[..., a, None] * white[..., b, None] for a, b in pairs),
        edge,
        edge.sum(-1, keepdims=True),
        slopes.reshape(*slopes.shape[:2], -1),
        h[..., None] * features[:, None, :],
        _mean_distance_rank(theta, uniform, grid)[..., None],
        _mean_distance_rank(theta / spread, pool.references[rows] / spread, grid)[..., None],
    ]
    if weights is not None:
        near = weights[:, None, None].astype(np.float32)
        columns += [near * z, near * z**2, near * h[..., None]]
    values = np.concatenate(columns, -1, dtype=np.float32)
    values -= values.mean(1, keepdims=True)
    if not ok.all():
        # a failed test says one thing only, by its density rank
        names = [statistic.name for statistic in family(pool.labels, near=weights is not None)]
        spoken = np.isin(names, ("width/all", "x_o width/all"))
        values[np.ix_(~ok, np.arange(pool.size), ~spoken)] = 0
    return Scores(values, density_ranks, label_ranks)


def _normal_scores_over_tests(pool: Pool) -> NDArray[np.float64]:
    """Return where the mean of every test's pool lies among those of all (n, d): N(0, 1)."""
    result = np.zeros((len(pool.success), pool.theta.shape[2]))
    means = pool.theta[pool.success].mean(1, dtype=np.float64)
    if len(means):
        result[pool.success] = special.ndtri((ranks(means.T).T + 0.5) / len(means))
    return result


def _whitened(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the correlations of every pool out of its scores (n, s, d)."""
    covariance = np.einsum("nsa,nsb->nab", z, z) / z.shape[1]
    values, vectors = np.linalg.eigh(covariance + _RIDGE * np.eye(z.shape[2]))
    inverse_root = np.einsum("nab,nb,ncb->nac", vectors, values**-0.5, vectors)
    return np.asarray(z @ inverse_root.astype(np.float32))


def _mean_distance_rank(
    theta: NDArray[np.float32], references: NDArray[np.float32], grid: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the normal scores (n, s) of the distances to references (n, k, d), mean over k."""
    total = np.zeros(theta.shape[:2], dtype=np.float32)
    for k in range(references.shape[1]):
        offset = theta - references[:, k, None]
        total += grid[ranks(np.einsum("nsd,nsd->ns", offset, offset))]
    return total / references.shape[1]
