"""Neural likelihoods: densities of x given theta."""

from typing import Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor, nn

from mlpop.config.methods import EstimatorKind
from mlpop.errors import DataError
from mlpop.inference.estimators.densities import build_density
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.standardize import Standardize, standardize
from mlpop.networks.device import OnDevice


class StandardizedDensity(ConditionalDensityEstimator):
    """A density of x given theta that sees both standardized; made for sbi's own tools.

    Args:
        head: sbi's density of standardized x (e,) given standardized theta (d,).
        standardize_x: of the input.
        standardize_theta: of the condition.
    """

    net: ConditionalDensityEstimator

    def __init__(
        self,
        head: ConditionalDensityEstimator,
        standardize_x: Standardize,
        standardize_theta: Standardize,
    ) -> None:
        super().__init__(head, head.input_shape, head.condition_shape)
        self.standardize_x = standardize_x
        self.standardize_theta = standardize_theta

    @property
    def embedding_net(self) -> nn.Module:
        """What theta goes through first (sbi's name for it)."""
        return self.standardize_theta

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log densities (s, b) of x (s, b, e) given theta (b, d) or (s, b, d)."""
        z = self.standardize_x(input)
        values: Tensor = self.net.log_prob(z, self.standardize_theta(condition), **kwargs)
        return values - self.log_scale

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return the negative log densities (b,) of x (b, e) given theta (b, d)."""
        return -self.log_prob(input[None], condition, **kwargs)[0]

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw x (*sample_shape, b, e) given theta (b, d), from torch's generator."""
        z = self.net.sample(sample_shape, self.standardize_theta(condition), **kwargs)
        return self.standardize_x.inverse(z)

    @property
    def log_scale(self) -> Tensor:
        """The log volume of a standard unit of x."""
        scale = self.standardize_x.scale
        return scale.expand(self.input_shape).log().sum()


class LikelihoodEstimator(nn.Module, OnDevice):
    """A trained likelihood, as training and Markov chains use it.

    Args:
        density: of x (e,) given theta (d,).
    """

    kind: EstimatorKind = "likelihood"

    def __init__(self, density: StandardizedDensity) -> None:
        super().__init__()
        self.density = density

    @property
    def theta_shape(self) -> torch.Size:
        return self.density.condition_shape

    @property
    def x_shape(self) -> torch.Size:
        return self.density.input_shape

    def embed(self, x: Tensor) -> Tensor:
        """Return what `log_potential_embedded` needs of `x` (b, e): x itself, standardized."""
        return self.density.standardize_x(x.to(self.device))

    def log_potential_embedded(self, theta: Tensor, embedding: Tensor) -> Tensor:
        """Return log p(x | theta) (s, b) of `theta` (s, b, d) and the `embedding` (b, e) of x."""
        samples, batch = theta.shape[:2]
        here = theta.to(self.device)
        condition = self.density.standardize_theta(here).reshape(samples * batch, -1)
        points = embedding.expand(samples, *embedding.shape).reshape(1, samples * batch, -1)
        values: Tensor = self.density.net.log_prob(points, condition)
        return (values.reshape(samples, batch) - self.density.log_scale).to(theta.device)

    def log_potential(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | theta) (s, b) of `theta` (s, b, d) and `x` (b, e).

        Differentiable in theta.
        """
        return self.log_potential_embedded(theta, self.embed(x))

    def loss(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return -log p(x | theta) (b,) of `theta` (b, d) and `x` (b, e)."""
        return self.density.loss(x, theta)


def build_likelihood(
    spec: EstimatorSpec, theta: Tensor, x: Tensor, _: nn.Module
) -> LikelihoodEstimator:
    """Build an untrained likelihood of x (n, e) given theta (n, d), standardized by those.

    Draws from torch's global generator.

    Raises:
        DataError: a component of x never varies, where a density would be infinite.
    """
    constant = (x == x[:1]).all(0).nonzero()[:, 0].tolist()
    if constant:
        raise DataError(
            f"x is {float(x[0, constant[0]])} in all {len(x)} simulations at component "
            f"{constant[0]} ({len(constant)} such of {x.shape[1]}): a likelihood needs data that "
            "vary, so leave it out or train snpe or snre"
        )
    standardize_x = standardize(x, spec.z_score_x)
    head = build_density(spec, standardize_x(x), spec.dimension, "none")
    return LikelihoodEstimator(
        StandardizedDensity(head, standardize_x, standardize(theta, spec.z_score_theta))
    )
