"""How wide a density is: one factor, by which all that it is made of is wider."""

import math

from nflows.distributions.normal import StandardNormal
from torch import Tensor, nn
from zuko.distributions import DiagNormal
from zuko.lazy import UnconditionalDistribution


class Widths:
    """A part of a density that can be made wider or narrower; it stays normalised.

    The factor is no weight: it is not trained, nor stored with the network.
    """

    width_factor: float = 1.0


class WideNormal(Widths, StandardNormal):
    """nflows' base of a flow, a standard normal, with another standard deviation."""

    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        values: Tensor = super()._log_prob(inputs / self.width_factor, context)
        return values - inputs.shape[1:].numel() * math.log(self.width_factor)

    def _sample(self, num_samples: int, context: Tensor | None) -> Tensor:
        drawn: Tensor = super()._sample(num_samples, context)
        return self.width_factor * drawn


class WideBase(Widths, UnconditionalDistribution):
    """zuko's base of a flow, a normal, with another standard deviation."""

    def forward(self, c: Tensor | None = None) -> DiagNormal:
        """Return the normal; the context is ignored."""
        normal = super().forward(c).base_dist
        return DiagNormal(normal.loc, self.width_factor * normal.scale)


def make_widenable(flow: nn.Module) -> None:
    """Let the base of a flow be wider or narrower; its weights keep their names."""
    for module in flow.modules():
        if type(module) is StandardNormal:
            module.__class__ = WideNormal
        elif type(module) is UnconditionalDistribution:
            module.__class__ = WideBase


def set_width_factor(density: nn.Module, width_factor: float) -> None:
    """Make all parts of a density so many times as wide as they were trained."""
    for module in density.modules():
        if isinstance(module, Widths):
            module.width_factor = width_factor
