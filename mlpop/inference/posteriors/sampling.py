"""Draws from, and log densities of, many truncated posteriors at once, embedding each x once."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.prior import Prior
from mlpop.networks.rng import lend

_EMBED_CHUNK = 512
_ROWS = 100_000
"""Draws or densities that are computed at once; bounds the memory."""


@torch.no_grad()
def embed(members: Sequence[EmbedOnce], x: Tensor) -> list[Tensor]:
    """Return the embeddings (b, e) of `x` (b, ...) by every member."""
    return [
        torch.cat([member.embed(chunk) for chunk in x.split(_EMBED_CHUNK)]) for member in members
    ]


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
        lots = ((1.02 * need + 2 * need.sqrt()) / rate + 4).clamp_max(_ROWS).long()
        lots, order = torch.minimum(lots, limit - drawn[lacking]).sort(
            descending=True, stable=True
        )
        for start, stop, lot in _group(lots.tolist()):
            columns = lacking[order[start:stop]]
            with lend(generator):
                draws = member.head.sample(torch.Size((lot,)), embedding[columns])
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
def sample_mixture(
    members: Sequence[EmbedOnce],
    weights: Tensor,
    embeddings: Sequence[Tensor],
    num_samples: int,
    prior: Prior,
    generator: Generator,
    *,
    max_factor: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Draw from the mixture of the members, each cut to the prior's box and renormalised.

    Which member a draw comes from is random for every draw of every observation.

    Args:
        members: m estimators.
        weights: (m,) probabilities.
        embeddings: of every member, (b, e).
        num_samples: draws wanted for each observation.
        prior: its box.
        generator: source of the draws.
        max_factor: see `sample_truncated`.

    Returns:
        Scaled samples (num_samples, b, d), all NaN where an observation was given up, and the
        mass (m, b) of every member inside the box.
    """
    shape = num_samples, len(embeddings[0])
    choice = torch.multinomial(
        weights, num_samples * shape[1], replacement=True, generator=generator
    ).view(shape)
    samples = torch.full((*shape, prior.dimension), float("nan"))
    masses = []
    for index, (member, embedding) in enumerate(zip(members, embeddings, strict=True)):
        chosen = choice == index
        counts = chosen.sum(0)
        part, mass = sample_truncated(
            member, embedding, counts, prior, generator, max_factor=max_factor
        )
        row, column = chosen.nonzero(as_tuple=True)
        samples[row, column] = part[chosen.cumsum(0)[row, column] - 1, column]
        unseen = mass.isnan()
        if bool(unseen.any()):
            mass[unseen] = mass_inside([member], [embedding[unseen]], prior, generator)[0]
        masses.append(mass)
    samples[:, samples.isnan().any(-1).any(0)] = float("nan")
    return samples, torch.stack(masses)


@torch.no_grad()
def mass_inside(
    members: Sequence[EmbedOnce],
    embeddings: Sequence[Tensor],
    prior: Prior,
    generator: Generator,
    num_draws: int = 10_000,
) -> Tensor:
    """Estimate the mass of every member inside the prior's box from `num_draws` draws.

    Returns:
        (m, b), at least half a draw's worth, so that its logarithm is finite.
    """
    masses = []
    for member, embedding in zip(members, embeddings, strict=True):
        lot = max(1, _ROWS // num_draws)
        with lend(generator):
            inside = [
                prior.contains(member.head.sample(torch.Size((num_draws,)), chunk)).sum(0)
                for chunk in embedding.split(lot)
            ]
        masses.append(torch.cat(inside).clamp_min(0.5) / num_draws)
    return torch.stack(masses)


@torch.no_grad()
def log_prob_members(
    members: Sequence[EmbedOnce], embeddings: Sequence[Tensor], theta: Tensor
) -> Tensor:
    """Return the log densities (m, s, b) of scaled theta (s, b, d), not cut to the prior."""
    lot = max(1, _ROWS // max(1, len(theta)))
    values = []
    for member, embedding in zip(members, embeddings, strict=True):
        chunks = [
            member.log_prob_embedded(theta[:, start : start + lot], embedding[start : start + lot])
            for start in range(0, theta.shape[1], lot)
        ]
        values.append(torch.cat(chunks, dim=1))
    return torch.stack(values)


def log_prob_mixture(log_probs: Tensor, masses: Tensor, weights: Tensor) -> Tensor:
    """Combine log densities of members into the log density of what `sample_mixture` draws.

    Args:
        log_probs: (m, s, b) of `log_prob_members`.
        masses: (m, b) inside the box.
        weights: (m,) probabilities.

    Returns:
        (s, b) log of the sum of weight times density over mass.
    """
    offset = weights.log()[:, None] - masses.log()
    return torch.logsumexp(log_probs + offset[:, None, :], dim=0)


def _group(wanted: list[int]) -> list[tuple[int, int, int]]:
    """Group observations, sorted by falling need, into lots of one common number of draws.

    Returns:
        (first, last + 1, draws for each) of every lot; a lot holds at most `_ROWS` draws and
        nobody in it needs less than half of them.
    """
    lots = []
    start = 0
    while start < len(wanted):
        lot = wanted[start]
        stop = start + 1
        while stop < len(wanted) and wanted[stop] * 2 >= lot and lot * (stop + 1 - start) <= _ROWS:
            stop += 1
        lots.append((start, stop, lot))
        start = stop
    return lots
