"""Where the next round simulates: draws from the posterior, or from the truncated prior."""

import time
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Generator

from mlpop.errors import ConfigError
from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.proposals.proposal_draw import PosteriorDraws, ProposalDraw, ProposalKind
from mlpop.inference.proposals.rejection import Budget
from mlpop.inference.proposals.truncated_proposal import Sampler, TruncatedProposal, truncate
from mlpop.networks.rng import one_thread


@dataclass(frozen=True, eq=False)
class Proposal:
    """What the next round draws theta from, for training, tests and plots alike.

    Every draw depends on its own generator only, not on other draws.

    Args:
        source: the posterior itself, or the prior truncated to where it is dense.
    """

    source: ConditionedPosterior | TruncatedProposal

    @torch.no_grad()
    def draw(
        self,
        num_samples: int,
        generator: Generator,
        *,
        max_attempts: int | None = None,
        max_seconds: float = 3600.0,
    ) -> ProposalDraw:
        """Draw theta.

        Args:
            num_samples: draws wanted.
            generator: source of all randomness; the same gives the same bits.
            max_attempts: candidates that may be looked at; by default 20 000 for every draw, at
                least ten million.
            max_seconds: wall time allowed [s]; can only end in an error.

        Raises:
            ConfigError: `num_samples` is not positive.
            SamplingError: the posterior cannot be drawn from, or a budget does not suffice.
        """
        _check_count("num_samples", num_samples, 1)
        limit = max(10_000_000, 20_000 * num_samples) if max_attempts is None else max_attempts
        budget = Budget(limit, max_seconds)
        with one_thread():
            if isinstance(self.source, TruncatedProposal):
                return self.source.draw(num_samples, generator, budget)
            return _draw_posterior(self.source, num_samples, generator)


@torch.no_grad()
def make_proposal(
    conditioned: ConditionedPosterior,
    generator: Generator,
    *,
    kind: ProposalKind,
    sampler: Sampler = "auto",
    epsilon: float = 1e-4,
    num_threshold_samples: int | None = None,
    sir_candidates: int = 1024,
) -> Proposal:
    """Make the proposal of the next round of the posterior at the observation.

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
        generator: source of the draws that find the support; the same gives the same bits.
        kind: of proposal.
        sampler: of a truncated prior.
        epsilon: mass of the posterior that may be cut off.
        num_threshold_samples: draws to take the threshold from; by default 100 000, or 10 000 of
            Markov chains.
        sir_candidates: candidates of every draw when resampling.

    Raises:
        ConfigError: an argument is out of range or unknown.
        SamplingError: the posterior cannot be drawn from, or its density is useless.

    References:
        Deistler, Goncalves & Macke 2022, "Truncated proposals for scalable and hassle-free
        simulation-based inference", NeurIPS.
    """
    _check(kind, sampler, epsilon, num_threshold_samples, sir_candidates)
    if kind == "posterior":
        return Proposal(conditioned)
    with one_thread():
        return Proposal(
            truncate(
                conditioned,
                generator,
                sampler=sampler,
                epsilon=epsilon,
                num_threshold_samples=num_threshold_samples,
                sir_candidates=sir_candidates,
            )
        )


def _draw_posterior(
    conditioned: ConditionedPosterior, num_samples: int, generator: Generator
) -> ProposalDraw:
    started = time.monotonic()
    draws = PosteriorDraws(conditioned)
    theta = draws(num_samples, generator)
    return ProposalDraw(
        theta=theta,
        kind="posterior",
        sampler="posterior",
        method="posterior",
        exact=True,
        acceptance=num_samples / draws.made,
        attempts=draws.made,
        seconds=time.monotonic() - started,
        outside_fraction=float((~conditioned.prior.contains(theta)).float().mean()),
        redraws=draws.redraws,
    )


def _check(
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
        ("kind", kind, get_args(ProposalKind)),
        ("sampler", sampler, get_args(Sampler)),
    ):
        if value not in allowed:
            raise ConfigError(f"{name} of a proposal must be one of {allowed}, but got {value!r}")
    if not 0 < epsilon < 1:
        raise ConfigError(f"epsilon of a truncated prior must be in (0, 1), but got {epsilon}")
    for name, count, least in (
        ("num_threshold_samples", num_threshold_samples, 100),
        ("sir_candidates", sir_candidates, 2),
    ):
        if count is not None:
            _check_count(name, count, least)


def _check_count(name: str, count: int, least: int) -> None:
    if count < least:
        raise ConfigError(f"{name} of a proposal must be at least {least}, but got {count}")
