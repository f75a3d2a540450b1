"""A density on the unit cube: of each label given those before it, a mixture of cut Gaussians."""

import math
from typing import Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus
from torch.special import log_ndtr, ndtr, ndtri

from mlpop.inference.prior import RESOLUTION

_NARROWEST, _WIDEST = 1e-4, 10.0
"""Standard deviations of components, in units of the cube."""
_FIRST_WIDTH = 0.2
_FAR = 20.0
"""Standard deviations from its mean beyond which a Gaussian falls like z exp(-z^2 / 2)."""


class TruncatedMixture(ConditionalDensityEstimator):
    """A density of u in the unit cube, by the chain rule in a random order of the labels.

    The density of a label given the condition and the labels before it is a mixture of Gaussians,
    each cut at 0 and 1 and normalised there. Every label has its own network: in one masked
    network of all of them the first labels of the order would have a fraction of the units.

    Args:
        dimension: d of u.
        width: e, length of a condition.
        num_components: Gaussians of every label.
        hidden_features: of both hidden layers of every network.
    """

    net: nn.ModuleList

    def __init__(
        self, dimension: int, width: int, num_components: int, hidden_features: int
    ) -> None:
        networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width + place, hidden_features),
                nn.ReLU(),
                nn.Linear(hidden_features, hidden_features),
                nn.ReLU(),
                nn.Linear(hidden_features, 3 * num_components),
            )
            for place in range(dimension)
        )
        super().__init__(networks, torch.Size((dimension,)), torch.Size((width,)))
        self.register_buffer("order", torch.randperm(dimension))
        spread = torch.linspace(0, 1, num_components + 2)[1:-1]
        width_ = math.log(math.expm1(_FIRST_WIDTH))
        first = torch.stack(
            [torch.zeros(num_components), spread, torch.full((num_components,), width_)]
        )
        self.first = nn.Parameter(first.expand(dimension, -1, -1).clone())

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log densities (s, b) of u (s, b, d) given conditions (b, e)."""
        u = input.clamp(RESOLUTION, 1 - RESOLUTION)[..., self.get_buffer("order")]
        labels = [self._components(place, u, condition) for place in range(u.shape[-1])]
        log_weight, mean, width = (torch.stack(values, -2) for values in zip(*labels, strict=True))
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
        u = condition.new_empty((*sample_shape, len(condition), len(order)))
        for place in range(len(order)):
            log_weight, mean, width = self._components(place, u, condition)
            chosen = torch.distributions.Categorical(logits=log_weight).sample()[..., None]
            mean, width = (values.gather(-1, chosen)[..., 0].double() for values in (mean, width))
            z = _cut_normal(-mean / width, (1 - mean) / width)
            u[..., place] = (mean + width * z).clamp(RESOLUTION, 1 - RESOLUTION).float()
        return u[..., order.argsort()]

    def _components(
        self, place: int, u: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights, means and standard deviations (..., k) of the label at a place.

        `u` (..., d) is in the order of the places; those before count.
        """
        condition = condition.expand(*u.shape[:-1], condition.shape[-1])
        numbers = self.net[place](torch.cat([u[..., :place] - 0.5, condition], -1))
        numbers = numbers.unflatten(-1, (3, -1)) + self.first[place]
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
