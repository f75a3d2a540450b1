"""The prior truncated to where a posterior is dense: its support, and exact draws from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, inf, sqrt
from typing import Any

import torch
from torch import Generator, Tensor

from mlpop.config.blocks.training import TruncationRegion
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
    """Where the members of a posterior agree that it is dense, in the prior.

    That is {theta: mean_j log q_j(theta) > tau}: what a single member thinks possible, in the
    tails of its mixture, is no part of it. Networks that are trained inside cannot tell of what
    is outside, so it lies inside the support of the round before, and inside a box. Without tau
    it is all of the box.

    Args:
        conditioned: the posterior at the observation.
        threshold: tau, of a log density in the unit cube; None does not ask for the density.
        within: the support that the posterior was trained in; None is the whole prior.
        box: (d, 2) edges; None is the unit cube.
    """

    conditioned: ConditionedPosterior
    threshold: float | None
    within: "Support | None" = None
    box: Tensor | None = None

    def consensus(self, theta: Tensor) -> Tensor:
        """Return mean_j log q_j - tau (n,) of theta (n, d), tau or 0; -inf outside the prior."""
        return self._above(self.conditioned.consensus, theta)

    def log_ratio(self, theta: Tensor) -> Tensor:
        """Return log q - tau (n,) of theta (n, d), tau or 0; -inf outside the prior."""
        return self._above(self.conditioned.density, theta)

    def contains(self, theta: Tensor) -> Tensor:
        """Tell for theta (n, d) whether it lies in the support: (n,)."""
        return self._denser_by(0.0, theta)

    def accepts(self, theta: Tensor) -> Tensor:
        """Like `contains`, but not for points that rounding might put outside."""
        return self._denser_by(self.slack, theta)

    @property
    def edges(self) -> tuple[tuple[float, float], ...] | None:
        """Low and high of every label, if there is a box."""
        if self.box is None:
            return None
        return tuple((float(low), float(high)) for low, high in self.box)

    def _denser_by(self, slack: float, theta: Tensor) -> Tensor:
        whole = self.threshold is None
        inside = in_cube(theta).cpu() if whole else self.consensus(theta) > slack
        if self.box is not None:
            low, high = self.box.to(theta.dtype).unbind(-1)
            inside &= ((theta >= low) & (theta <= high)).all(-1)
        if self.within is not None and bool(inside.any()):
            inside[inside.clone()] = self.within.contains(theta[inside])
        return inside

    @torch.no_grad()
    def _above(self, density: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
        parts = [density(part.clamp(0, 1)).double() for part in theta.split(_ROWS)]
        values = torch.cat(parts).cpu() if parts else torch.empty(0).double()
        values -= self.threshold or 0.0
        return torch.where(in_cube(theta).cpu() & ~values.isnan(), values, -inf)

    @property
    def slack(self) -> float:
        """How far above the threshold a draw must be."""
        return _SLACK * max(1.0, abs(self.threshold or 0.0))


def recorded_support(
    record: Mapping[str, Any], conditioned: ConditionedPosterior, within: Support | None
) -> Support | None:
    """Return the support that a `ProposalDraw.to_dict` tells of; None of another proposal.

    Args:
        record: of the draws.
        conditioned: the posterior that proposed them, at the observation.
        within: the support that this posterior was trained in.
    """
    if record.get("box") is None:
        return None
    box = torch.tensor(record["box"], dtype=torch.float64)
    threshold = record.get("threshold")
    return Support(conditioned, None if threshold is None else float(threshold), within, box)


@dataclass(frozen=True, eq=False)
class Pilot:
    """Draws of the posterior in its support, from which regions are fitted.

    Args:
        support: with the threshold that the draws gave.
        theta: (n, d) draws in the support.
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


def find_support(
    conditioned: ConditionedPosterior,
    draws: Tensor,
    epsilon: float,
    within: Support | None = None,
) -> Pilot:
    """Find the threshold below which the fraction `epsilon` of the members' consensus lies.

    The consensus p, exp(mean_j log q_j) normalised, is at most the posterior q up to a factor:
    draws of q with weights p / q are draws of it. Of a single member it is q itself.

    Args:
        conditioned: the posterior at the observation.
        draws: (n, d) draws of it, inside the prior.
        epsilon: mass that the support leaves out, in (0, 1).
        within: the support that the posterior was trained in; None is the whole prior.

    Raises:
        SamplingError: the density is not finite at draws of its own, or is the same everywhere,
            or the members do not agree anywhere.
    """
    support = Support(conditioned, 0.0, within)
    log_prob = support.log_ratio(draws)
    broken = int((~log_prob.isfinite()).sum())
    if broken:
        raise SamplingError(
            f"the log density of the posterior is not finite at {broken} of {len(draws)} draws "
            "of its own: the training failed or the observation is unlike the training data"
        )
    consensus = support.consensus(draws)
    weight = (consensus - log_prob).exp()
    if within is not None:
        weight = torch.where(within.contains(draws), weight, 0.0)
    order = consensus.argsort(stable=True)
    mass = weight[order].cumsum(0)
    if float(mass[-1]) <= 0:
        raise SamplingError(
            f"none of {len(draws)} draws of the posterior is where all its networks, and those of "
            "the round before, have mass: train longer, or more simulations a round"
        )
    place = torch.searchsorted(mass, epsilon * mass[-1], right=True)
    threshold = float(consensus[order[place]])
    support = replace(support, threshold=threshold)
    above = support.accepts(draws)
    if int(above.sum()) < 10 * (draws.shape[1] + 1):
        raise SamplingError(
            f"only {int(above.sum())} of {len(draws)} draws of the posterior are denser than the "
            f"threshold for epsilon {epsilon:g}: it is the same density nearly everywhere, or "
            "its networks do not agree"
        )
    return Pilot(support, draws[above], (log_prob - threshold)[above], len(draws))


def boxed(pilot: Pilot, region: TruncationRegion, generator: Generator) -> Pilot:
    """Return the same pilot of the support in a box that encloses it, or of all of that box."""
    enclosing = enclose_support(pilot, "box", generator).region
    assert isinstance(enclosing, Box)
    box = torch.stack([enclosing.low, enclosing.high], 1)
    inside = ((pilot.theta >= enclosing.low) & (pilot.theta <= enclosing.high)).all(-1)
    support = replace(pilot.support, box=box)
    return Pilot(
        replace(support, threshold=None) if region == "box" else support,
        pilot.theta[inside],
        pilot.log_ratio[inside],
        pilot.draws,
    )


def region_source(support: Support, region: Shape, name: str) -> Source:
    """Return attempts from a region around the support; accepted in the support."""
    return Source(name, lambda count, rng: _accepted(support, region.sample(count, rng)))


def prior_source(support: Support) -> Source:
    """Return attempts from the prior; accepted in the support."""
    axes = torch.eye(support.conditioned.prior.dimension, dtype=torch.float64)
    cube = Box(axes, torch.zeros_like(axes[0]), torch.ones_like(axes[0]), aligned=True)
    return region_source(support, cube, "prior rejection")


def box_source(support: Support) -> tuple[Source, float]:
    """Return attempts from the support's box, accepted in the support; and its log volume."""
    assert support.box is not None
    low, high = support.box.unbind(-1)
    box = Box(torch.eye(len(low), dtype=torch.float64), low, high, aligned=True)
    return region_source(support, box, "box rejection"), box.log_volume


def posterior_source(support: Support, draw: Callable[[int, Generator], Tensor]) -> Source:
    """Return attempts from the posterior q, kept with probability exp(tau - log q) in the support.

    What is left has a constant density there, whatever the shape of the support; q is above the
    threshold wherever the consensus of its members is.
    """

    def attempt(count: int, generator: Generator) -> Tensor:
        theta = draw(count, generator)
        chance = torch.rand(count, generator=generator, dtype=torch.float64).log()
        theta = theta[chance < -support.log_ratio(theta)]
        return theta[support.accepts(theta)]

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
    return -(support.threshold or 0.0)


def _asked(support: Support, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of points in the prior, their theta, and which of these are accepted."""
    theta = unit.float()
    rows = in_cube(theta).nonzero()[:, 0]
    theta = theta[rows]
    return rows, theta, support.accepts(theta)


def _accepted(support: Support, unit: Tensor) -> Tensor:
    _, theta, hits = _asked(support, unit)
    return theta[hits]
