"""Draws from many truncated posteriors at once, given embeddings of x."""

import torch
from torch import Generator, Tensor

from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.prior import Prior
from mlpop.networks.rng import lend

ROWS = 100_000
"""Draws or densities that are computed at once; bounds the memory."""

_MASS_DRAWS = 10_000


@torch.no_grad()
def sample_truncated(
    member: EmbedOnce,
    embedding: Tensor,
    counts: Tensor,
    prior: Prior,
    generator: Generator,
    *,
    max_factor: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Draw from one member's density, given every embedding, cut to the prior's box.

    Every observation gets a first lot of draws; then only those that lack samples are drawn for,
    so that one observation that leaks does not hold up the others.

    Args:
        member: the estimator.
        embedding: (b, e) embeddings.
        counts: (b,) accepted draws wanted for each embedding.
        prior: its box.
        generator: source of the draws.
        max_factor: an observation is given up after `max_factor` times the largest count of
            draws, at least 1000 `max_factor`.

    Returns:
        Scaled samples (largest count, b, d), NaN beyond an observation's count and where it was
        given up, and the fraction (b,) of draws that fell inside the box, an estimate of the
        mass there; NaN where nothing was drawn.
    """
    largest = int(counts.max())
    samples = torch.full((largest, len(embedding), prior.dimension), float("nan"))
    drawn = torch.zeros_like(counts)
    accepted = torch.zeros_like(counts)
    limit = max_factor * max(largest, 1000)
    lacking = counts.nonzero()[:, 0]
    while len(lacking):
        need = (counts - accepted)[lacking].double()
        rate = (accepted[lacking] + 0.98) / (drawn[lacking] + 1)
        lots = ((1.02 * need + 2 * need.sqrt()) / rate + 4).clamp_max(ROWS).long()
        lots, order = torch.minimum(lots, limit - drawn[lacking]).sort(
            descending=True, stable=True
        )
        for start, stop, lot in _group(lots.tolist()):
            columns = lacking[order[start:stop]]
            with lend(generator):
                draws = member.net.sample(torch.Size((lot,)), embedding[columns])
            inside = prior.contains(draws)
            place = inside.cumsum(0) - 1 + accepted[columns]
            keep = inside & (place < counts[columns])
            samples[place[keep], columns.expand(lot, -1)[keep]] = draws[keep]
            drawn[columns] += lot
            accepted[columns] += inside.sum(0)
        lacking = ((accepted < counts) & (drawn < limit)).nonzero()[:, 0]
    samples[:, accepted < counts] = float("nan")
    return samples, accepted / drawn


@torch.no_grad()
def mass_inside(
    member: EmbedOnce, embedding: Tensor, prior: Prior, generator: Generator
) -> Tensor:
    """Estimate a member's mass inside the prior's box, given each embedding, from 10 000 draws.

    Returns:
        (b,), at least half a draw's worth, so that its logarithm is finite.
    """
    shape = torch.Size((_MASS_DRAWS,))
    with lend(generator):
        inside = [
            prior.contains(member.net.sample(shape, chunk)).sum(0)
            for chunk in embedding.split(max(1, ROWS // _MASS_DRAWS))
        ]
    return torch.cat(inside).clamp_min(0.5) / _MASS_DRAWS


def _group(wanted: list[int]) -> list[tuple[int, int, int]]:
    """Group observations, sorted by falling need, into lots of one common number of draws.

    Returns:
        (first, last + 1, draws for each) of every lot; a lot holds at most `ROWS` draws and
        nobody in it needs less than half of them.
    """
    lots = []
    start = 0
    while start < len(wanted):
        lot = wanted[start]
        stop = start + 1
        while stop < len(wanted) and wanted[stop] * 2 >= lot and lot * (stop + 1 - start) <= ROWS:
            stop += 1
        lots.append((start, stop, lot))
        start = stop
    return lots
