"""Steps of many Markov chains at once: slice sampling, Hamiltonian, and independent jumps.

Every step takes the places y (n, d) of n chains, which chain belongs to which observation, and
leaves the target's density as it is.

References:
    Neal 2003, https://doi.org/10.1214/aos/1056562461 (slice sampling)
    Neal 2011, https://arxiv.org/abs/1206.1901 (Hamiltonian Monte Carlo)
    Hoffman & Gelman 2014, https://arxiv.org/abs/1111.4246 (dual averaging of the step)
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from mlpop.inference.mcmc.student_mixture import StudentMixture
from mlpop.inference.mcmc.target import Target

_AHEAD = 512
"""Potentials that cost little more than one: so many are computed ahead of their need."""
_MOST_AHEAD = 4
_MIN_WIDTH = 1e-3
_MAX_STEPS_OUT = 100
_MAX_SHRINKS = 200
_MAX_LEAPFROGS = 8
_ACCEPTANCE = 0.8
_MAX_STEP = 2.0


@dataclass
class Chains:
    """Where n chains are.

    Attributes:
        y: (n, d) places.
        log_density: (n,) there.
        owner: (n,) number of the observation of every chain.
        accepted: (b,) sum of the chains' accepted independent jumps.
        jumps: how many times the chains tried one.
    """

    y: Tensor
    log_density: Tensor
    owner: Tensor
    accepted: Tensor
    jumps: int = 0


@dataclass
class SliceKernel:
    """One sweep of univariate slice sampling, with stepping out and shrinkage, along every axis.

    Potentials that the next steps may need are computed with the one that is needed now, which
    changes nothing but the number of calls.

    Attributes:
        widths: (n, d) of the first interval of every chain, tuned to the mean of the last ones.
        sweeps: that it has learnt from.
    """

    widths: Tensor
    sweeps: int = 0

    def step(self, target: Target, chains: Chains, generator: Generator, *, learn: bool) -> None:
        """Move every chain along all axes in random order; with `learn`, tune the next step."""
        for axis in torch.randperm(target.dimension, generator=generator).tolist():
            last = self._along(target, chains, axis, generator)
            if learn:
                gain = 1 / (self.sweeps + 2)
                self.widths[:, axis] += gain * (2 * last - self.widths[:, axis])
                self.widths[:, axis].clamp_(min=_MIN_WIDTH)
        self.sweeps += learn

    def select(self, which: Tensor) -> "SliceKernel":
        """Return the step of some of the b observations, (b,) booleans."""
        chains = which.repeat_interleave(len(self.widths) // len(which))
        return SliceKernel(self.widths[chains], self.sweeps)

    def _along(self, target: Target, chains: Chains, axis: int, generator: Generator) -> Tensor:
        count = len(chains.y)
        start = chains.y[:, axis].clone()
        level = chains.log_density + _uniform((count,), generator).log()
        width = self.widths[:, axis]
        left = start - width * _uniform((count,), generator)
        left, right = self._step_out(target, chains, axis, left, left + width, level, generator)
        last = torch.zeros(count, dtype=torch.float64)
        active = torch.arange(count)
        for _ in range(_MAX_SHRINKS):
            if not len(active):
                break
            # the interval shrinks in the same way whatever the densities are, until one is fine
            tries, edges = [], []
            low, high, centre = left[active], right[active], start[active]
            for _ in range(_ahead(len(active))):
                place = low + (high - low) * _uniform((len(active),), generator)
                tries.append(place)
                edges.append(high - low)
                low = torch.where(place < centre, place, low)
                high = torch.where(place < centre, high, place)
            left[active], right[active] = low, high
            places = torch.stack(tries, 1)
            values = _densities(target, chains, axis, active, places)
            good = values >= level[active, None]
            first = good.to(torch.int8).argmax(1)
            success = good.any(1)
            row = torch.arange(len(active))
            moved = active[success]
            chains.y[moved, axis] = places[row, first][success]
            chains.log_density[moved] = values[row, first][success]
            last[moved] = torch.stack(edges, 1)[row, first][success]
            active = active[~success]
        return last

    @staticmethod
    def _step_out(
        target: Target,
        chains: Chains,
        axis: int,
        left: Tensor,
        right: Tensor,
        level: Tensor,
        generator: Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return interval edges (n,) outside the slice, or `_MAX_STEPS_OUT` steps apart."""
        count = len(left)
        edges = torch.cat([left, right])
        outward = torch.cat([left - right, right - left])
        share = torch.randint(_MAX_STEPS_OUT, (count,), generator=generator)
        remaining = torch.cat([share, _MAX_STEPS_OUT - 1 - share])
        active = torch.arange(2 * count)
        while len(active):
            steps = torch.arange(_ahead(len(active)))
            places = edges[active, None] + outward[active, None] * steps
            values = _densities(target, chains, axis, active % count, places)
            outside = values < level[active % count, None]
            ended = outside | (steps >= remaining[active, None])
            found = ended.any(1)
            first = ended.to(torch.int8).argmax(1)
            row = torch.arange(len(active))
            beyond = places[:, -1] + outward[active]
            edges[active] = torch.where(found, places[row, first], beyond)
            remaining[active] -= len(steps)
            active = active[~found]
        return edges[:count], edges[count:]


@dataclass
class HamiltonianKernel:
    """A leapfrog trajectory of random length and step, accepted by Metropolis.

    The mass is the unit matrix: the target is whitened by its covariance. The step of each
    observation is tuned to an acceptance of 0.8 by dual averaging over its chains.

    Attributes:
        log_step: (b,) in use.
        mean_log_step: (b,) average while it learns, and the final one.
        error: (b,) running mean of the lack of acceptance.
        learnt: steps that it has learnt from.
    """

    log_step: Tensor
    mean_log_step: Tensor = field(init=False)
    error: Tensor = field(init=False)
    learnt: int = 0

    def __post_init__(self) -> None:
        self.mean_log_step = torch.zeros_like(self.log_step)
        self.error = torch.zeros_like(self.log_step)
        self._goal = self.log_step + math.log(4)

    def step(self, target: Target, chains: Chains, generator: Generator, *, learn: bool) -> None:
        """Move every chain along one trajectory; with `learn`, tune the next step."""
        size = chains.y.shape
        log_step = self.log_step if learn or not self.learnt else self.mean_log_step
        jitter = 0.8 + 0.4 * _uniform((size[0], 1), generator)
        step = log_step.exp()[chains.owner, None] * jitter
        momentum = torch.randn(size, generator=generator, dtype=torch.float64)
        leapfrogs = int(torch.randint(1, _MAX_LEAPFROGS + 1, (), generator=generator))
        energy = chains.log_density - 0.5 * momentum.square().sum(1)
        place = chains.y
        _, gradient = target.log_density_and_gradient(place, chains.owner)
        for _ in range(leapfrogs):
            momentum = momentum + 0.5 * step * gradient
            place = place + step * momentum
            value, gradient = target.log_density_and_gradient(place, chains.owner)
            momentum = momentum + 0.5 * step * gradient
        ratio = value - 0.5 * momentum.square().sum(1) - energy
        ratio = ratio.nan_to_num(nan=-torch.inf)
        accept = _uniform((size[0],), generator).log() < ratio
        chains.y = torch.where(accept[:, None], place, chains.y)
        chains.log_density = torch.where(accept, value, chains.log_density)
        if learn:
            self._learn(_mean_by(ratio.clamp_max(0).exp(), chains.owner, len(target.x)))

    def select(self, which: Tensor) -> "HamiltonianKernel":
        """Return the step of some of the b observations, (b,) booleans."""
        chosen = HamiltonianKernel(self.log_step[which])
        chosen.mean_log_step, chosen.error = self.mean_log_step[which], self.error[which]
        chosen.learnt = self.learnt
        return chosen

    def _learn(self, acceptance: Tensor) -> None:
        self.learnt += 1
        weight = 1 / (self.learnt + 10)
        self.error = (1 - weight) * self.error + weight * (_ACCEPTANCE - acceptance)
        self.log_step = self._goal - self.error * self.learnt**0.5 / 0.05
        self.log_step = self.log_step.clamp(math.log(1e-4), math.log(_MAX_STEP))
        eta = self.learnt**-0.75
        self.mean_log_step = eta * self.log_step + (1 - eta) * self.mean_log_step


Kernel = SliceKernel | HamiltonianKernel
"""A step of all chains that leaves the target as it is, once it does not learn any more."""


def jump(target: Target, chains: Chains, mixture: StudentMixture, generator: Generator) -> None:
    """Offer every chain a place drawn from `mixture`: a way from mode to mode."""
    count = len(target.x)
    per = len(chains.y) // count
    shape = count, per, target.dimension
    proposal = mixture.sample(per, generator)
    forth = mixture.log_prob(proposal).view(-1)
    back = mixture.log_prob(chains.y.view(shape)).view(-1)
    flat = proposal.view(-1, target.dimension)
    value = target.log_density(flat, chains.owner)
    ratio = value - chains.log_density + back - forth
    accept = _uniform((len(flat),), generator).log() < ratio
    chains.y = torch.where(accept[:, None], flat, chains.y)
    chains.log_density = torch.where(accept, value, chains.log_density)
    chains.accepted += accept.view(count, per).sum(1)
    chains.jumps += per


def _densities(target: Target, chains: Chains, axis: int, rows: Tensor, places: Tensor) -> Tensor:
    """Return log densities (r, k) of chains `rows` (r,) moved to `places` (r, k) on an axis."""
    ahead = places.shape[1]
    y = chains.y[rows].repeat_interleave(ahead, 0)
    y[:, axis] = places.reshape(-1)
    owner = chains.owner[rows].repeat_interleave(ahead)
    return target.log_density(y, owner).view(-1, ahead)


def _ahead(active: int) -> int:
    return max(1, min(_MOST_AHEAD, _AHEAD // active))


def _uniform(size: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(size, generator=generator, dtype=torch.float64)


def _mean_by(values: Tensor, owner: Tensor, count: int) -> Tensor:
    total = torch.zeros(count, dtype=values.dtype).index_add(0, owner, values)
    return total / torch.bincount(owner, minlength=count)
