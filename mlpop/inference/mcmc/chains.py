"""Markov chains for the posteriors of many observations at once: options, warm-up, draws."""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from mlpop.errors import ConfigError
from mlpop.inference.mcmc.kernels import Chains, HamiltonianKernel, Kernel, SliceKernel, jump
from mlpop.inference.mcmc.starting_points import temper
from mlpop.inference.mcmc.student_mixture import StudentMixture, fit_student_mixture
from mlpop.inference.mcmc.target import Target
from mlpop.networks.rng import one_thread

log = logging.getLogger(__name__)

SamplerType = Literal["slice_np_vectorized", "slice_np", "slice", "hmc"]

WARMUP = 40
"""Steps that tune the chains; they start from draws of the posterior, so that few are enough."""

CANDIDATES = 5000
"""Draws of the prior that the starts of the chains are resampled from, for every observation."""

_PARTICLES = 500
_EVIDENCE_DRAWS = 2000
_FIRST_STEP = 0.5
_FIT_DRAWS = 600
"""Draws that the mixture is fitted to, at most."""


@dataclass(frozen=True)
class McmcOptions:
    """How Markov chains draw.

    Args:
        type: the documented names. `slice_np_vectorized`, `slice_np` and `slice` are slice
            sampling, `hmc` is Hamiltonian Monte Carlo with trajectories of random length.
        num_chains: for every observation and member.
        thin: every `thin`-th step is kept; -1 keeps all.
        warmup: steps before the first.
        num_candidates: draws of the prior that the chains' starts are resampled from.

    Raises:
        ConfigError: a value is out of range.
    """

    type: SamplerType = "slice_np_vectorized"
    num_chains: int = 20
    thin: int = 5
    warmup: int = WARMUP
    num_candidates: int = CANDIDATES

    def __post_init__(self) -> None:
        if self.type not in get_args(SamplerType):
            raise ConfigError(
                f"mcmc_sampler.type must be one of {', '.join(get_args(SamplerType))}, but got "
                f"'{self.type}'"
            )
        if self.thin != -1 and self.thin < 1:
            raise ConfigError(
                f"mcmc_sampler.thin must be at least 1, or -1 for none, but got {self.thin}"
            )
        for name, least in (("num_chains", 1), ("warmup", 0), ("num_candidates", 100)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"mcmc_sampler.{name} must be at least {least}, but got {getattr(self, name)}"
                )

    @property
    def hamiltonian(self) -> bool:
        """Whether the chains follow gradients; else they are slice samplers."""
        return self.type == "hmc"

    @property
    def interval(self) -> int:
        """Steps from one kept draw to the next."""
        return max(1, self.thin)


@cache
def log_mapping(sampler: SamplerType) -> None:
    """Say, once in a process, what mlpop runs under a documented name."""
    what = (
        "Hamiltonian Monte Carlo with jittered trajectories"
        if sampler == "hmc"
        else "univariate slice sampling along principal axes"
    )
    log.info("mcmc_sampler.type '%s': %s, all chains at once, with global jumps", sampler, what)


@dataclass(frozen=True, eq=False)
class WarmChains:
    """Tuned chains for b observations that draws can be taken from again and again.

    Attributes:
        target: whitened.
        options: how to go on.
        y: (b, c, d) where the chains are.
        kernel: the tuned step.
        mixture: fitted to the warm-up; proposes jumps.
        log_evidence: (b,) log of the integral of exp(potential) over the unit cube.
        evidence_ess: (b,) effective number of draws it comes from: its error is about
            1 / sqrt(ess).
        candidate_ess: (b,) effective number of the prior candidates.
        stages: (b,) temperatures between prior and posterior.
        ok: (a,) of all observations asked for, which are these b; for the others, no candidate
            has a finite potential.
    """

    target: Target
    options: McmcOptions
    y: Tensor
    kernel: Kernel
    mixture: StudentMixture
    log_evidence: Tensor
    evidence_ess: Tensor
    candidate_ess: Tensor
    stages: Tensor
    ok: Tensor

    def select(self, which: Tensor) -> "WarmChains":
        """Return the chains of some of the b observations, (b,) booleans."""
        if bool(which.all()):
            return self
        return WarmChains(
            self.target.select(which.nonzero()[:, 0]),
            self.options,
            self.y[which],
            self.kernel.select(which),
            self.mixture.select(which),
            self.log_evidence[which],
            self.evidence_ess[which],
            self.candidate_ess[which],
            self.stages[which],
            torch.zeros_like(self.ok).masked_scatter(self.ok, which),
        )


@one_thread()
def warm_up(target: Target, options: McmcOptions, generator: Generator) -> WarmChains | None:
    """Find, whiten and learn the posteriors of `target`, as `make_target` returns it.

    Particles from the prior are resampled, tempered where the posterior is narrow. Their
    covariance whitens the target, their places start the chains, and together with the second
    half of the warm-up they fit a mixture, which estimates the evidence by importance sampling
    and proposes jumps from mode to mode.

    Returns:
        The chains of the observations that can be drawn for; None where there are none.
    """
    number = max(min(_PARTICLES, options.num_candidates), options.num_chains)
    particles = temper(
        target,
        generator,
        num_candidates=max(options.num_candidates, number),
        num_particles=number,
    )
    if not bool(particles.ok.any()):
        return None
    observations = particles.ok.nonzero()[:, 0]
    cloud = particles.y[observations]
    centre, factor = _principal_axes(cloud)
    target = target.select(observations).whitened(centre, factor)
    cloud = torch.linalg.solve(factor, (cloud - centre[:, None]).transpose(1, 2)).transpose(1, 2)
    chosen = torch.rand(cloud.shape[:2], generator=generator).argsort(1)[:, : options.num_chains]
    row = torch.arange(len(observations))
    start = cloud[row[:, None], chosen]
    chains = start_chains(target, start)
    kernel: Kernel
    if options.hamiltonian:
        kernel = HamiltonianKernel(torch.full(row.shape, _FIRST_STEP).double().log())
    else:
        kernel = SliceKernel(torch.full_like(chains.y, 2.0))
    mixture = fit_student_mixture(cloud, generator)
    clouds = [cloud]
    for step in range(options.warmup):
        kernel.step(target, chains, generator, learn=True)
        jump(target, chains, mixture, generator)
        if 2 * step >= options.warmup:
            clouds.append(chains.y.view(start.shape).clone())
    places = torch.cat(clouds, 1)
    order = torch.rand(places.shape[:2], generator=generator).argsort(1)[:, :_FIT_DRAWS]
    mixture = fit_student_mixture(places[row[:, None], order], generator)
    log_evidence, evidence_ess = _evidence(target, mixture, generator)
    return WarmChains(
        target,
        options,
        chains.y.view(start.shape),
        kernel,
        mixture,
        log_evidence,
        evidence_ess,
        particles.candidate_ess[observations],
        particles.stages[observations],
        particles.ok,
    )


@one_thread()
def draw(warm: WarmChains, num_kept: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Go on with the chains until every one has kept `num_kept` draws; `warm` stays as it is.

    Returns:
        Theta (b, num_kept, c, d) inside the prior, and the accepted fraction (b,) of the
        jumps.
    """
    size = warm.y.shape
    chains = start_chains(warm.target, warm.y)
    draws = torch.empty(size[0], num_kept, *size[1:])
    for index in range(num_kept):
        for _ in range(warm.options.interval):
            warm.kernel.step(warm.target, chains, generator, learn=False)
            jump(warm.target, chains, warm.mixture, generator)
        draws[:, index] = warm.target.to_theta(chains.y, chains.owner).view(size)
    return draws, chains.accepted / max(1, chains.jumps)


def start_chains(target: Target, y: Tensor) -> Chains:
    """Put c chains for each observation at `y` (b, c, d)."""
    owner = torch.arange(len(y)).repeat_interleave(y.shape[1])
    flat = y.reshape(-1, y.shape[2]).clone()
    zero = torch.zeros(len(y), dtype=torch.float64)
    return Chains(flat, target.log_density(flat, owner), owner, zero)


def _principal_axes(cloud: Tensor) -> tuple[Tensor, Tensor]:
    """Return means (b, d) and factors (b, d, d) whose columns are axes times their spread."""
    centre = cloud.mean(1)
    offset = cloud - centre[:, None]
    covariance = offset.transpose(1, 2) @ offset / (cloud.shape[1] - 1)
    values, vectors = torch.linalg.eigh(covariance)
    spread = values.clamp_min(1e-16).sqrt()
    spread = spread.maximum(1e-6 * spread[:, -1:])
    return centre, vectors * spread[:, None]


def _evidence(
    target: Target, mixture: StudentMixture, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return log evidence (b,) by importance sampling, and its effective number of draws."""
    points = mixture.sample(_EVIDENCE_DRAWS, generator)
    owner = torch.arange(len(points)).repeat_interleave(_EVIDENCE_DRAWS)
    density = target.log_density(points.view(-1, points.shape[2]), owner).view(points.shape[:2])
    weights = density - mixture.log_prob(points)
    total = torch.logsumexp(weights, 1)
    log_number = torch.tensor(float(_EVIDENCE_DRAWS)).log()
    ess = (2 * total - torch.logsumexp(2 * weights, 1)).exp()
    return total - log_number, ess
