"""Neural estimators of posterior, likelihood or ratio: how to build one from its spec."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Generator, Tensor, nn

from mlpop.config.methods import EstimatorKind
from mlpop.errors import DataError
from mlpop.inference.estimators.cube import build_cube_density
from mlpop.inference.estimators.likelihood import LikelihoodEstimator, build_likelihood
from mlpop.inference.estimators.ratio import RatioClassifier, build_ratio
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.standardize import standardize
from mlpop.networks.device import OnDevice
from mlpop.networks.initializers import initialize
from mlpop.networks.registry import build, output_width
from mlpop.networks.rng import generator_from_seed, lend


class EmbedOnce(ConditionalDensityEstimator, OnDevice):
    """A density of theta given x: one pass of an embedding network, then a density of theta.

    sbi keeps the embedding inside the density, where a flow runs it once for every theta. Here it
    stands outside and runs once for every x, which gives the same numbers and is 10 to 35 times
    faster when many theta meet one x. `embed` and `net` let callers keep the embedding.

    Args:
        head: density of theta (d,), in the unit cube, given an embedding (e,).
        embedding: network from x to its embedding.
        theta_shape: (d,).
        x_shape: shape of one x.
    """

    kind: EstimatorKind = "posterior"
    net: ConditionalDensityEstimator

    def __init__(
        self,
        head: ConditionalDensityEstimator,
        embedding: nn.Module,
        theta_shape: torch.Size,
        x_shape: torch.Size,
    ) -> None:
        super().__init__(net=head, input_shape=theta_shape, condition_shape=x_shape)
        self.embedding = embedding

    @property
    def theta_shape(self) -> torch.Size:
        return self.input_shape

    @property
    def x_shape(self) -> torch.Size:
        return self.condition_shape

    @property
    def embedding_net(self) -> nn.Module:
        """The network from x to its embedding (sbi's name for it)."""
        return self.embedding

    def embed(self, x: Tensor) -> Tensor:
        """Return the embeddings (..., e) of `x` (..., *x_shape), on the networks' device."""
        self._check_condition_shape(x)
        x = x.to(self.device)
        lead = x.shape[: x.ndim - len(self.condition_shape)]
        embedded: Tensor = self.embedding(x.reshape(-1, *self.condition_shape))
        return embedded.reshape(*lead, embedded.shape[-1])

    def log_prob_embedded(self, theta: Tensor, embedding: Tensor) -> Tensor:
        """Return log densities (s, b) of `theta` (s, b, d) given its `embedding` (b, e).

        They are where theta are, wherever the networks compute.
        """
        return self.net.log_prob(theta.to(self.device), embedding).to(theta.device)

    def log_potential(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(theta | x) (s, b) of `theta` (s, b, d) and `x` (b, *x_shape).

        In the unit cube the prior is uniform: that is log p(x | theta) up to a function of x.
        """
        return self.log_prob_embedded(theta, self.embed(x))

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log densities (s, b) of theta (s, b, d) given x (b, *x_shape)."""
        return self.net.log_prob(input, self.embed(condition), **kwargs)

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return the negative log densities (b,) of theta (b, d) given x (b, *x_shape)."""
        return self.net.loss(input, self.embed(condition), **kwargs)

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw theta (*sample_shape, b, d) given x (b, *x_shape), from torch's generator."""
        return self.net.sample(sample_shape, self.embed(condition), **kwargs)


PotentialEstimator = LikelihoodEstimator | RatioClassifier
"""What Markov chains walk on; has `log_potential_embedded(theta, embedding)`."""

Estimator = EmbedOnce | PotentialEstimator
"""A posterior, a likelihood or a ratio.

All have `theta_shape`, `x_shape`, `embed(x) -> (b, e)` and `log_potential(theta, x) -> (s, b)`,
and a `device` where they compute: theta and x may be elsewhere, and what they return of theta is
where theta are.
"""


def build_posterior(
    spec: EstimatorSpec, theta: Tensor, x: Tensor, embedding: nn.Module
) -> EmbedOnce:
    """Build an untrained density of theta, standardized by theta (n, d), given embedded x.

    Draws from torch's global generator.
    """
    head = build_cube_density(spec, theta, output_width(embedding, spec.x_shape))
    return EmbedOnce(head, embedding, theta.shape[1:], x.shape[1:])


Builder = Callable[[EstimatorSpec, Tensor, Tensor, nn.Module], Estimator]

BUILDERS: Mapping[EstimatorKind, Builder] = {
    "posterior": build_posterior,
    "likelihood": build_likelihood,
    "ratio": build_ratio,
}
"""What is learned -> how to build it untrained, of spec, theta, x and embedding network."""


def build_estimator(
    spec: EstimatorSpec, theta: Tensor, x: Tensor, generator: Generator
) -> Estimator:
    """Build an untrained estimator; every call makes its own new networks.

    Args:
        spec: what to build.
        theta: (n, d) parameters of the training set, in the unit cube, n >= 2; for
            standardization.
        x: (n, *x_shape) data of the training set; for standardization.
        generator: source of the initial weights.

    Raises:
        DataError: shapes contradict the spec, there are fewer than two rows, or a likelihood's x
            has a component that never varies.
        ConfigError: the embedding network cannot be built or cannot take this x.
    """
    if theta.shape[1:] != (spec.dimension,) or x.shape[1:] != spec.x_shape or len(theta) != len(x):
        raise DataError(
            f"training data must be theta (n, {spec.dimension}) and x (n, "
            f"{', '.join(map(str, spec.x_shape))}), but got {tuple(theta.shape)} and "
            f"{tuple(x.shape)}"
        )
    if len(theta) < 2:
        raise DataError(f"an estimator needs at least 2 simulations, but got {len(theta)}")
    embedding = _build_embedding(spec, x, generator)
    with lend(generator):
        return BUILDERS[spec.kind](spec, theta, x, embedding)


def empty_estimator(spec: EstimatorSpec) -> Estimator:
    """Build an estimator whose weights mean nothing, to load a state into."""
    theta = torch.tensor([[0.25], [0.75]]).expand(2, spec.dimension).contiguous()
    x = torch.stack([torch.zeros(spec.x_shape), torch.ones(spec.x_shape)])
    return build_estimator(spec, theta, x, generator_from_seed(0))


def _build_embedding(spec: EstimatorSpec, x: Tensor, generator: Generator) -> nn.Module:
    layers: list[nn.Module] = []
    if spec.z_score_x != "none":
        layers.append(standardize(x, spec.z_score_x))
    if spec.embedding is None:
        layers.append(nn.Flatten())
        return nn.Sequential(*layers)
    with lend(generator):
        network = build(spec.embedding.type, spec.embedding.args)
    if spec.embedding.initializer is not None:
        initialize(
            network,
            spec.embedding.initializer,
            generator,
            include_conv=spec.embedding.include_conv,
        )
    return nn.Sequential(*layers, network)
