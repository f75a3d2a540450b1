"""Axes, bin numbers, counts, cell averages and Gaussian smoothing of two-dimensional maps."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]

SMOOTHING_RADIUS = 4.0
"""Radius of the smoothing kernel [standard deviations]."""


@dataclass(frozen=True)
class Axis:
    """One axis of a map: `n` bins from `low` to `high`, equal on a linear or a log10 scale."""

    low: float
    high: float
    n: int
    log: bool = False

    @cached_property
    def edges(self) -> Array:
        """(n + 1,) bin edges; the first and the last are exactly `low` and `high`.

        Raises:
            ValueError: `low >= high`, no bin, or a log scale that reaches zero or below.
        """
        low, high, n = self.low, self.high, self.n
        if n < 1:
            raise ValueError(f"an axis needs at least 1 bin, got {n}")
        if self.log and not (low > 0 and high > 0):
            raise ValueError(f"the limits of a log axis must be positive, got {low} and {high}")
        if not low < high:
            raise ValueError(f"the limits of an axis must rise, got {low} and {high}")
        if self.log:
            edges = 10 ** np.linspace(np.log10(low), np.log10(high), n + 1)
        else:
            edges = np.linspace(low, high, n + 1)
        edges[0], edges[-1] = low, high
        edges.flags.writeable = False
        return edges

    def bins(self, values: Array) -> NDArray[np.intp]:
        """Bin number of each value: (n,), -1 for a value outside the axis or not finite.

        A bin holds its lower edge; the last bin holds its upper edge too.
        """
        edges = self.edges
        found = np.searchsorted(edges, values, side="right") - 1
        found[values == self.high] = self.n - 1
        found[~((values >= self.low) & (values <= self.high))] = -1
        return found


@dataclass(frozen=True)
class Grid:
    """Two axes, and the cell of every star on them: what all maps of one plane share."""

    first: Axis
    second: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Number of bins on the first and on the second axis."""
        return self.first.n, self.second.n

    def cells(self, first: Array, second: Array) -> NDArray[np.intp]:
        """Flat cell number of each star: (n,), -1 for a star outside or not finite."""
        i, j = self.first.bins(first), self.second.bins(second)
        return np.where((i >= 0) & (j >= 0), i * self.second.n + j, -1)

    def counts(self, cells: NDArray[np.intp]) -> Array:
        """Stars in each cell, shape `shape`."""
        size = self.first.n * self.second.n
        counts = np.bincount(cells[cells >= 0], minlength=size)
        return counts.reshape(self.shape).astype(np.float64)

    def average(self, cells: NDArray[np.intp], weights: Array, fill: float) -> Array:
        """Mean weight in each cell, `fill` in an empty one, shape `shape`.

        A star whose weight is not finite does not count.
        """
        keep = (cells >= 0) & np.isfinite(weights)
        size = self.first.n * self.second.n
        counts = np.bincount(cells[keep], minlength=size)
        sums = np.bincount(cells[keep], weights=weights[keep], minlength=size)
        means = np.full(size, fill, dtype=np.float64)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means.reshape(self.shape)


def smooth(maps: Array, *, sigma: float, wrap_first: bool = False) -> Array:
    """Filter each map of a (k, h, w) stack with a separable Gaussian that ends at four sigma.

    The total of each map is unchanged.

    Args:
        maps: the stack.
        sigma: standard deviation on both axes [bins]; 0 returns the maps unchanged.
        wrap_first: close the first map axis to a ring. All other borders repeat the edge cell.
    """
    if sigma == 0:
        return maps
    modes = ("wrap" if wrap_first else "reflect", "reflect")
    return gaussian_filter(maps, sigma, mode=modes, truncate=SMOOTHING_RADIUS, axes=(1, 2))
