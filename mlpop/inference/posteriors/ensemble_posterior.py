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
from mlpop.inference.posteriors.sampling import ROWS, mass_inside, sample_truncated
from mlpop.inference.prior import Prior

_EMBED_CHUNK = 512
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
        masses = self._masses(embeddings, generator)
        return self.log_prob_scaled(theta, embeddings, masses)

    def at(self, x: ArrayLike, generator: Generator) -> "ConditionedEnsemble":
        embeddings = self.embed(one_x(x, self.x_shape))
        masses = self._masses(embeddings, generator)
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

    @torch.no_grad()
    def embed(self, x: ArrayLike) -> list[Tensor]:
        """Return the embedding (b, e) of `x` (b, *x_shape) by every member.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """
        chunks = self.preprocessing(checked_x(x, self.x_shape)).split(_EMBED_CHUNK)
        return [torch.cat([member.embed(chunk) for chunk in chunks]) for member in self.members]

    @torch.no_grad()
    def sample_scaled(
        self,
        num_samples: int,
        embeddings: Sequence[Tensor],
        generator: Generator,
        *,
        max_factor: int = 1000,
    ) -> tuple[Tensor, Tensor]:
        """Draw scaled theta; which member a draw comes from is random for every draw.

        Args:
            num_samples: draws wanted for each observation.
            embeddings: of every member, (b, e).
            generator: source of the draws.
            max_factor: see `sampling.sample_truncated`.

        Returns:
            Samples (num_samples, b, d), all NaN where an observation was given up, and the mass
            (m, b) of every member inside the prior.
        """
        shape = num_samples, len(embeddings[0])
        choice = torch.multinomial(
            self.probabilities, num_samples * shape[1], replacement=True, generator=generator
        ).view(shape)
        samples = torch.full((*shape, self.prior.dimension), float("nan"))
        masses = []
        for index, (member, embedding) in enumerate(zip(self.members, embeddings, strict=True)):
            chosen = choice == index
            part, mass = sample_truncated(
                member, embedding, chosen.sum(0), self.prior, generator, max_factor=max_factor
            )
            row, column = chosen.nonzero(as_tuple=True)
            samples[row, column] = part[chosen.cumsum(0)[row, column] - 1, column]
            unseen = mass.isnan()
            if bool(unseen.any()):
                mass[unseen] = mass_inside(member, embedding[unseen], self.prior, generator)
            masses.append(mass)
        samples[:, samples.isnan().any(-1).any(0)] = float("nan")
        return samples, torch.stack(masses)

    @torch.no_grad()
    def log_prob_scaled(
        self, theta: Tensor, embeddings: Sequence[Tensor], masses: Tensor
    ) -> Tensor:
        """Return log densities (s, b) per scaled unit of scaled theta (s, b, d), without cut."""
        lot = max(1, ROWS // max(1, len(theta)))
        parts = []
        for member, embedding in zip(self.members, embeddings, strict=True):
            pairs = zip(theta.split(lot, 1), embedding.split(lot), strict=True)
            parts.append(torch.cat([member.log_prob_embedded(*pair) for pair in pairs], dim=1))
        return self.log_mixture(torch.stack(parts), masses)

    def log_mixture(self, log_probs: Tensor, masses: Tensor) -> Tensor:
        """Return the log density (s, b) of what `sample_scaled` draws.

        Args:
            log_probs: (m, s, b) of the members.
            masses: (m, b) of the members inside the prior.
        """
        offset = self.probabilities.log()[:, None] - masses.log()
        return torch.logsumexp(log_probs + offset[:, None, :], dim=0)

    def _masses(self, embeddings: Sequence[Tensor], generator: Generator) -> Tensor:
        pairs = zip(self.members, embeddings, strict=True)
        return torch.stack([mass_inside(*pair, self.prior, generator) for pair in pairs])


@dataclass(frozen=True, eq=False)
class ConditionedEnsemble(ConditionedPosterior):
    """An `EnsemblePosterior` at one observation.

    Args:
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
        return self.posterior.log_mixture(torch.stack(parts), self.masses)[:, 0]
