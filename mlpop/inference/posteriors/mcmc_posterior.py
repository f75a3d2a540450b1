"""The posterior of trained likelihoods or ratios, by Markov chains."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from mlpop.inference.estimators.estimator import PotentialEstimator
from mlpop.inference.mcmc.chains import McmcOptions, WarmChains, draw, log_mapping, warm_up
from mlpop.inference.mcmc.report import McmcReport, MemberChains, convergence, make_report
from mlpop.inference.mcmc.starting_points import systematic
from mlpop.inference.mcmc.target import make_target
from mlpop.inference.posteriors.arguments import check_drawn, checked_x, one_x
from mlpop.inference.posteriors.conditioned import ConditionedPosterior, ScoredDraws
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.prior import Prior

CHAINS_AT_ONE_X = 400
"""Least number of chains where there is one observation: a step of 400 costs about twice that of
20, so that draws come ten times faster; every chain starts from its own draw of the posterior."""

_CHAINS_AT_ONCE = 4000
_MIN_KEPT = 25
"""Draws of every chain, also where fewer are wanted: fewer do not show whether chains agree."""
_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class McmcPosterior(Posterior):
    """A mixture of posteriors under trained likelihoods or ratios, each normalized.

    Its density is sum_j w_j exp(f_j(theta, x)) / Z_j(x) inside the prior and 0 outside, with
    Z_j the integral of exp(f_j) there: potentials f_j lack any function of x, so that they
    cannot be averaged as they are. Z_j is estimated by importance sampling from a mixture fitted
    to the member's draws. The chains of all members and observations run at once.
    """

    sampling: ClassVar[Literal["direct", "mcmc"]] = "mcmc"
    # they cost milliseconds each, and more would not help: the rank of one test scatters by 0.016
    # around its exact value, its coverage over N tests by 0.5 / sqrt(N)
    coverage_draws: ClassVar[int] = 1000

    members: Sequence[PotentialEstimator]
    options: McmcOptions = field(default_factory=McmcOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        log_mapping(self.options.type)

    def sample(self, num_samples: int, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        return self.sample_with_report(num_samples, x, generator)[0]

    def sample_with_report(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> tuple[NDArray[np.float64], McmcReport]:
        """Draw as `sample` does, and tell how the chains did."""
        samples, report = self.at(x, generator).sample_with_report(num_samples, generator)
        return self.prior.to_physical(samples), report

    def sample_batched(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> NDArray[np.float64]:
        batches = self._batches(checked_x(x, self.x_shape), generator)
        samples = torch.cat([batch.draw(num_samples, generator)[0] for _, batch in batches], 1)
        check_drawn(samples)
        return self.prior.to_physical(samples)

    def _log_prob_unit(
        self, theta: Tensor, x: NDArray[np.float32], generator: Generator
    ) -> Tensor:
        batches = self._batches(x, generator)
        return torch.cat([batch.log_prob(theta[:, rows]) for rows, batch in batches], 1)

    def at(self, x: ArrayLike, generator: Generator) -> "ConditionedMcmc":
        """Return the posterior at one x, with chains warmed up; see `Posterior.at`."""
        many = replace(self.options, num_chains=max(self.options.num_chains, CHAINS_AT_ONE_X))
        batch = self._condition(one_x(x, self.x_shape), generator, many)
        check_drawn(torch.where(batch.ok, 0.0, torch.nan)[None, :, None])
        return ConditionedMcmc(batch)

    def score(
        self, num_samples: int, x: ArrayLike, truth: Tensor, generator: Generator
    ) -> ScoredDraws:
        parts = []
        for rows, batch in self._batches(checked_x(x, self.x_shape), generator):
            samples, chains = batch.draw(num_samples, generator)
            worst, least = (torch.full((len(batch.ok),), torch.nan).double() for _ in range(2))
            if bool(batch.ok.any()):
                r_hat, ess = convergence(chains)
                worst[batch.ok], least[batch.ok] = r_hat.amax(1), ess.amin(1)
            log_prob, log_truth = batch.log_prob(samples), batch.log_prob(truth[None, rows])[0]
            parts.append((samples, log_prob, log_truth, worst, least))
        axes = (1, 1, 0, 0, 0)
        joined = (
            torch.cat(v, axis) for v, axis in zip(zip(*parts, strict=True), axes, strict=True)
        )
        return ScoredDraws(*joined)

    def _batches(
        self, x: NDArray[np.float32], generator: Generator
    ) -> Iterator[tuple[slice, "ConditionedBatch"]]:
        """Condition on the observations of `x`, as many at once as memory likes."""
        lot = max(1, _CHAINS_AT_ONCE // self.options.num_chains)
        for start in range(0, len(x), lot):
            rows = slice(start, min(start + lot, len(x)))
            yield rows, self._condition(x[rows], generator)

    def _condition(
        self, x: NDArray[np.float32], generator: Generator, options: McmcOptions | None = None
    ) -> "ConditionedBatch":
        """Warm chains up for all of `x` (b, *x_shape) and all members."""
        options = options or self.options
        values = self.preprocessing(checked_x(x, self.x_shape))
        ok = torch.ones(len(values), dtype=torch.bool)
        warmed = []
        for member in self.members:
            with torch.no_grad():
                embedding = member.embed(values)
            target = make_target(member.log_potential_embedded, embedding, self.prior.dimension)
            warm = warm_up(target, options, generator)
            if warm is None:
                return ConditionedBatch(self, (), torch.zeros_like(ok))
            warmed.append((member, embedding, warm))
            ok &= warm.ok
        if not bool(ok.any()):
            return ConditionedBatch(self, (), ok)
        members = tuple(
            MemberTarget(member, embedding[ok], warm.select(ok[warm.ok]))
            for member, embedding, warm in warmed
        )
        return ConditionedBatch(self, members, ok)


@dataclass(frozen=True, eq=False)
class MemberTarget:
    """One member at k observations that can be drawn for, of the `embedding` (k, ...)."""

    member: PotentialEstimator
    embedding: Tensor
    warm: WarmChains

    def log_density(self, theta: Tensor) -> Tensor:
        """Return log densities (s, k) of theta (s, k, d)."""
        lot = max(1, _ROWS // max(1, theta.shape[1]))
        parts = [
            self.member.log_potential_embedded(part, self.embedding).double()
            for part in theta.split(lot)
        ]
        values = torch.cat(parts) - self.warm.log_evidence
        return torch.where(values.isnan(), -torch.inf, values)


@dataclass(frozen=True, eq=False)
class ConditionedBatch:
    """An `McmcPosterior` at b observations, of theta in the unit cube.

    Args:
        members: at the k observations that can be drawn for; none where k is 0.
        ok: (b,) which can.
    """

    posterior: McmcPosterior
    members: tuple[MemberTarget, ...]
    ok: Tensor

    def draw(self, num_samples: int, generator: Generator) -> tuple[Tensor, list[MemberChains]]:
        """Draw theta (num_samples, b, d), NaN where it cannot be done.

        Every member gives its share of the draws, and they come in random order.

        Returns:
            The draws, and the members' chains that they come from.
        """
        count, dimension = int(self.ok.sum()), self.posterior.prior.dimension
        samples = torch.full((num_samples, len(self.ok), dimension), torch.nan)
        if not count:
            return samples, []
        share = self.posterior.probabilities.expand(count, -1)
        chosen = systematic(share, num_samples, generator)
        chosen = chosen.gather(1, torch.rand(chosen.shape, generator=generator).argsort(1))
        drawn = torch.empty(count, num_samples, dimension)
        chains = []
        for index, member in enumerate(self.members):
            of_member = chosen == index
            used = of_member.sum(1)
            steps = max(_MIN_KEPT, -(-int(used.max()) // member.warm.options.num_chains))
            theta, acceptance = draw(member.warm, steps, generator)
            pool = theta.reshape(count, -1, dimension)
            order = torch.rand(pool.shape[:2], generator=generator).argsort(1)
            row, column = of_member.nonzero(as_tuple=True)
            place = of_member.cumsum(1)[row, column] - 1
            drawn[row, column] = pool[row, order[row, place]]
            chains.append(MemberChains(member.warm, theta, acceptance, used))
        samples[:, self.ok] = drawn.transpose(0, 1)
        return samples, chains

    @torch.no_grad()
    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log densities (s, b) of theta (s, b, d); NaN where not ok."""
        values = torch.full(theta.shape[:2], torch.nan, dtype=torch.float64)
        if self.members:
            values[:, self.ok] = self.density(theta[:, self.ok])
        return values

    def density(self, theta: Tensor) -> Tensor:
        """Return log densities (s, k) of theta (s, k, d) at the k that are ok."""
        weights = self.posterior.probabilities.double()
        return torch.logsumexp(self.densities(theta) + weights.log()[:, None, None], 0)

    def densities(self, theta: Tensor) -> Tensor:
        """Return the log densities (m, s, k) of the members."""
        return torch.stack([member.log_density(theta) for member in self.members])


@dataclass(frozen=True, eq=False)
class ConditionedMcmc(ConditionedPosterior):
    """An `McmcPosterior` at one observation.

    The chains are warm. Every call of `sample` goes on from the same places, with its own
    generator, and keeps nothing for the next.
    """

    cheap: ClassVar[bool] = False

    batch: ConditionedBatch

    @property
    def prior(self) -> Prior:
        return self.batch.posterior.prior

    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        return self.batch.draw(num_samples, generator)[0][:, 0]

    def sample_with_report(
        self, num_samples: int, generator: Generator
    ) -> tuple[Tensor, McmcReport]:
        """Draw as `sample` does, and tell how the chains did."""
        samples, chains = self.batch.draw(num_samples, generator)
        return samples[:, 0], make_report(chains, self.prior.labels)

    def density(self, theta: Tensor) -> Tensor:
        return self.batch.density(theta[:, None])[:, 0]

    def consensus(self, theta: Tensor) -> Tensor:
        weights = self.batch.posterior.probabilities.double()
        return weights @ self.batch.densities(theta[:, None])[..., 0]
