"""Draws of a posterior under the prior, made draws under the distribution that tests come from.

A test whose theta was drawn from g instead of the prior p is not exchangeable with draws of its
posterior under p, but with draws of the posterior under g, whose density is that of the former
times g / p. They are found by rejection, which is exact as far as the largest ratio is known: it
is taken from the draws themselves.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

LogRatio = Callable[[Tensor], Tensor]
"""Scaled theta (n, d) to log g - log p (n,), up to a constant; -inf where g is 0."""

CHAIN_FACTOR = 4
"""Draws by Markov chains that are made for one that is wanted: most are rejected."""


def reweighted(
    draws: Tensor, log_prob: Tensor, log_ratio: LogRatio, number: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return draws under the distribution that tests come from, and their log densities.

    Where fewer are accepted than wanted they are repeated in turn.

    Args:
        draws: (s, b, d) scaled, of b posteriors under the prior; none NaN.
        log_prob: (s, b) their log densities.
        log_ratio: of the density that tests come from to that of the prior.
        number: draws wanted for each posterior.
        generator: source of the rejections.

    Returns:
        (number, b, d) and (number, b); the density is not normalised.
    """
    made, count, dimension = draws.shape
    ratio = log_ratio(draws.reshape(-1, dimension)).double().reshape(made, count)
    level = torch.rand(made, count, generator=generator, dtype=torch.float64).log()
    highest = ratio.amax(0)
    # none lies where tests come from: all are kept, and the truth is far from them
    none = highest == -torch.inf
    accepted = (level <= ratio - torch.where(none, 0.0, highest)) | none
    order = (~accepted).to(torch.uint8).argsort(dim=0, stable=True)
    kept = accepted.sum(0)
    slots = torch.arange(number)[:, None] % kept
    chosen = order.gather(0, slots)
    density = log_prob.double() + torch.where(ratio == -torch.inf, 0.0, ratio)
    return (
        draws.gather(0, chosen[..., None].expand(-1, -1, dimension)),
        density.gather(0, chosen),
    )
