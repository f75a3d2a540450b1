"""Sampling-importance-resampling of the truncated prior, with the right weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlpop.inference.proposals.rejection import LARGEST_LOT, Budget
from mlpop.inference.proposals.truncation import Support


@dataclass(frozen=True)
class Resampled:
    """What `resample` drew.

    Args:
        theta: (n, d) scaled draws.
        attempts: candidates in all.
        ess_median: median over the draws of the effective number of candidates behind one.
    """

    theta: Tensor
    attempts: int
    ess_median: float


def resample(
    support: Support,
    draw: Callable[[int, Generator], Tensor],
    num_samples: int,
    generator: Generator,
    budget: Budget,
    candidates: int,
) -> Resampled:
    """Pick every draw among its own `candidates` draws of the posterior q, by weight.

    The weight is prior over q in the support and 0 outside: log w = log prior + log 1_A - log q.
    No draw is outside of the support, but with few candidates they crowd where q is dense: the
    weights span a factor of 1 / epsilon, and the median effective number of candidates tells how
    far the result is from uniform. Use an exact method of `proposals.proposal` first.

    Args:
        support: of the truncated prior.
        draw: makes draws of the posterior, inside the prior.
        num_samples: draws wanted.
        generator: source of randomness.
        budget: of candidates and time.
        candidates: K, of every draw.

    Raises:
        SamplingError: the budget does not suffice.

    References:
        Rubin 1988, "Using the SIR algorithm to simulate posterior distributions".
    """
    name = f"sampling-importance-resampling with {candidates} candidates"
    # nothing is drawn at all when the candidates of all draws are known to be too many
    if num_samples * candidates > budget.max_attempts:
        budget.check(name, budget.max_attempts, 0, num_samples)
    parts: list[Tensor] = []
    sizes: list[Tensor] = []
    attempts = accepted = 0
    while accepted < num_samples:
        groups = min(num_samples - accepted, max(1, LARGEST_LOT // candidates))
        theta = draw(groups * candidates, generator)
        log_ratio = support.log_ratio(theta).view(groups, candidates)
        weights = torch.where(log_ratio > support.slack, (-log_ratio).exp(), 0.0)
        # a group without a single candidate in the support is drawn again
        filled = weights.sum(1) > 0
        weights = weights[filled]
        attempts += groups * candidates
        if len(weights):
            pick = torch.multinomial(weights, 1, generator=generator)[:, 0]
            grouped = theta.view(groups, candidates, -1)[filled]
            parts.append(grouped[torch.arange(len(pick)), pick])
            sizes.append(weights.sum(1).square() / weights.square().sum(1))
            accepted += len(pick)
        budget.check(name, attempts, accepted, num_samples)
    return Resampled(torch.cat(parts), attempts, float(torch.cat(sizes).median()))
