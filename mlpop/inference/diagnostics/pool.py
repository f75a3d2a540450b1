"""The truth of every test among draws of its posterior: what the truth is exchanged with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POOL = 200
"""Draws a test that its truth is exchanged with."""

REFERENCES = 8
"""Further draws a test, from which distances are measured."""


@dataclass(frozen=True)
class Pool:
    """The truth of n tests, each at a random place among s draws of its posterior.

    If the posterior is right nobody can tell which of the s + 1 is the truth. A random place
    makes this so for equal values, too: what a sort makes of them depends on places alone.

    Attributes:
        labels: d names.
        theta: (n, s + 1, d) float32 in the unit cube of the prior; 0 in failed rows.
        log_density: (n, s + 1) of the posterior; 0 in failed rows.
        place: (n,) which of the s + 1 is the truth.
        references: (n, k, d) further draws, none of which is in the pool.
        success: (n,) whether the posterior could be drawn from.
    """

    labels: tuple[str, ...]
    theta: NDArray[np.float32]
    log_density: NDArray[np.float64]
    place: NDArray[np.int64]
    references: NDArray[np.float32]
    success: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """s + 1."""
        return self.theta.shape[1]


def make_pool(
    labels: Sequence[str],
    truth: NDArray[np.float32],
    draws: NDArray[np.float32],
    log_truth: NDArray[np.float64],
    log_draws: NDArray[np.float64],
    success: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Pool:
    """Put the truth of every test among its draws.

    Args:
        labels: d names.
        truth: (n, d) in the unit cube of the prior.
        draws: (n, s, d) likewise; the last of them become the references.
        log_truth: (n,) log density of the truth, -inf outside the prior.
        log_draws: (n, s) of the draws.
        success: (n,) whether the posterior could be drawn from.
        rng: chooses the places.
    """
    count, drawn = log_draws.shape
    apart = min(REFERENCES, max(1, drawn // 10))
    kept = drawn - apart
    place = rng.integers(0, kept + 1, count)
    rows = np.arange(count)
    theta = np.concatenate([truth[:, None], draws[:, :kept]], 1).astype(np.float32)
    density = np.concatenate([log_truth[:, None], log_draws[:, :kept]], 1).astype(np.float64)
    for values in (theta, density):
        # the draw at the truth's place goes to the front, where the truth was
        values[rows, 0], values[rows, place] = (
            values[rows, place].copy(),
            values[rows, 0].copy(),
        )
        values[~success] = 0
    references = np.where(success[:, None, None], draws[:, kept:], 0).astype(np.float32)
    return Pool(tuple(labels), theta, density, place, references, success)


def ranks(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the rank (n, s) from 0 of every value (n, s) in its row; equal ones in any order."""
    order = np.argsort(values, 1)
    result = np.empty_like(order)
    np.put_along_axis(result, order, np.broadcast_to(np.arange(values.shape[1]), order.shape), 1)
    return result
