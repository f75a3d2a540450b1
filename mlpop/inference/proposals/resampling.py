"""Sampling-importance-resampling of the truncated prior, with the right weights."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from mlpop.inference.proposals.rejection import LARGEST_LOT, Budget
from mlpop.inference.proposals.truncation import Support


def resample(
    support: Support,
    draw: Callable[[int, Generator], Tensor],
    num_samples: int,
    generator: Generator,
    budget: Budget,
    candidates: int,
) -> tuple[Tensor, int, float]:
    """Pick every draw among its own K = `candidates` draws of the posterior q, by weight.

    The weight is prior over q in the support and 0 outside: log w = log prior + log 1_A - log q.
    No draw is outside of the support, but with few candidates they crowd where q is dense: the
    weights span a factor of 1 / epsilon, and the median effective number of candidates tells how
    far the result is from uniform. Use an exact method of `proposals.proposal` first.

    Returns:
        Theta (num_samples, d), the candidates in all, and the median over the draws of the
        effective number of candidates behind one.

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
        weights = torch.where(support.accepts(theta), (-support.log_ratio(theta)).exp(), 0.0)
        weights = weights.view(groups, candidates)
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
    return torch.cat(parts), attempts, float(torch.cat(sizes).median())
