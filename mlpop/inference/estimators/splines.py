"""An autoregressive flow of splines from the unit cube to itself."""

from typing import Any

import torch
from nflows.transforms.splines.rational_quadratic import rational_quadratic_spline
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from torch import Tensor, nn
from zuko.nn import MaskedMLP

from mlpop.inference.prior import RESOLUTION

_HIDDEN_LAYERS = 2


class SplineDensity(ConditionalDensityEstimator):
    """A density of u in the unit cube: monotone splines map u to uniform numbers.

    Every transform sees the components in another random order; each component passes a rational
    quadratic spline of [0, 1] whose knots depend on the condition and on the components before
    it. The slopes at 0 and 1 are free, so that the density at a face of the cube may be anything.

    Args:
        dimension: d of u.
        width: e, length of a condition.
        num_transforms: how many.
        num_bins: of every spline.
        hidden_features: of both hidden layers of the network that gives the knots.

    References:
        Durkan et al. 2019, "Neural spline flows", https://arxiv.org/abs/1906.04032
    """

    net: nn.ModuleList

    def __init__(
        self, dimension: int, width: int, num_transforms: int, num_bins: int, hidden_features: int
    ) -> None:
        numbers = 3 * num_bins + 1
        networks, orders = [], []
        for _ in range(num_transforms):
            order = torch.randperm(dimension)
            sees = torch.cat(
                [order[:, None] > order, torch.ones(dimension, width, dtype=torch.bool)], 1
            )
            network = MaskedMLP(
                sees.repeat_interleave(numbers, 0), (hidden_features,) * _HIDDEN_LAYERS
            )
            _start_near_uniform(network)
            networks.append(network)
            orders.append(order)
        super().__init__(nn.ModuleList(networks), torch.Size((dimension,)), torch.Size((width,)))
        self.num_bins = num_bins
        self.register_buffer("orders", torch.stack(orders))

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log densities (s, b) of u (s, b, d) given conditions (b, e)."""
        u, total = input.clamp(RESOLUTION, 1 - RESOLUTION), input.new_zeros(input.shape[:-1])
        for network in self.net:
            u, log_slope = self._transform(network, u, u, condition, inverse=False)
            total = total + log_slope.sum(-1)
        return total

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return the negative log densities (b,) of u (b, d) given conditions (b, e)."""
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw u (*sample_shape, b, d) given conditions (b, e), from torch's generator."""
        (dimension,) = self.input_shape
        u = torch.rand(*sample_shape, len(condition), dimension)
        for network, order in zip(reversed(self.net), self.orders.flip(0), strict=True):
            v, u = u, torch.full_like(u, 0.5)
            # the k-th pass gets the k-th component of the order right, and those before it
            for _ in order:
                u, _ = self._transform(network, v, u, condition, inverse=True)
        return u.clamp(RESOLUTION, 1 - RESOLUTION)

    def _transform(
        self, network: nn.Module, values: Tensor, u: Tensor, condition: Tensor, *, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the splines of `values`, or their inverse, with knots given by u before each."""
        condition = condition.expand(*u.shape[:-1], condition.shape[-1])
        knots = network(torch.cat([u - 0.5, condition], -1)).unflatten(-1, (u.shape[-1], -1))
        widths, heights, slopes = knots.tensor_split((self.num_bins, 2 * self.num_bins), -1)
        values, log_slope = rational_quadratic_spline(
            values, widths, heights, slopes, inverse=inverse
        )
        # rounding may leave the cube by a digit
        return values.clamp(0, 1), log_slope


def _start_near_uniform(network: MaskedMLP) -> None:
    """Scale the last layer such that all bins are alike and all slopes about 1."""
    last = network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.mul_(0.1)
