"""The prior truncated to where a posterior is dense: its support, and exact draws from it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, sqrt

import torch
from torch import Generator, Tensor

from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.prior import in_cube
from mlpop.inference.proposals.enclosing_region import EnclosingRegion, ShapeName, enclose
from mlpop.inference.proposals.rejection import Source
from mlpop.inference.proposals.shapes import Box, Shape

_ROWS = 100_000
"""Densities that are computed at once; bounds the memory."""

_SLACK = 1e-5
"""Relative distance above the threshold at which a draw counts as inside: a density of float32
may come out a few units of its last digit differently next to other rows."""


@dataclass(frozen=True, eq=False)
class Support:
    """Where the posterior q is denser than a threshold tau, in the prior: {theta: log q > tau}."""

    conditioned: ConditionedPosterior
    threshold: float

    @torch.no_grad()
    def log_ratio(self, theta: Tensor) -> Tensor:
        """Return log q - tau (n,) of theta (n, d); -inf outside the prior and for NaN."""
        parts = [self.conditioned.log_prob(part).double() for part in theta.split(_ROWS)]
        values = torch.cat(parts).cpu() - self.threshold if parts else torch.empty(0).double()
        return torch.where(values.isnan(), -inf, values)

    def contains(self, theta: Tensor) -> Tensor:
        """Tell for theta (n, d) whether it lies in the support: (n,)."""
        return self.log_ratio(theta) > 0

    def accepts(self, theta: Tensor) -> Tensor:
        """Like `contains`, but not for points that rounding might put outside."""
        return self.log_ratio(theta) > self.slack

    @property
    def slack(self) -> float:
        """How far above the threshold a draw must be."""
        return _SLACK * max(1.0, abs(self.threshold))


@dataclass(frozen=True, eq=False)
class Pilot:
    """Draws of the posterior in its support, from which regions are fitted.

    Args:
        support: with the threshold that the draws gave.
        theta: (n, d) draws above the threshold.
        log_ratio: (n,) log q - tau there.
        draws: how many there were in all.
    """

    support: Support
    theta: Tensor
    log_ratio: Tensor
    draws: int

    @property
    def posterior_acceptance(self) -> float:
        """Part of the posterior's draws that exact rejection from it would keep."""
        return float((-self.log_ratio).exp().sum()) / self.draws


def find_support(conditioned: ConditionedPosterior, draws: Tensor, epsilon: float) -> Pilot:
    """Find the threshold below which the fraction `epsilon` of the posterior's mass lies.

    It is element int(epsilon n) of the sorted log densities of n draws.

    Args:
        conditioned: the posterior at the observation.
        draws: (n, d) draws of it, inside the prior.
        epsilon: mass that the support leaves out, in (0, 1).

    Raises:
        SamplingError: the density is not finite at draws of its own, or is the same everywhere.
    """
    support = Support(conditioned, 0.0)
    log_prob = support.log_ratio(draws)
    broken = int((~log_prob.isfinite()).sum())
    if broken:
        raise SamplingError(
            f"the log density of the posterior is not finite at {broken} of {len(draws)} draws "
            "of its own: the training failed or the observation is unlike the training data"
        )
    threshold = float(log_prob.sort().values[int(epsilon * len(draws))])
    support = Support(conditioned, threshold)
    above = log_prob - threshold > support.slack
    if int(above.sum()) < 10 * (draws.shape[1] + 1):
        raise SamplingError(
            f"only {int(above.sum())} of {len(draws)} draws of the posterior are denser than the "
            f"threshold for epsilon {epsilon:g}: it is the same density nearly everywhere, or "
            "num_threshold_samples is too small"
        )
    return Pilot(support, draws[above], (log_prob - threshold)[above], len(draws))


def region_source(support: Support, region: Shape, name: str) -> Source:
    """Return attempts from a region around the support; accepted in the support."""
    return Source(name, lambda count, rng: _accepted(support, region.sample(count, rng)))


def prior_source(support: Support) -> Source:
    """Return attempts from the prior; accepted in the support."""
    axes = torch.eye(support.conditioned.prior.dimension, dtype=torch.float64)
    cube = Box(axes, torch.zeros_like(axes[0]), torch.ones_like(axes[0]), aligned=True)
    return region_source(support, cube, "prior rejection")


def posterior_source(support: Support, draw: Callable[[int, Generator], Tensor]) -> Source:
    """Return attempts from the posterior q, kept with probability exp(tau - log q) in the support.

    What is left has a constant density there, whatever the shape of the support.
    """

    def attempt(count: int, generator: Generator) -> Tensor:
        theta = draw(count, generator)
        chance = torch.rand(count, generator=generator, dtype=torch.float64).log()
        log_ratio = support.log_ratio(theta)
        return theta[(log_ratio > support.slack) & (chance < -log_ratio)]

    return Source("posterior rejection", attempt)


def enclose_support(pilot: Pilot, shape: ShapeName, generator: Generator) -> EnclosingRegion:
    """Fit a region around the support of a pilot, see `enclosing_region.enclose`."""
    support = pilot.support

    def inside(points: Tensor) -> tuple[int, Tensor]:
        rows, _, hits = _asked(support, points)
        in_support = torch.zeros(len(points), dtype=torch.bool)
        in_support[rows] = hits
        return len(rows), in_support

    return enclose(shape, pilot.theta.double(), pilot.log_ratio, inside, generator)


def volume_fraction(log_volume: float, accepted: int, attempts: int) -> tuple[float, float]:
    """Return the volume of the support over the prior's, and its Monte Carlo error.

    The attempts were spread uniformly over a volume whose log, over the prior's, is `log_volume`.
    """
    rate = accepted / attempts
    error = sqrt(max(rate * (1 - rate), 0.0) / attempts) if accepted else 1 / attempts
    scale = exp(log_volume)
    return rate * scale, error * scale


def posterior_log_volume(support: Support) -> float:
    """Log of the volume over the prior's for which accepted draws of q stand."""
    return -support.threshold


def _asked(support: Support, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of points in the prior, their theta, and which of these are accepted."""
    theta = unit.float()
    rows = in_cube(theta).nonzero()[:, 0]
    theta = theta[rows]
    return rows, theta, support.accepts(theta)


def _accepted(support: Support, unit: Tensor) -> Tensor:
    _, theta, hits = _asked(support, unit)
    return theta[hits]
