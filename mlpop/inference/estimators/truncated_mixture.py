"""A density on the unit cube: of each label given those before it, a mixture of cut Gaussians."""

import math
from typing import Any

import torch
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus
from torch.special import erfc, log_ndtr, ndtri

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

    net: "LabelNetworks"

    def __init__(
        self, dimension: int, width: int, num_components: int, hidden_features: int
    ) -> None:
        networks = LabelNetworks(dimension, width, hidden_features, 3 * num_components)
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
        log_weight, mean, width = self._components(self.net(u, condition), self.first)
        z = (u.movedim(-1, 0)[..., None] - mean) / width
        log_mass = _log_mass(-mean / width, (1 - mean) / width)
        parts = log_weight - 0.5 * z.square() - width.log() - log_mass
        return (parts.logsumexp(-1) - 0.5 * math.log(2 * math.pi)).sum(0)

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return the negative log densities (b,) of u (b, d) given conditions (b, e)."""
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw u (*sample_shape, b, d) given conditions (b, e), from torch's generator."""
        order = self.get_buffer("order")
        u = condition.new_zeros((*sample_shape, len(condition), len(order)))
        for place in range(len(order)):
            numbers = self.net.of_one(place, u, condition)
            log_weight, mean, width = self._components(numbers, self.first[place])
            chosen = torch.distributions.Categorical(logits=log_weight).sample()[..., None]
            mean, width = (values.gather(-1, chosen)[..., 0].double() for values in (mean, width))
            z = _cut_normal(-mean / width, (1 - mean) / width)
            u[..., place] = (mean + width * z).clamp(RESOLUTION, 1 - RESOLUTION).float()
        return u[..., order.argsort()]

    @staticmethod
    def _components(numbers: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights, means and standard deviations (..., k) from (..., 3 k)."""
        shape = (*first.shape[:-2], *[1] * (numbers.ndim - first.ndim + 1), *first.shape[-2:])
        numbers = numbers.unflatten(-1, (3, -1)) + first.view(shape)
        weight, mean, width = numbers.unbind(-2)
        return log_softmax(weight, -1), mean, softplus(width).clamp(_NARROWEST, _WIDEST)


class LabelNetworks(nn.Module):
    """A network of two hidden layers for every label, all in one pass.

    That of the label at a place sees the condition and the labels at the places before it.

    Args:
        dimension: d, labels.
        width: e, length of a condition.
        hidden_features: h, of both hidden layers of every network.
        outputs: o, numbers of every label.
    """

    def __init__(self, dimension: int, width: int, hidden_features: int, outputs: int) -> None:
        super().__init__()
        h = hidden_features
        weights: list[list[Tensor]] = [[], [], []]
        biases: list[list[Tensor]] = [[], [], []]
        for place in range(dimension):
            layers = nn.Linear(width + place, h), nn.Linear(h, h), nn.Linear(h, outputs)
            for layer, values, shifts in zip(layers, weights, biases, strict=True):
                values.append(layer.weight.detach().T)
                shifts.append(layer.bias.detach()[None])
        # rows of a label: those before it, then as many zeros as are not
        before = [
            nn.functional.pad(w[:p], (0, 0, 0, dimension - p)) for p, w in enumerate(weights[0])
        ]
        self.from_labels = nn.Parameter(torch.stack(before))
        self.from_condition = nn.Parameter(torch.stack([w[p:] for p, w in enumerate(weights[0])]))
        self.weights = nn.ParameterList(torch.stack(values) for values in weights[1:])
        self.biases = nn.ParameterList(torch.stack(shifts) for shifts in biases)
        self.register_buffer("seen", torch.ones(dimension, dimension).tril(-1)[..., None])

    def forward(self, u: Tensor, condition: Tensor) -> Tensor:
        """Return the numbers (d, *n, b, o) given u (*n, b, d) and conditions (b, e)."""
        return self._pass(slice(None), u, condition)

    def of_one(self, place: int, u: Tensor, condition: Tensor) -> Tensor:
        """Return the numbers (*n, b, o) of the label at a place."""
        return self._pass(slice(place, place + 1), u, condition)[0]

    def _pass(self, places: slice, u: Tensor, condition: Tensor) -> Tensor:
        seen = self.from_labels[places] * self.get_buffer("seen")[places]
        first = condition @ self.from_condition[places] + self.biases[0][places]
        rows = u.reshape(-1, u.shape[-1]) - 0.5
        count = len(rows) // len(condition)
        hidden = (rows @ seen).unflatten(1, (count, -1)) + first[:, None]
        hidden = hidden.flatten(1, 2).relu()
        hidden = torch.baddbmm(self.biases[1][places], hidden, self.weights[0][places]).relu()
        numbers = torch.baddbmm(self.biases[2][places], hidden, self.weights[1][places])
        return numbers.unflatten(1, u.shape[:-1])


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
    unit = torch.rand(a.shape, dtype=a.dtype, device=a.device)
    below = _below(a)
    z = ndtri((below + unit * (_below(b) - below)).clamp(1e-300, 1 - 1e-16))
    # b is here the end next to the mean
    fall = torch.expm1(0.5 * (b.square() - a.square()))
    tail = -(b.square() - 2 * torch.log1p(unit * fall)).clamp_min(0).sqrt()
    z = torch.where(b < -_FAR, tail, z)
    return torch.where(above, -z, z)


def _below(z: Tensor) -> Tensor:
    """Return Phi(z); torch's ndtr is 0 below -8.3."""
    return 0.5 * erfc(-z * math.sqrt(0.5))
