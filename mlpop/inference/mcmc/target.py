"""The density that Markov chains walk on: a potential, moved to unconstrained coordinates."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mlpop.inference.prior import RESOLUTION

_ROWS = 20_000
"""Potentials that are computed at once; bounds the memory."""

Potential = Callable[[Tensor, Tensor], Tensor]
"""From theta (s, b, d), in the unit cube, and x (b, ...) to (s, b) log densities, each up to a
constant."""


@dataclass(frozen=True, eq=False)
class Target:
    """Posteriors of b observations under one potential and a uniform prior, as functions of y.

    theta = sigmoid(z), in the unit cube, with z = centre + factor y: y is free of edges, and with
    the right centre and factor has mean 0 and unit covariance. Densities are over y, with the
    Jacobian, in double precision. Rows of y belong to observations by their number `owner`.

    Args:
        potential: of the estimator.
        x: (b, ...) observations.
        centre: (b, d) double.
        factor: (b, d, d) double.
    """

    potential: Potential
    x: Tensor
    centre: Tensor
    factor: Tensor

    @property
    def dimension(self) -> int:
        return self.centre.shape[1]

    @cached_property
    def log_scale(self) -> Tensor:
        """(b,) log |det factor|."""
        return torch.linalg.slogdet(self.factor).logabsdet

    def whitened(self, centre: Tensor, factor: Tensor) -> "Target":
        """Return the same density over another y: z = centre + factor y, (b, d) and (b, d, d)."""
        return replace(self, centre=centre, factor=factor)

    def select(self, observations: Tensor) -> "Target":
        """Return the target of some of the observations, in the order of their numbers."""
        return replace(
            self,
            x=self.x[observations],
            centre=self.centre[observations],
            factor=self.factor[observations],
        )

    def to_free(self, y: Tensor, owner: Tensor) -> Tensor:
        """Return z (n, d) of y (n, d)."""
        return self.centre[owner] + (self.factor[owner] @ y[:, :, None])[:, :, 0]

    def to_theta(self, y: Tensor, owner: Tensor) -> Tensor:
        """Return theta (n, d), float32, inside the cube, of y (n, d)."""
        return self._theta(self.to_free(y, owner))

    def log_jacobian(self, y: Tensor, owner: Tensor) -> Tensor:
        """Return log |d theta / d y| (n,) at y (n, d)."""
        return self._log_jacobian(self.to_free(y, owner), owner)

    @torch.no_grad()
    def potentials(self, y: Tensor, owner: Tensor) -> Tensor:
        """Return the potential (n,) at y (n, d), double; -inf where it is not finite."""
        return self._potentials(self.to_free(y, owner), owner)

    @torch.no_grad()
    def log_density(self, y: Tensor, owner: Tensor) -> Tensor:
        """Return the log density (n,) at y (n, d); its integral is that of exp(potential)."""
        z = self.to_free(y, owner)
        return self._potentials(z, owner) + self._log_jacobian(z, owner)

    def log_density_and_gradient(self, y: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log density (n,) at y (n, d) and its gradient (n, d).

        Where one is not finite, the density is -inf and the gradient 0.
        """
        values, gradients = [], []
        for part, number in zip(y.split(_ROWS), owner.split(_ROWS), strict=True):
            with torch.enable_grad():
                place = part.detach().requires_grad_()
                z = self.to_free(place, number)
                potential = self.potential(self._theta(z)[None], self.x[number])[0].double()
                value = potential + self._log_jacobian(z, number)
                (gradient,) = torch.autograd.grad(value.sum(), place)
            fine = value.isfinite() & gradient.isfinite().all(-1)
            values.append(torch.where(fine, value.detach(), -torch.inf))
            gradients.append(torch.where(fine[:, None], gradient, 0.0))
        return torch.cat(values), torch.cat(gradients)

    def _theta(self, z: Tensor) -> Tensor:
        return z.sigmoid().clamp(RESOLUTION, 1 - RESOLUTION).float()

    def _log_jacobian(self, z: Tensor, owner: Tensor) -> Tensor:
        return (logsigmoid(z) + logsigmoid(-z)).sum(-1) + self.log_scale[owner]

    def _potentials(self, z: Tensor, owner: Tensor) -> Tensor:
        values = [
            self.potential(self._theta(part)[None], self.x[number])[0]
            for part, number in zip(z.split(_ROWS), owner.split(_ROWS), strict=True)
        ]
        result = torch.cat(values).double()
        return torch.where(result.isfinite(), result, -torch.inf)


def make_target(potential: Potential, x: Tensor, dimension: int) -> Target:
    """Return the posteriors given `x` (b, ...) in the plain unconstrained coordinates."""
    count = len(x)
    return Target(
        potential,
        x,
        torch.zeros(count, dimension, dtype=torch.float64),
        torch.eye(dimension, dtype=torch.float64).expand(count, -1, -1).clone(),
    )
