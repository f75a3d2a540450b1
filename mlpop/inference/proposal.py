"""Where the next round simulates: draws from the posterior, or from the truncated prior."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor

from mlpop.errors import ConfigError
from mlpop.inference.conditioned import ConditionedPosterior
from mlpop.inference.cover import Shape
from mlpop.inference.posterior import SamplingError
from mlpop.inference.rejection import Budget, Source, reject
from mlpop.inference.resampling import resample
from mlpop.inference.rng import one_thread
from mlpop.inference.truncation import (
    Pilot,
    PosteriorSource,
    PriorSource,
    RegionSource,
    cover_support,
    find_support,
    posterior_log_volume,
    volume_fraction,
)

logger = logging.getLogger(__name__)

Kind = Literal["posterior", "truncated"]
Sampler = Literal["auto", "sir", "rejection", "box"]

MAX_REDRAWS = 20
"""Times that draws of a posterior which are NaN or outside the prior are made again."""

CHEAP_THRESHOLD_SAMPLES = 100_000
CHAIN_THRESHOLD_SAMPLES = 10_000
"""Draws from which the threshold is taken: with 10 000 from Markov chains it is only the second
lowest density at the default epsilon, but more would cost minutes."""

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
class ProposalDraw:
    """Draws for the next round, and how they were made.

    Args:
        theta: (n, d) scaled draws, float32, all inside the prior.
        kind: `posterior`, or `truncated` for the prior where the posterior is dense.
        sampler: what was asked for.
        method: what drew.
        exact: whether the draws are independent and of exactly this distribution; false only for
            `sampling-importance-resampling`.
        acceptance: accepted attempts over attempts.
        attempts: candidates looked at, without the pilot.
        seconds: wall time [s], pilot included.
        outside_fraction: part of the draws outside the support or the prior; 0.
        redraws: times that draws of the posterior had to be made again, see `MAX_REDRAWS`.
        epsilon: mass of the posterior outside the support; None for `posterior`.
        threshold: log density, per scaled unit, at the edge of the support.
        threshold_samples: draws that it was taken from.
        volume_fraction: volume of the support over the prior's.
        volume_error: its standard error.
        uncovered: part of the support that the method may miss at most, with 95 % confidence.
        ess_median: median effective number of candidates; of resampling only.
        pilot: acceptance of every method that the pilot looked at.
    """

    theta: Tensor
    kind: Kind
    sampler: str
    method: str
    exact: bool
    acceptance: float
    attempts: int
    seconds: float
    outside_fraction: float
    redraws: int = 0
    epsilon: float | None = None
    threshold: float | None = None
    threshold_samples: int | None = None
    volume_fraction: float | None = None
    volume_error: float | None = None
    uncovered: float | None = None
    ess_median: float | None = None
    pilot: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values without theta and the seconds: the same for the same seed."""
        names = [name for name in self.__dataclass_fields__ if name not in ("theta", "seconds")]
        values = {name: getattr(self, name) for name in names}
        return values | {"num_samples": len(self.theta), "pilot": dict(self.pilot)}


@torch.no_grad()
def draw_proposal(
    conditioned: ConditionedPosterior,
    num_samples: int,
    generator: Generator,
    *,
    kind: Kind,
    sampler: Sampler = "auto",
    epsilon: float = 1e-4,
    num_threshold_samples: int | None = None,
    sir_candidates: int = 1024,
    max_attempts: int | None = None,
    max_seconds: float = 3600.0,
) -> ProposalDraw:
    """Draw theta of the next round given the posterior at the observation.

    `posterior` draws from the posterior itself. `truncated` draws from the prior, cut to where
    the posterior's density is above the quantile `epsilon` of its own draws, by

    - `rejection`: draws of the prior that lie there; exact, slow once little is left of it;
    - `box`: rejection inside a box around the support, along the axes or rotated;
    - `auto`: what a pilot finds cheapest of these, of ellipsoids, and of exact rejection from
      the posterior;
    - `sir`: like `auto`. The name is kept, but resampling even with right weights crowds where
      the posterior is dense; it is used, marked as not `exact`, only where no exact method can
      do within the attempts.

    A region that draws are made in is fitted to posterior draws and grown until uniform draws
    around it find nothing outside; `uncovered` tells how sure that is.

    Args:
        conditioned: the posterior at the observation.
        num_samples: draws wanted.
        generator: source of all randomness; the same gives the same bits.
        kind: of proposal.
        sampler: of a truncated prior.
        epsilon: mass of the posterior that may be cut off.
        num_threshold_samples: draws to take the threshold from; by default 100 000, or 10 000 of
            Markov chains.
        sir_candidates: candidates of every draw when resampling.
        max_attempts: candidates that may be looked at; by default 20 000 for every draw, at least
            ten million.
        max_seconds: wall time allowed [s]; can only end in an error.

    Raises:
        ConfigError: an argument is out of range or unknown.
        SamplingError: the posterior cannot be drawn from, or a budget does not suffice.

    References:
        Deistler, Goncalves & Macke 2022, "Truncated proposals for scalable and hassle-free
        simulation-based inference", NeurIPS.
    """
    _check(num_samples, kind, sampler, epsilon, num_threshold_samples, sir_candidates)
    limit = max(10_000_000, 20_000 * num_samples) if max_attempts is None else max_attempts
    budget = Budget(limit, max_seconds)
    draws = _PosteriorDraws(conditioned)
    with one_thread():
        if kind == "posterior":
            theta = draws(num_samples, generator)
            return ProposalDraw(
                theta=theta,
                kind=kind,
                sampler="posterior",
                method="posterior",
                exact=True,
                acceptance=num_samples / draws.made,
                attempts=draws.made,
                seconds=budget.seconds,
                outside_fraction=float((~conditioned.prior.contains(theta)).float().mean()),
                redraws=draws.redraws,
            )
        default = CHEAP_THRESHOLD_SAMPLES if conditioned.cheap else CHAIN_THRESHOLD_SAMPLES
        count = num_threshold_samples or default
        pilot = find_support(conditioned, draws(count, generator), epsilon)
        return _truncated(
            pilot, draws, num_samples, generator, budget, sampler, epsilon, sir_candidates
        )


@dataclass
class _PosteriorDraws:
    """Draws of a posterior, made again where they are NaN or outside the prior."""

    conditioned: ConditionedPosterior
    made: int = 0
    redraws: int = 0

    def __call__(self, count: int, generator: Generator) -> Tensor:
        theta = self.conditioned.sample(count, generator).detach().cpu().clone()
        self.made += count
        for attempt in range(MAX_REDRAWS + 1):
            usable = self.conditioned.prior.contains(theta) & theta.isfinite().all(-1)
            wrong = (~usable).nonzero()[:, 0]
            if not len(wrong):
                return theta
            if attempt < MAX_REDRAWS:
                theta[wrong] = self.conditioned.sample(len(wrong), generator).detach().cpu()
                self.made += len(wrong)
                self.redraws += 1
        raise SamplingError(
            f"{len(wrong)} of {count} draws of the posterior are NaN or outside the prior after "
            f"{MAX_REDRAWS} redraws: the training failed or the observation is unlike the "
            "training data"
        )


@dataclass(frozen=True, eq=False)
class _Way:
    """A method that could draw: what the pilot knows of it."""

    source: Source
    acceptance: float
    cost: float
    log_volume: float | None
    found: int
    uncovered: float = 0.0

    def total(self, num_samples: int) -> float:
        """Expected cost of all draws."""
        return num_samples * self.cost / self.acceptance if self.acceptance else float("inf")

    def affordable(self, num_samples: int, budget: Budget) -> bool:
        return num_samples <= 0.8 * self.acceptance * budget.max_attempts


def _truncated(
    pilot: Pilot,
    draws: _PosteriorDraws,
    num_samples: int,
    generator: Generator,
    budget: Budget,
    sampler: Sampler,
    epsilon: float,
    sir_candidates: int,
) -> ProposalDraw:
    support = pilot.support
    ways = _explore(pilot, draws, sampler, generator)
    way = _choose(ways, num_samples, sampler, budget)
    if way is None:
        resampled = resample(
            support, draws, num_samples, generator, budget, candidates=sir_candidates
        )
        theta, attempts, accepted = resampled.theta, resampled.attempts, num_samples
        method, uncovered, ess = "sampling-importance-resampling", 0.0, resampled.ess_median
        logger.warning(
            "no exact method can draw from the truncated prior within %d attempts; resampled "
            "with %d candidates (median effective number %.1f), which is denser where the "
            "posterior is",
            budget.max_attempts,
            sir_candidates,
            ess,
        )
    else:
        result = reject(way.source, num_samples, generator, budget, expected=way.acceptance)
        theta, attempts, accepted = result.theta, result.attempts, result.accepted
        method, uncovered, ess = way.source.name, way.uncovered, None
    if way is None or way.log_volume is None:
        known = max((each for each in ways if each.log_volume is not None), key=lambda w: w.found)
        counts = known.found, round(known.found / known.acceptance) if known.found else PRIOR_DRAWS
        volume = volume_fraction(known.log_volume or 0.0, *counts)
    else:
        volume = volume_fraction(way.log_volume, accepted, attempts)
    return ProposalDraw(
        theta=theta,
        kind="truncated",
        sampler=sampler,
        method=method,
        exact=way is not None,
        acceptance=accepted / attempts,
        attempts=attempts,
        seconds=budget.seconds,
        outside_fraction=float((~support.contains(theta)).float().mean()),
        redraws=draws.redraws,
        epsilon=epsilon,
        threshold=support.threshold,
        threshold_samples=pilot.draws,
        volume_fraction=volume[0],
        volume_error=volume[1],
        uncovered=uncovered,
        ess_median=ess,
        pilot={way.source.name: way.acceptance for way in ways},
    )


def _explore(
    pilot: Pilot, draws: _PosteriorDraws, sampler: Sampler, generator: Generator
) -> list[_Way]:
    """Measure the acceptance of the methods that `sampler` allows, by counting."""
    support = pilot.support
    prior = PriorSource(support)
    found = len(prior.attempt(PRIOR_DRAWS, generator))
    ways = [_Way(prior, found / PRIOR_DRAWS, DENSITY_COST, 0.0, found)]
    if sampler == "rejection" or (sampler != "box" and found >= PRIOR_ACCEPTANCE * PRIOR_DRAWS):
        return ways
    shapes: tuple[Shape, ...] = ("box", "rotated box")
    if sampler != "box":
        shapes = ("ellipsoid", *shapes)
    for shape in shapes:
        cover = cover_support(pilot, shape, generator)
        ways.append(
            _Way(
                RegionSource(support, cover.region, f"{shape} rejection"),
                cover.acceptance,
                GEOMETRY_COST + DENSITY_COST * cover.evaluations,
                cover.region.log_volume,
                cover.found,
                cover.uncovered,
            )
        )
        if ways[-1].acceptance >= GOOD_ACCEPTANCE and cover.uncovered <= LARGEST_UNCOVERED:
            break
    if sampler == "box":
        return ways[1:]
    normalized = support.conditioned.normalized
    ways.append(
        _Way(
            PosteriorSource(support, draws),
            pilot.posterior_acceptance,
            DENSITY_COST + (CHEAP_DRAW_COST if support.conditioned.cheap else CHAIN_DRAW_COST),
            posterior_log_volume(support) if normalized else None,
            0,
        )
    )
    return ways


def _choose(ways: list[_Way], num_samples: int, sampler: Sampler, budget: Budget) -> _Way | None:
    """Choose the cheapest method that can do within the attempts; None: resample.

    Raises:
        SamplingError: none can, and `sampler` does not allow to resample.
    """
    if sampler in ("rejection", "box"):
        return _named(ways, num_samples, sampler, budget)
    if ways[0].acceptance >= PRIOR_ACCEPTANCE:
        return ways[0]
    able = [way for way in ways if way.affordable(num_samples, budget)]
    sure = [way for way in able if way.uncovered <= LARGEST_UNCOVERED]
    if sure or able:
        return min(sure or able, key=lambda way: way.total(num_samples))
    if sampler == "sir":
        return None
    found = ", ".join(f"{way.source.name} {way.acceptance:.2g}" for way in ways)
    raise SamplingError(
        f"no exact method can make {num_samples} draws of the truncated prior within "
        f"{budget.max_attempts} attempts; acceptances: {found}. Allow more attempts, ask for "
        "fewer draws, train longer, or set trainer.sir to true for approximate draws"
    )


def _named(ways: list[_Way], num_samples: int, sampler: Sampler, budget: Budget) -> _Way:
    """Take the method that was asked for; its budget's error names the others."""
    others = {"rejection": "'box' or 'sir'", "box": "'sir'"}[sampler]
    budget.advice = (
        f"Set trainer.truncation_sampler to {others}, which finds a faster exact method, or ask "
        "for fewer draws"
    )
    return min(ways, key=lambda way: way.total(num_samples))


def _check(
    num_samples: int,
    kind: str,
    sampler: str,
    epsilon: float,
    num_threshold_samples: int | None,
    sir_candidates: int,
) -> None:
    """Refuse arguments that make no sense.

    Raises:
        ConfigError: names the argument, its value and what is allowed.
    """
    for name, value, allowed in (
        ("kind", kind, get_args(Kind)),
        ("sampler", sampler, get_args(Sampler)),
    ):
        if value not in allowed:
            raise ConfigError(f"{name} of a proposal must be one of {allowed}, but got {value!r}")
    if not 0 < epsilon < 1:
        raise ConfigError(f"epsilon of a truncated prior must be in (0, 1), but got {epsilon}")
    for name, count, least in (
        ("num_samples", num_samples, 1),
        ("num_threshold_samples", num_threshold_samples, 100),
        ("sir_candidates", sir_candidates, 2),
    ):
        if count is not None and count < least:
            raise ConfigError(f"{name} of a proposal must be at least {least}, but got {count}")
