"""Densities of theta on the unit cube, where the prior is uniform: no mass is outside."""

import math
from typing import Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor

from mlpop.inference.estimators.densities import build_density
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.truncated_mixture import TruncatedMixture
from mlpop.inference.prior import RESOLUTION, in_cube


class DensityWithin(ConditionalDensityEstimator):
    """A density of u in a box inside the unit cube, 0 outside: one of the cube, stretched.

    Args:
        density: of v = (u - low) / (high - low), in the unit cube.
        low, high: (d,) edges of the box.
    """

    net: ConditionalDensityEstimator

    def __init__(self, density: ConditionalDensityEstimator, low: Tensor, high: Tensor) -> None:
        super().__init__(density, density.input_shape, density.condition_shape)
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log densities (s, b) of u (s, b, d) given conditions (b, e)."""
        low, high = self.get_buffer("low"), self.get_buffer("high")
        v = (input - low) / (high - low)
        values = self.net.log_prob(v.clamp(0, 1), condition) - (high - low).log().sum()
        return torch.where(in_cube(v), values, -torch.inf)

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return the negative log densities (b,) of u (b, d) given conditions (b, e)."""
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw u (*sample_shape, b, d) given conditions (b, e), from torch's generator."""
        low, high = self.get_buffer("low"), self.get_buffer("high")
        v = self.net.sample(sample_shape, condition, **kwargs)
        return (low + (high - low) * v).clamp(RESOLUTION, 1 - RESOLUTION)


class ProbitDensity(ConditionalDensityEstimator):
    """A density of u in the unit cube: sbi's density of z = probit(u), which knows no edge.

    The prior is a standard normal of z, and log q(u) = log q(z) - sum_k log phi(z_k).

    Args:
        head: sbi's density of z (d,) given a condition (e,).
    """

    net: ConditionalDensityEstimator

    def __init__(self, head: ConditionalDensityEstimator) -> None:
        super().__init__(head, head.input_shape, head.condition_shape)

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log densities (s, b) of u (s, b, d) given conditions (b, e)."""
        z = probit(input)
        values = self.net.log_prob(z, condition, **kwargs)
        return values + (0.5 * z.square() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return the negative log densities (b,) of u (b, d) given conditions (b, e)."""
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw u (*sample_shape, b, d) given conditions (b, e), from torch's generator."""
        z = self.net.sample(sample_shape, condition, **kwargs)
        return torch.special.ndtr(z).clamp(RESOLUTION, 1 - RESOLUTION)


def probit(u: Tensor) -> Tensor:
    """Return z of u (...) in the unit cube: the quantiles of a standard normal."""
    return torch.special.ndtri(u.double().clamp(RESOLUTION, 1 - RESOLUTION)).float()


def build_cube_density(
    spec: EstimatorSpec, theta: Tensor, width: int
) -> ConditionalDensityEstimator:
    """Build an untrained density of theta given vectors; draws from torch's global generator.

    Args:
        spec: model and its sizes.
        theta: (n, d) of the training set, in the unit cube; for standardization.
        width: length of the vectors that it is given.
    """
    if spec.domain is None:
        return _build_whole(spec, theta, width)
    low, high = (torch.tensor(edges) for edges in zip(*spec.domain, strict=True))
    stretched = ((theta - low) / (high - low)).clamp(0, 1)
    return DensityWithin(_build_whole(spec, stretched, width), low, high)


def _build_whole(spec: EstimatorSpec, theta: Tensor, width: int) -> ConditionalDensityEstimator:
    if spec.model == "mdn":
        return TruncatedMixture(spec.dimension, width, spec.num_components, spec.hidden_features)
    return ProbitDensity(build_density(spec, probit(theta), width, spec.z_score_theta))
