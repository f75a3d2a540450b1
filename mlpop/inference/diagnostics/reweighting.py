"""Draws of a posterior under the prior, made draws under the distribution that tests come from.

A test whose theta was drawn from g instead of the prior p is not exchangeable with draws of its
posterior under p, but with draws of the posterior under g, whose density is that of the former
times g / p. They are found by rejection, which is exact as far as the largest ratio is known: it
is taken from the draws themselves.

Draws that were repeated for want of others would not be exchangeable with the truth, which is
there once: of tests with few accepted draws more are made. A test that still has too few is left
out. How many there are depends on its x, not on its truth, so the other tests stay what they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

LogRatio = Callable[[Tensor], Tensor]
"""Scaled theta (n, d) to log g - log p (n,), up to a constant; -inf where g is 0."""

MoreDraws = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Indices (k,) of posteriors and a number s to draws (s, k, d) and log densities (s, k)."""

CHAIN_FACTOR = 4
"""Draws by Markov chains that are made for one that is wanted: most are rejected."""

MOST_DRAWS = 2**18
"""Draws of a posterior, of which too few are accepted, after which the test is left out."""

MOST_CHAIN_DRAWS = 2**16
"""The same of one whose draws are Markov chains."""

_TELLING = 2**13
"""Draws after which the number of accepted ones tells how many there would be in the end."""

DRAWS_AT_ONCE = 2**21
"""Draws of all posteriors together that memory likes."""


@dataclass
class _Accepted:
    """Draws of one posterior that are accepted under the largest ratio of all seen so far.

    Each has a level of its own, so that a larger ratio, found later, rejects as it would have
    from the start.
    """

    theta: Tensor
    log_prob: Tensor
    ratio: Tensor
    level: Tensor

    def with_more(self, more: "_Accepted") -> "_Accepted":
        theta, log_prob, ratio, level = (
            torch.cat([getattr(part, name) for part in (self, more)])
            for name in ("theta", "log_prob", "ratio", "level")
        )
        if not len(ratio):
            return self
        kept = (level <= ratio - ratio.max()) & (ratio > -torch.inf)
        return _Accepted(theta[kept], log_prob[kept], ratio[kept], level[kept])


def reweighted(
    draws: Tensor,
    log_prob: Tensor,
    log_ratio: LogRatio,
    number: int,
    generator: Generator,
    *,
    least: int | None = None,
    more: MoreDraws | None = None,
    most: int = MOST_DRAWS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return draws under the distribution that tests come from, and their log densities.

    Where fewer than `number` are accepted they are repeated in turn, but the first `least` are
    different draws, or the posterior has none.

    Args:
        draws: (s, b, d) scaled, of b posteriors under the prior; none NaN.
        log_prob: (s, b) their log densities.
        log_ratio: of the density that tests come from to that of the prior.
        number: draws wanted for each posterior.
        generator: source of the rejections.
        least: accepted draws that a posterior must have; by default `number`.
        more: makes further draws; None if there are none.
        most: draws of a posterior, further ones included.

    Returns:
        (number, b, d) and (number, b), whose density is not normalised, and how many (b,) were
        accepted; where these are less than `least`, the former are 0.
    """
    made, count, dimension = draws.shape
    least = number if least is None else least
    empty = draws.new_zeros(0, dimension)
    nothing = _Accepted(empty, *(log_prob.new_zeros(0).double() for _ in range(3)))
    accepted = [nothing] * count

    def add(rows: Tensor, draws: Tensor, log_prob: Tensor) -> None:
        ratio = log_ratio(draws.reshape(-1, dimension)).double().reshape(draws.shape[:2])
        ratio = torch.where(draws.isnan().any(-1), -torch.inf, ratio)
        level = torch.rand(ratio.shape, generator=generator, dtype=torch.float64).log()
        parts = draws, log_prob.double(), ratio, level
        for column, row in enumerate(rows.tolist()):
            new = _Accepted(*(part[:, column] for part in parts))
            accepted[row] = accepted[row].with_more(new)

    def counts() -> Tensor:
        return torch.tensor([len(part.ratio) for part in accepted], dtype=torch.int64)

    def short(total: int) -> Tensor:
        """Return which posteriors lack draws, without those that always will."""
        found = counts()
        hopeless = (4 * most * found < least * total) & (total >= _TELLING)
        return ((found < least) & ~hopeless).nonzero()[:, 0]

    add(torch.arange(count), draws, log_prob)
    while more is not None and made < most and len(rows := short(made)):
        further = min(made, most - made)
        for lot in rows.split(max(1, DRAWS_AT_ONCE // further)):
            add(lot, *more(lot, further))
        made += further
    chosen = draws.new_zeros(number, count, dimension)
    density = torch.zeros(number, count, dtype=torch.float64)
    found = counts()
    for row in (found >= max(1, least)).nonzero()[:, 0].tolist():
        part = accepted[row]
        slots = torch.arange(number) % len(part.ratio)
        chosen[:, row] = part.theta[slots]
        density[:, row] = (part.log_prob + part.ratio)[slots]
    return chosen, density, found
