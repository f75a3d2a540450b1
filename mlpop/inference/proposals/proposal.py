"""Where the next round simulates: draws from the posterior, or from the truncated prior."""

import time
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlpop.config.blocks.training import Sampler, TruncationRegion
from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.prior import in_cube
from mlpop.inference.proposals.proposal_draw import PosteriorDraws, ProposalDraw, ProposalKind
from mlpop.inference.proposals.rejection import Budget
from mlpop.inference.proposals.truncated_proposal import TruncatedProposal, truncate
from mlpop.inference.proposals.truncation import Support
from mlpop.networks.rng import one_thread

_ROWS = 100_000
"""Densities that are computed at once; bounds the memory."""

_MAX_SECONDS = 3600.0
"""Wall time allowed for the draws of one call [s]; it can only end in an error."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """What the next round draws theta from, for training, tests and plots alike.

    Every draw depends on its own generator only, not on other draws.

    Args:
        source: the posterior itself, or the prior truncated to where it is dense.
    """

    source: ConditionedPosterior | TruncatedProposal

    @property
    def support(self) -> Support | None:
        """Where a truncated prior is; None of a posterior, which is everywhere."""
        return self.source.support if isinstance(self.source, TruncatedProposal) else None

    @torch.no_grad()
    def log_ratio(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of theta (n, d) over that of the prior.

        That of a truncated prior is as exact as the volume which the pilot found.
        """
        with one_thread():
            if isinstance(self.source, TruncatedProposal):
                return self.source.log_ratio(theta)
            parts = [self.source.log_prob(part).double() for part in theta.split(_ROWS)]
            values = torch.cat(parts)
            return torch.where(values.isnan(), -torch.inf, values)

    @torch.no_grad()
    def draw(
        self,
        num_samples: int,
        generator: Generator,
        *,
        max_attempts: int | None = None,
    ) -> ProposalDraw:
        """Draw theta.

        Args:
            num_samples: draws wanted.
            generator: source of all randomness; the same gives the same bits.
            max_attempts: candidates that may be looked at; by default 20 000 for every draw, at
                least ten million.

        Raises:
            SamplingError: the posterior cannot be drawn from, or a budget does not suffice.
        """
        limit = max(10_000_000, 20_000 * num_samples) if max_attempts is None else max_attempts
        budget = Budget(limit, _MAX_SECONDS)
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
    region: TruncationRegion = "density",
    sir_candidates: int = 1024,
    within: Support | None = None,
) -> Proposal:
    """Make the proposal of the next round of the posterior at the observation.

    `posterior` draws from the posterior itself. `truncated` draws from the prior, cut to where
    the mean log density of the posterior's members is above the quantile `EPSILON` of what they
    agree on, or to the box around that, by

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
        region: what it is truncated to: where the posterior is dense, or all of the box around.
        sir_candidates: candidates of every draw when resampling.
        within: the support that the networks of a truncated prior were trained in; None is the
            whole prior.

    Raises:
        SamplingError: the posterior cannot be drawn from, or its density is useless.

    References:
        Deistler, Goncalves & Macke 2022, "Truncated proposals for scalable and hassle-free
        simulation-based inference", NeurIPS.
    """
    if kind == "posterior":
        return Proposal(conditioned)
    with one_thread():
        return Proposal(
            truncate(
                conditioned,
                generator,
                sampler=sampler,
                region=region,
                sir_candidates=sir_candidates,
                within=within,
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
        outside_fraction=float((~in_cube(theta)).float().mean()),
        redraws=draws.redraws,
    )
