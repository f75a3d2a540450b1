"""Where Markov chains start: importance resampling of prior candidates, tempered where needed."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlpop.inference.mcmc.target import Target

_MOVES = 8
"""Rounds of moves of all particles at every temperature."""
_MAX_STAGES = 60
_ESS_FRACTION = 0.5
"""Of the particles, kept from one temperature to the next."""
_JUMP_CHANCE = 0.1
"""Of a move by a whole difference of two particles, which leads from mode to mode."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Weightless draws of b posteriors, in the target's y.

    Attributes:
        y: (b, p, d).
        candidate_ess: (b,) effective number of the prior candidates under the whole posterior.
        stages: (b,) temperatures that were needed; 1 where the prior candidates were enough.
        ok: (b,) False where every candidate has no density or the temperature did not get to 1.
    """

    y: Tensor
    candidate_ess: Tensor
    stages: Tensor
    ok: Tensor


def temper(
    target: Target, generator: Generator, *, num_candidates: int, num_particles: int
) -> Particles:
    """Draw from the posteriors by sampling importance resampling with tempering.

    Prior candidates are resampled by their weights. Where too few would survive, they get
    `potential ** power` first, and move until the power can be raised: sequential Monte Carlo,
    which finds narrow and separate modes with the right weights. The moves are those of
    differential evolution between two halves of the particles.

    Args:
        target: in the plain coordinates, where the prior is a logistic distribution.
        generator: source of the draws.
        num_candidates: draws of the prior for every observation.
        num_particles: draws to return for every observation; at most `num_candidates`.

    References:
        Del Moral et al. 2006, https://doi.org/10.1111/j.1467-9868.2006.00553.x
        ter Braak 2006, https://doi.org/10.1007/s11222-006-8769-1
    """
    count, dimension = len(target.x), target.dimension
    shape = count, num_candidates, dimension
    unit = torch.rand(shape, generator=generator, dtype=torch.float64)
    y = unit.clamp(1e-9, 1 - 1e-9).logit()
    owner = torch.arange(count).repeat_interleave(num_candidates)
    potentials = target.potentials(y.view(-1, dimension), owner).view(count, -1)
    candidate_ess = _ess(potentials)
    result = Particles(
        y[:, :num_particles].clone(),
        candidate_ess,
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, dtype=torch.bool),
    )
    left = (potentials > -torch.inf).any(1).nonzero()[:, 0]
    y, potentials = y[left], potentials[left]
    power = torch.zeros(len(left), dtype=torch.float64)
    for stage in range(_MAX_STAGES):
        if not len(left):
            break
        target_ess = num_particles if stage == 0 else _ESS_FRACTION * num_particles
        alive = 0.9 * (potentials > -torch.inf).sum(1)
        higher = _next_power(potentials, power, alive.clamp_max(target_ess))
        log_weights = (higher - power)[:, None] * potentials
        chosen = systematic(log_weights.softmax(1), num_particles, generator)
        row = torch.arange(len(left))[:, None]
        y, potentials, power = y[row, chosen], potentials[row, chosen], higher
        y, potentials = _move(target.select(left), y, potentials, power, generator)
        result.stages[left] += 1
        done = power >= 1
        result.y[left[done]] = y[done]
        result.ok[left[done]] = True
        left, y, potentials, power = left[~done], y[~done], potentials[~done], power[~done]
    return result


def systematic(weights: Tensor, num_samples: int, generator: Generator) -> Tensor:
    """Return indices (b, num_samples) drawn by `weights` (b, n), with the least scatter.

    Every index comes up as often as `num_samples` times its weight, rounded up or down at random.
    """
    offset = torch.rand(len(weights), 1, generator=generator, dtype=torch.float64)
    places = (torch.arange(num_samples, dtype=torch.float64) + offset) / num_samples
    edges = weights.double().cumsum(1)
    edges = edges / edges[:, -1:]
    return torch.searchsorted(edges, places, right=True).clamp_max(weights.shape[1] - 1)


def _move(
    target: Target, y: Tensor, potentials: Tensor, power: Tensor, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Move the particles (b, p, d) by differential evolution at `power` (b,)."""
    count, number, dimension = y.shape
    # resampled copies lie side by side: spread them over both halves
    order = torch.rand(count, number, generator=generator).argsort(1)
    row = torch.arange(count)[:, None]
    y, potentials = y[row, order].clone(), potentials[row, order].clone()
    half = number // 2
    parts = torch.arange(half), torch.arange(half, number)
    owners = tuple(torch.arange(count).repeat_interleave(len(part)) for part in parts)
    everyone = torch.arange(count).repeat_interleave(number)
    log_prior = target.log_jacobian(y.view(-1, dimension), everyone).view(count, number)
    scale = 2.38 / (2 * dimension) ** 0.5
    for step in range(2 * _MOVES):
        movers, partners = parts[step % 2], parts[1 - step % 2]
        size = count, len(movers)
        first = torch.randint(len(partners), size, generator=generator)
        second = torch.randint(len(partners) - 1, size, generator=generator)
        second = second + (second >= first)
        jump = torch.rand(size, generator=generator) < _JUMP_CHANCE
        stretch = torch.where(jump, 1.0, scale * (0.5 + torch.rand(size, generator=generator)))
        difference = y[row, partners[first]] - y[row, partners[second]]
        noise = torch.randn(*size, dimension, generator=generator, dtype=torch.float64)
        proposal = y[:, movers] + stretch[..., None] * difference + 1e-5 * noise
        flat, owner = proposal.view(-1, dimension), owners[step % 2]
        proposed = target.potentials(flat, owner).view(size)
        log_proposed = target.log_jacobian(flat, owner).view(size)
        gain = log_proposed - log_prior[:, movers]
        ratio = power[:, None] * (proposed - potentials[:, movers]) + gain
        accept = torch.rand(size, generator=generator, dtype=torch.float64).log() < ratio
        y[:, movers] = torch.where(accept[..., None], proposal, y[:, movers])
        potentials[:, movers] = torch.where(accept, proposed, potentials[:, movers])
        log_prior[:, movers] = torch.where(accept, log_proposed, log_prior[:, movers])
    return y, potentials


def _next_power(potentials: Tensor, power: Tensor, target_ess: Tensor) -> Tensor:
    """Return the highest powers (b,), up to 1, that leave `target_ess` (b,) effective ones."""
    low, high = power.clone(), torch.ones_like(power)
    enough = _ess((high - power)[:, None] * potentials) >= target_ess
    for _ in range(40):
        middle = (low + high) / 2
        fine = _ess((middle - power)[:, None] * potentials) >= target_ess
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    # never stand still, whatever the rounding
    return torch.where(enough, 1.0, low.maximum(power + 1e-12)).clamp_max(1.0)


def _ess(log_weights: Tensor) -> Tensor:
    """Return the effective number (b,) of draws with log weights (b, n); 0 without any."""
    total = torch.logsumexp(log_weights, 1)
    squares = torch.logsumexp(2 * log_weights, 1)
    return (2 * total - squares).exp().nan_to_num(0.0)
