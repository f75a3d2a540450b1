"""The prior truncated to where the posterior is dense: the support, and what draws in it."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlpop.config.blocks.training import Sampler, TruncationRegion
from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.proposals.connectivity import fraction_apart
from mlpop.inference.proposals.enclosing_region import ShapeName
from mlpop.inference.proposals.proposal_draw import PosteriorDraws, ProposalDraw
from mlpop.inference.proposals.rejection import Budget, Source, reject
from mlpop.inference.proposals.resampling import resample
from mlpop.inference.proposals.truncation import (
    Pilot,
    Support,
    box_source,
    boxed,
    enclose_support,
    find_support,
    posterior_log_volume,
    posterior_source,
    prior_source,
    region_source,
    volume_fraction,
)

logger = logging.getLogger(__name__)

EPSILON = 1e-4
"""Mass of the posterior that may be cut off."""

CHEAP_THRESHOLD_SAMPLES = 100_000
CHAIN_THRESHOLD_SAMPLES = 10_000
"""Draws from which the threshold is taken: with 10 000 from Markov chains it is only the second
lowest density at this epsilon, but more would cost minutes."""

PRIOR_DRAWS = 10_000
"""Of the pilot that measures how much of the prior is left."""

PRIOR_ACCEPTANCE = 1e-2
"""From here on plain rejection from the prior is used, which needs no assumption at all."""

GOOD_ACCEPTANCE = 0.3
"""Of a region, at which no other is fitted."""

DENSITY_COST = 1.0
GEOMETRY_COST = 0.02
CHEAP_DRAW_COST = 4.0
CHAIN_DRAW_COST = 1000.0
"""What an attempt costs, in evaluations of the density of one theta. Constants, not measured at
run time: which method is chosen must not depend on the machine."""

LARGEST_UNCOVERED = 0.01
"""A region that may miss more of the support than this is used only if nothing else works."""


@dataclass(frozen=True, eq=False)
class _Way:
    """A method that could draw: what the pilot knows of it."""

    source: Source
    acceptance: float
    cost: float
    log_volume: float
    found: int
    uncovered: float = 0.0

    def total(self, num_samples: int) -> float:
        """Expected cost of all draws."""
        return num_samples * self.cost / self.acceptance if self.acceptance else float("inf")

    def affordable(self, num_samples: int, budget: Budget) -> bool:
        return num_samples <= 0.8 * self.acceptance * budget.max_attempts


@dataclass(frozen=True, eq=False)
class TruncatedProposal:
    """The prior inside one support, whatever is drawn from it and however often.

    Args:
        ways: methods that could draw, and their acceptances.
        sir_candidates: candidates of every draw when resampling.
        redraws: draws of the posterior that were made again to find all this.
        seconds: wall time that it took [s].
    """

    pilot: Pilot
    draws: PosteriorDraws
    ways: tuple[_Way, ...]
    sampler: Sampler
    sir_candidates: int
    redraws: int
    seconds: float

    @property
    def support(self) -> Support:
        """What is drawn from: the prior in here."""
        return self.pilot.support

    def log_ratio(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of scaled theta (n, d) over that of the prior."""
        surest = max(self.ways, key=lambda way: (way.found, way.acceptance))
        log_volume = surest.log_volume + math.log(max(surest.acceptance, 1e-300))
        inside = self.support.contains(theta)
        return torch.where(inside, -log_volume, -math.inf).double()

    def draw(self, num_samples: int, generator: Generator, budget: Budget) -> ProposalDraw:
        """Draw theta; see `mlpop.inference.proposals.proposal.Proposal`."""
        support = self.support
        before = self.draws.redraws
        way = _choose(self.ways, num_samples, self.sampler, budget)
        if way is None:
            theta, attempts, ess = resample(
                support, self.draws, num_samples, generator, budget, self.sir_candidates
            )
            method, uncovered, accepted = "sampling-importance-resampling", 0.0, num_samples
            most = max(self.ways, key=lambda way: way.found)
            pilot_attempts = round(most.found / most.acceptance) if most.found else PRIOR_DRAWS
            volume = volume_fraction(most.log_volume, most.found, pilot_attempts)
            logger.warning(
                "no exact method can draw from the truncated prior within %d attempts; resampled "
                "with %d candidates (median effective number %.1f), which is denser where the "
                "posterior is",
                budget.max_attempts,
                self.sir_candidates,
                ess,
            )
        else:
            theta, accepted, attempts = reject(
                way.source, num_samples, generator, budget, expected=way.acceptance
            )
            method, uncovered, ess = way.source.name, way.uncovered, None
            volume = volume_fraction(way.log_volume, accepted, attempts)
        assert support.box is not None
        return ProposalDraw(
            theta=theta,
            kind="truncated",
            sampler=self.sampler,
            method=method,
            exact=way is not None,
            acceptance=accepted / attempts,
            attempts=attempts,
            seconds=self.seconds + budget.seconds,
            outside_fraction=float((~support.contains(theta)).float().mean()),
            redraws=self.redraws + self.draws.redraws - before,
            epsilon=EPSILON,
            apart_fraction=fraction_apart(support, theta),
            threshold=support.threshold,
            box=support.box.tolist(),
            threshold_samples=self.pilot.draws,
            volume_fraction=volume[0],
            volume_error=volume[1],
            uncovered=uncovered,
            ess_median=ess,
            pilot={way.source.name: way.acceptance for way in self.ways},
        )


def truncate(
    conditioned: ConditionedPosterior,
    generator: Generator,
    *,
    sampler: Sampler,
    region: TruncationRegion,
    sir_candidates: int,
    within: Support | None,
) -> TruncatedProposal:
    """Find the support and the methods that could draw in it; see `make_proposal`."""
    started = time.monotonic()
    draws = PosteriorDraws(conditioned)
    count = CHEAP_THRESHOLD_SAMPLES if conditioned.cheap else CHAIN_THRESHOLD_SAMPLES
    pilot = find_support(conditioned, draws(count, generator), EPSILON, within)
    pilot = boxed(pilot, region, generator)
    ways = tuple(_explore(pilot, draws, sampler, generator))
    return TruncatedProposal(
        pilot,
        draws,
        ways,
        sampler,
        sir_candidates,
        redraws=draws.redraws,
        seconds=time.monotonic() - started,
    )


def _explore(
    pilot: Pilot, draws: PosteriorDraws, sampler: Sampler, generator: Generator
) -> list[_Way]:
    """Measure the acceptance of the methods that `sampler` allows, by counting."""
    support = pilot.support
    prior = prior_source(support)
    found = len(prior.attempt(PRIOR_DRAWS, generator))
    ways = [_Way(prior, found / PRIOR_DRAWS, DENSITY_COST, 0.0, found)]
    if sampler == "rejection" or (sampler != "box" and found >= PRIOR_ACCEPTANCE * PRIOR_DRAWS):
        return ways
    if support.threshold is None:
        source, log_volume = box_source(support)
        found = len(source.attempt(PRIOR_DRAWS, generator))
        box = _Way(source, found / PRIOR_DRAWS, GEOMETRY_COST, log_volume, found)
        return [box] if sampler == "box" else [*ways, box]
    shapes: tuple[ShapeName, ...] = ("box", "rotated box")
    if sampler != "box":
        shapes = ("ellipsoid", *shapes)
    for shape in shapes:
        enclosure = enclose_support(pilot, shape, generator)
        ways.append(
            _Way(
                region_source(support, enclosure.region, f"{shape} rejection"),
                enclosure.acceptance,
                GEOMETRY_COST + DENSITY_COST * enclosure.evaluations,
                enclosure.region.log_volume,
                enclosure.found,
                enclosure.uncovered,
            )
        )
        if ways[-1].acceptance >= GOOD_ACCEPTANCE and enclosure.uncovered <= LARGEST_UNCOVERED:
            break
    if sampler == "box":
        return ways[1:]
    ways.append(
        _Way(
            posterior_source(support, draws),
            pilot.posterior_acceptance,
            DENSITY_COST + (CHEAP_DRAW_COST if support.conditioned.cheap else CHAIN_DRAW_COST),
            posterior_log_volume(support),
            0,
        )
    )
    return ways


def _choose(
    ways: Sequence[_Way], num_samples: int, sampler: Sampler, budget: Budget
) -> _Way | None:
    """Choose the cheapest method that can do within the attempts; None: resample.

    Raises:
        SamplingError: none can, and `sampler` does not allow to resample.
    """
    if sampler in ("rejection", "box"):
        alternatives = {"rejection": "'box' or 'sir'", "box": "'sir'"}[sampler]
        budget.advice = (
            f"Set trainer.truncation_sampler to {alternatives}, which finds a faster exact "
            "method, or ask for fewer draws"
        )
        return min(ways, key=lambda way: way.total(num_samples))
    if ways[0].acceptance >= PRIOR_ACCEPTANCE:
        return ways[0]
    able = [way for way in ways if way.affordable(num_samples, budget)]
    sure = [way for way in able if way.uncovered <= LARGEST_UNCOVERED]
    if sure or able:
        return min(sure or able, key=lambda way: way.total(num_samples))
    if sampler == "sir":
        return None
    acceptances = ", ".join(f"{way.source.name} {way.acceptance:.2g}" for way in ways)
    raise SamplingError(
        f"no exact method can make {num_samples} draws of the truncated prior within "
        f"{budget.max_attempts} attempts; acceptances: {acceptances}. Allow more attempts, "
        "ask for fewer draws, train longer, or set trainer.sir to true for approximate draws"
    )
