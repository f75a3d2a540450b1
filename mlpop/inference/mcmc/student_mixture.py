"""Mixtures of Student's t fitted to draws: heavy-tailed stand-ins for a posterior."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

_DEGREES = 5
"""Of freedom: tails heavier than those of any density cut to a box, in logit coordinates."""
_BROAD = 0.1
"""Weight of one wide component, so that the mixture covers what the fit has missed."""
_BROAD_SCALE = 1.5
_PSEUDO_VARIANCE = 0.01
"""Added once to every component's sum of squares; draws have about unit variance."""
_EM_STEPS = 15
_MAX_COMPONENTS = 8
_POINTS_PER_PARAMETER = 4


@dataclass(frozen=True, eq=False)
class StudentMixture:
    """b mixtures of k multivariate Student's t in d dimensions.

    Attributes:
        weights: (b, k).
        means: (b, k, d).
        factors: (b, k, d, d) lower Cholesky factors of the scale matrices.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def select(self, mixtures: Tensor) -> "StudentMixture":
        """Return some of the mixtures."""
        return StudentMixture(self.weights[mixtures], self.means[mixtures], self.factors[mixtures])

    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw (b, num_samples, d)."""
        count, _, dimension = self.means.shape
        chosen = torch.multinomial(
            self.weights, num_samples, replacement=True, generator=generator
        )
        normal = torch.randn(
            count, num_samples, dimension, generator=generator, dtype=torch.float64
        )
        squares = torch.randn(
            count, num_samples, _DEGREES, generator=generator, dtype=torch.float64
        )
        stretch = (squares.square().mean(-1, keepdim=True)).rsqrt()
        row = torch.arange(count)[:, None]
        factor = self.factors[row, chosen]
        return self.means[row, chosen] + (factor @ normal[..., None])[..., 0] * stretch

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the log densities (b, n) of `points` (b, n, d)."""
        dimension = points.shape[-1]
        distance = _mahalanobis(points, self.means, self.factors)
        constant = (
            math.lgamma((_DEGREES + dimension) / 2)
            - math.lgamma(_DEGREES / 2)
            - 0.5 * dimension * math.log(_DEGREES * math.pi)
        )
        log_scale = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_parts = (
            self.weights.log()[..., None]
            + constant
            - log_scale[..., None]
            - 0.5 * (_DEGREES + dimension) * torch.log1p(distance / _DEGREES)
        )
        return torch.logsumexp(log_parts, dim=1)


def fit_student_mixture(points: Tensor, generator: Generator) -> StudentMixture:
    """Fit Gaussian mixtures by expectation maximization, and give them heavy tails.

    The number of components is the same function of n and d for all.

    Args:
        points: (b, n, d) draws of b densities, each of about zero mean and unit covariance.
        generator: chooses where components start.
    """
    count, number, dimension = points.shape
    parameters = dimension * (dimension + 3) // 2
    components = min(_MAX_COMPONENTS, max(1, number // (_POINTS_PER_PARAMETER * parameters)))
    identity = torch.eye(dimension, dtype=points.dtype)
    means = _spread_out(points, components, generator)
    factors = identity.expand(count, components, -1, -1)
    weights = torch.full((count, components), 1 / components, dtype=points.dtype)
    if components > 1:
        factors = factors * (1 / components) ** (1 / dimension)
    squares = (points[..., :, None] * points[..., None, :]).flatten(2)
    for _ in range(_EM_STEPS if components > 1 else 1):
        log_scale = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        distance = _mahalanobis(points, means, factors)
        log_parts = weights.log()[..., None] - log_scale[..., None] - 0.5 * distance
        share = torch.softmax(log_parts, dim=1)
        total = share.sum(-1)
        means = (share @ points) / total.clamp_min(1e-10)[..., None]
        second = (share @ squares).view(count, components, dimension, dimension)
        scatter = second - total[..., None, None] * means[..., :, None] * means[..., None, :]
        scatter = scatter + _PSEUDO_VARIANCE * identity
        factors = torch.linalg.cholesky(scatter / (total + 1)[..., None, None])
        weights = (total + 1e-3) / (total + 1e-3).sum(-1, keepdim=True)
    broad = torch.full((count, 1), _BROAD, dtype=points.dtype)
    return StudentMixture(
        torch.cat([(1 - _BROAD) * weights, broad], 1),
        torch.cat([means, points.mean(1, keepdim=True)], 1),
        torch.cat([factors, _BROAD_SCALE * identity.expand(count, 1, -1, -1)], 1),
    )


def _spread_out(points: Tensor, components: int, generator: Generator) -> Tensor:
    """Return (b, k, d) points far from each other: every next one by its squared distance."""
    count, number, _ = points.shape
    row = torch.arange(count)
    chosen = points[row, torch.randint(number, (count,), generator=generator)][:, None]
    for _ in range(components - 1):
        nearest = torch.cdist(points, chosen).amin(-1).square() + 1e-12
        index = torch.multinomial(nearest, 1, generator=generator)[:, 0]
        chosen = torch.cat([chosen, points[row, index][:, None]], 1)
    return chosen


def _mahalanobis(points: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Return squared distances (b, k, n) of points (b, n, d) from every component."""
    identity = torch.eye(points.shape[-1], dtype=points.dtype).expand_as(factors)
    inverse = torch.linalg.solve_triangular(factors, identity, upper=False)
    # one matrix product for all components: their rows one after another
    count, components, dimension = means.shape
    rows = inverse.reshape(count, components * dimension, dimension)
    offset = (inverse @ means[..., None]).reshape(count, -1, 1)
    whitened = torch.baddbmm(offset, rows, points.transpose(1, 2), beta=-1)
    return whitened.square().view(count, components, dimension, -1).sum(2)
