"""The posterior of densities of theta: drawn from directly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.posteriors.arguments import check_drawn, checked_x, one_x
from mlpop.inference.posteriors.conditioned import ConditionedPosterior, ScoredDraws
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.posteriors.sampling import (
    embed,
    log_prob_members,
    log_prob_mixture,
    mass_inside,
    sample_mixture,
)
from mlpop.inference.prior import Prior

_MAX_FACTOR = 300
"""Coverage gives up on an observation after this many draws for one that is wanted."""


@dataclass(frozen=True, eq=False)
class EnsemblePosterior(Posterior):
    """A mixture of trained densities of theta, each cut to the prior and renormalised there.

    Its density is sum_j w_j q_j(theta | x) / Z_j(x) inside the prior and 0 outside, where Z_j is
    the mass of member j inside the prior: exactly what `sample` draws from.
    """

    sampling: ClassVar[Literal["direct", "mcmc"]] = "direct"
    coverage_draws: ClassVar[int] = 10_000

    members: Sequence[EmbedOnce]

    def sample(self, num_samples: int, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        return self.sample_batched(num_samples, one_x(x, self.x_shape), generator)[:, 0]

    def sample_batched(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> NDArray[np.float64]:
        samples, _ = self.sample_scaled(num_samples, self.embed(x), generator)
        check_drawn(samples)
        return self.prior.to_physical(samples)

    def _log_prob_scaled(
        self, theta: Tensor, x: NDArray[np.float32], generator: Generator
    ) -> Tensor:
        embeddings = self.embed(x)
        masses = mass_inside(self.members, embeddings, self.prior, generator)
        return self.log_prob_scaled(theta, embeddings, masses)

    def at(self, x: ArrayLike, generator: Generator) -> "ConditionedEnsemble":
        embeddings = self.embed(one_x(x, self.x_shape))
        masses = mass_inside(self.members, embeddings, self.prior, generator)
        return ConditionedEnsemble(self, tuple(embeddings), masses)

    def score(
        self, num_samples: int, x: ArrayLike, truth: Tensor, generator: Generator
    ) -> ScoredDraws:
        embeddings = self.embed(x)
        samples, masses = self.sample_scaled(
            num_samples, embeddings, generator, max_factor=_MAX_FACTOR
        )
        ok = ~samples.isnan().any(-1).any(0)
        log_prob = torch.full(samples.shape[:2], torch.nan)
        log_truth = torch.full((len(ok),), torch.nan)
        if bool(ok.any()):
            drawn = [embedding[ok] for embedding in embeddings]
            log_prob[:, ok] = self.log_prob_scaled(samples[:, ok], drawn, masses[:, ok])
            log_truth[ok] = self.log_prob_scaled(truth[ok][None], drawn, masses[:, ok])[0]
        return ScoredDraws(samples, log_prob, log_truth, masses.T)

    def embed(self, x: ArrayLike) -> list[Tensor]:
        """Return the embedding (b, e) of `x` (b, *x_shape) by every member.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """
        return embed(self.members, self.preprocessing(checked_x(x, self.x_shape)))

    def sample_scaled(
        self,
        num_samples: int,
        embeddings: Sequence[Tensor],
        generator: Generator,
        *,
        max_factor: int = 1000,
    ) -> tuple[Tensor, Tensor]:
        """Draw scaled theta (num_samples, b, d); see `sampling.sample_mixture`."""
        return sample_mixture(
            self.members,
            self.probabilities,
            embeddings,
            num_samples,
            self.prior,
            generator,
            max_factor=max_factor,
        )

    def log_prob_scaled(
        self, theta: Tensor, embeddings: Sequence[Tensor], masses: Tensor
    ) -> Tensor:
        """Return log densities (s, b) per scaled unit of scaled theta (s, b, d), without cut."""
        return log_prob_mixture(
            log_prob_members(self.members, embeddings, theta), masses, self.probabilities
        )


@dataclass(frozen=True, eq=False)
class ConditionedEnsemble(ConditionedPosterior):
    """An `EnsemblePosterior` at one observation.

    Args:
        posterior: at any x.
        embeddings: (1, e) of the observation, by every member.
        masses: (m, 1) of every member inside the prior.
    """

    cheap: ClassVar[bool] = True

    posterior: EnsemblePosterior
    embeddings: tuple[Tensor, ...]
    masses: Tensor

    @property
    def prior(self) -> Prior:
        return self.posterior.prior

    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        samples, _ = self.posterior.sample_scaled(num_samples, self.embeddings, generator)
        check_drawn(samples)
        return samples[:, 0]

    def density(self, theta: Tensor) -> Tensor:
        parts = [
            member.log_prob_embedded(theta[:, None], embedding)
            for member, embedding in zip(self.posterior.members, self.embeddings, strict=True)
        ]
        probabilities = self.posterior.probabilities
        return log_prob_mixture(torch.stack(parts), self.masses, probabilities)[:, 0]
