"""Boxes and unions of ellipsoids: shapes that are drawn from uniformly and enclose a support.

All live in the unit cube of the prior, where a volume is a fraction of the prior.
"""

from dataclasses import dataclass
from math import lgamma, log, pi

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class Box:
    """A box, along the axes of the prior or rotated.

    Args:
        axes: (d, d) orthonormal columns, the box's edges.
        low, high: (d,) ends of the edges, in coordinates along `axes`.
        aligned: whether `axes` are the prior's own; such a box ends where the prior ends.
    """

    axes: Tensor
    low: Tensor
    high: Tensor
    aligned: bool

    @property
    def log_volume(self) -> float:
        """Log of the volume."""
        return float((self.high - self.low).log().sum())

    def sample(self, count: int, generator: Generator) -> Tensor:
        """Make `count` draws (count, d), uniform on the box."""
        unit = torch.rand(count, len(self.low), generator=generator, dtype=torch.float64)
        return (self.low + unit * (self.high - self.low)) @ self.axes.T

    def contains(self, points: Tensor) -> Tensor:
        """Tell for points (n, d) whether they lie in the box: (n,)."""
        places = points @ self.axes
        return ((places >= self.low) & (places <= self.high)).all(-1)

    def widened(self, factor: float) -> "Box":
        """Return a box about the same centre of `factor` times the volume, before any cut."""
        margin = (factor ** (1 / len(self.low)) - 1) / 2 * (self.high - self.low)
        low, high = self.low - margin, self.high + margin
        if self.aligned:
            low, high = low.clamp_min(0), high.clamp_max(1)
        return Box(self.axes, low, high, self.aligned)


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """The union of k ellipsoids `centre + factor z`, |z| <= 1, which may overlap.

    A point is drawn by choosing an ellipsoid by its volume and a place in it uniformly; where n
    of them overlap it is kept with probability 1/n, which leaves a uniform density on the union.

    Args:
        centres: (k, d).
        factors: (k, d, d) lower triangles.

    References:
        Feroz, Hobson & Bridges 2009, MNRAS 398, 1601 (MultiNest), section 5.3.
    """

    centres: Tensor
    factors: Tensor

    @property
    def log_volumes(self) -> Tensor:
        """(k,) log volumes."""
        size = self.centres.shape[1]
        ball = size / 2 * log(pi) - lgamma(size / 2 + 1)
        return self.factors.diagonal(dim1=1, dim2=2).log().sum(-1) + ball

    @property
    def log_volume(self) -> float:
        """Log of the sum of the volumes; draws in an overlap that are not kept make up for it."""
        return float(self.log_volumes.logsumexp(0))

    def sample(self, count: int, generator: Generator) -> Tensor:
        """Make `count` draws; return those kept, (m <= count, d), uniform on the union."""
        size = self.centres.shape[1]
        which = torch.multinomial(
            self.log_volumes.softmax(0), count, replacement=True, generator=generator
        )
        direction = torch.randn(count, size, generator=generator, dtype=torch.float64)
        radius = torch.rand(count, 1, generator=generator, dtype=torch.float64) ** (1 / size)
        ball = direction / direction.norm(dim=1, keepdim=True) * radius
        chance = torch.rand(count, generator=generator, dtype=torch.float64)
        points = torch.empty_like(ball)
        for index, (centre, factor) in enumerate(zip(self.centres, self.factors, strict=True)):
            rows = which == index
            points[rows] = centre + ball[rows] @ factor.T
        if len(self.centres) == 1:
            return points
        # rounding may put a draw at the edge of its own ellipsoid just outside of it
        overlap = self._distances(points).le(1).sum(0).clamp_min(1)
        return points[chance * overlap < 1]

    def contains(self, points: Tensor) -> Tensor:
        """Tell for points (n, d) whether they lie in one of the ellipsoids: (n,)."""
        return (self._distances(points) <= 1).any(0)

    def widened(self, factor: float) -> "Ellipsoids":
        """Return ellipsoids about the same centres, each of `factor` times the volume."""
        return Ellipsoids(self.centres, self.factors * factor ** (1 / self.centres.shape[1]))

    def _distances(self, points: Tensor) -> Tensor:
        """(k, n) squared Mahalanobis distances, 1 at an ellipsoid's surface."""
        shifted = points.T[None] - self.centres[..., None]
        return torch.linalg.solve_triangular(self.factors, shifted, upper=False).square().sum(1)


Shape = Box | Ellipsoids
"""A set that is drawn from uniformly; both have `log_volume`, `sample`, `contains`, `widened`."""
