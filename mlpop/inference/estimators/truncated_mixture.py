"""A density on the unit cube: of each label given those before it, a mixture of cut Gaussians."""

import math
from typing import Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus
from torch.special import log_ndtr, ndtr, ndtri
from zuko.nn import MaskedMLP

from mlpop.inference.prior import RESOLUTION

_HIDDEN_LAYERS = 2
_NARROWEST, _WIDEST = 1e-4, 10.0
"""Standard deviations of components, in units of the cube."""
_FIRST_WIDTH = 0.2
_FAR = 20.0
"""Standard deviations from its mean beyond which a Gaussian falls like z exp(-z^2 / 2)."""


class TruncatedMixture(ConditionalDensityEstimator):
    """A density of u in the unit cube, by the chain rule in a random order of the labels.

    The density of a label given the condition and the labels before it is a mixture of Gaussians,
    each cut at 0 and 1 and normalised there. One masked network gives them all (MADE).

    Args:
        dimension: d of u.
        width: e, length of a condition.
        num_components: Gaussians of every label.
        hidden_features: of both hidden layers.

    References:
        Germain et al. 2015, "MADE: masked autoencoder for distribution estimation",
        https://arxiv.org/abs/1502.03509
    """

    def __init__(
        self, dimension: int, width: int, num_components: int, hidden_features: int
    ) -> None:
        order = torch.randperm(dimension)
        sees = torch.cat(
            [order[:, None] > order, torch.ones(dimension, width, dtype=torch.bool)], 1
        )
        network = MaskedMLP(
            sees.repeat_interleave(3 * num_components, 0), (hidden_features,) * _HIDDEN_LAYERS
        )
        super().__init__(network, torch.Size((dimension,)), torch.Size((width,)))
        self.register_buffer("order", order)
        spread = torch.linspace(0, 1, num_components + 2)[1:-1]
        width_ = math.log(math.expm1(_FIRST_WIDTH))
        first = torch.stack(
            [torch.zeros(num_components), spread, torch.full((num_components,), width_)]
        )
        self.first = nn.Parameter(first.expand(dimension, -1, -1).clone())

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log densities (s, b) of u (s, b, d) given conditions (b, e)."""
        u = input.clamp(RESOLUTION, 1 - RESOLUTION)
        log_weight, mean, width = self._components(u, condition)
        z = (u[..., None] - mean) / width
        log_mass = _log_mass(-mean / width, (1 - mean) / width)
        parts = log_weight - 0.5 * z.square() - width.log() - log_mass
        return (parts.logsumexp(-1) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return the negative log densities (b,) of u (b, d) given conditions (b, e)."""
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw u (*sample_shape, b, d) given conditions (b, e), from torch's generator."""
        order = self.get_buffer("order")
        u = condition.new_full((*sample_shape, len(condition), len(order)), 0.5)
        for place in range(len(order)):
            label = int((order == place).nonzero())
            log_weight, mean, width = (
                values[..., label, :] for values in self._components(u, condition)
            )
            chosen = torch.distributions.Categorical(logits=log_weight).sample()[..., None]
            mean, width = (values.gather(-1, chosen)[..., 0].double() for values in (mean, width))
            z = _cut_normal(-mean / width, (1 - mean) / width)
            u[..., label] = (mean + width * z).clamp(RESOLUTION, 1 - RESOLUTION).float()
        return u

    def _components(self, u: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights, means and standard deviations (..., d, k)."""
        condition = condition.expand(*u.shape[:-1], condition.shape[-1])
        numbers = self.net(torch.cat([u - 0.5, condition], -1))
        numbers = numbers.unflatten(-1, self.first.shape) + self.first
        weight, mean, width = numbers.unbind(-2)
        return log_softmax(weight, -1), mean, softplus(width).clamp(_NARROWEST, _WIDEST)


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """Return log(Phi(high) - Phi(low)), by the tail that is the smaller one."""
    above = low > 0
    low, high = torch.where(above, -high, low), torch.where(above, -low, high)
    log_high = log_ndtr(high)
    # where both are the same to all digits, one unit of the last
    difference = (log_ndtr(low) - log_high).clamp_max(-1e-7)
    return log_high + torch.log1p(-difference.exp())


def _cut_normal(low: Tensor, high: Tensor) -> Tensor:
    """Draw z (...) of a standard normal between `low` and `high`, double precision."""
    above = low > 0
    a, b = torch.where(above, -high, low), torch.where(above, -low, high)
    unit = torch.rand(a.shape, dtype=a.dtype)
    z = ndtri((ndtr(a) + unit * (ndtr(b) - ndtr(a))).clamp(1e-300, 1 - 1e-16))
    # b is here the end next to the mean
    fall = torch.expm1(0.5 * (b.square() - a.square()))
    tail = -(b.square() - 2 * torch.log1p(unit * fall)).clamp_min(0).sqrt()
    z = torch.where(b < -_FAR, tail, z)
    return torch.where(above, -z, z)
