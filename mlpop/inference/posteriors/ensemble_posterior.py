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
from mlpop.inference.posteriors.sampling import rows_at_once, sample_density
from mlpop.inference.prior import Prior

_EMBED_CHUNK = 512


@dataclass(frozen=True, eq=False)
class EnsemblePosterior(Posterior):
    """A mixture of trained densities of theta: sum_j w_j q_j(theta | x)."""

    sampling: ClassVar[Literal["direct", "mcmc"]] = "direct"
    coverage_draws: ClassVar[int] = 10_000

    members: Sequence[EmbedOnce]

    def sample(self, num_samples: int, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        return self.sample_batched(num_samples, one_x(x, self.x_shape), generator)[:, 0]

    def sample_batched(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> NDArray[np.float64]:
        samples = self.sample_unit(num_samples, self.embed(x), generator)
        check_drawn(samples)
        return self.prior.to_physical(samples)

    def _log_prob_unit(
        self, theta: Tensor, x: NDArray[np.float32], generator: Generator
    ) -> Tensor:
        return self.log_prob_embedded(theta, self.embed(x))

    def at(self, x: ArrayLike, generator: Generator) -> "ConditionedEnsemble":
        return ConditionedEnsemble(self, tuple(self.embed(one_x(x, self.x_shape))))

    def score(
        self, num_samples: int, x: ArrayLike, truth: Tensor, generator: Generator
    ) -> ScoredDraws:
        embeddings = self.embed(x)
        samples = self.sample_unit(num_samples, embeddings, generator)
        ok = ~samples.isnan().any(-1).any(0)
        log_prob = torch.full(samples.shape[:2], torch.nan)
        log_truth = torch.full((len(ok),), torch.nan)
        if bool(ok.any()):
            drawn = [embedding[ok] for embedding in embeddings]
            log_prob[:, ok] = self.log_prob_embedded(samples[:, ok], drawn)
            log_truth[ok] = self.log_prob_embedded(truth[ok][None], drawn)[0]
        return ScoredDraws(samples, log_prob, log_truth)

    @torch.no_grad()
    def embed(self, x: ArrayLike) -> list[Tensor]:
        """Return the embedding (b, e) of `x` (b, *x_shape) by every member.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """
        chunks = self.preprocessing(checked_x(x, self.x_shape)).split(_EMBED_CHUNK)
        return [torch.cat([member.embed(chunk) for chunk in chunks]) for member in self.members]

    @torch.no_grad()
    def sample_unit(
        self, num_samples: int, embeddings: Sequence[Tensor], generator: Generator
    ) -> Tensor:
        """Draw theta in the unit cube; which member a draw comes from is random for every draw.

        Args:
            num_samples: draws wanted for each observation.
            embeddings: of every member, (b, e).
            generator: source of the draws.

        Returns:
            Samples (num_samples, b, d), all NaN for an observation where a draw is no number.
        """
        shape = num_samples, len(embeddings[0])
        choice = torch.multinomial(
            self.probabilities, num_samples * shape[1], replacement=True, generator=generator
        ).view(shape)
        samples = torch.full((*shape, self.prior.dimension), float("nan"))
        for index, (member, embedding) in enumerate(zip(self.members, embeddings, strict=True)):
            chosen = choice == index
            part = sample_density(member, embedding, int(chosen.sum(0).max()), generator)
            row, column = chosen.nonzero(as_tuple=True)
            samples[row, column] = part[chosen.cumsum(0)[row, column] - 1, column]
        samples[:, ~samples.isfinite().all(-1).all(0)] = float("nan")
        return samples

    @torch.no_grad()
    def log_prob_embedded(self, theta: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """Return log densities (s, b) in the unit cube of its theta (s, b, d)."""
        parts = []
        for member, embedding in zip(self.members, embeddings, strict=True):
            lot = max(1, rows_at_once(member.device) // max(1, len(theta)))
            pairs = zip(theta.split(lot, 1), embedding.split(lot), strict=True)
            parts.append(torch.cat([member.log_prob_embedded(*pair) for pair in pairs], dim=1))
        return self.log_mixture(torch.stack(parts))

    def log_mixture(self, log_probs: Tensor) -> Tensor:
        """Return the log density (s, b) of what `sample_unit` draws.

        Args:
            log_probs: (m, s, b) of the members.
        """
        return torch.logsumexp(log_probs + self.probabilities.log()[:, None, None], dim=0)


@dataclass(frozen=True, eq=False)
class ConditionedEnsemble(ConditionedPosterior):
    """An `EnsemblePosterior` at one observation.

    Args:
        embeddings: (1, e) of the observation, by every member.
    """

    cheap: ClassVar[bool] = True

    posterior: EnsemblePosterior
    embeddings: tuple[Tensor, ...]

    @property
    def prior(self) -> Prior:
        return self.posterior.prior

    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        samples = self.posterior.sample_unit(num_samples, self.embeddings, generator)
        check_drawn(samples)
        return samples[:, 0]

    def density(self, theta: Tensor) -> Tensor:
        return self.posterior.log_mixture(self._densities(theta))[:, 0]

    def consensus(self, theta: Tensor) -> Tensor:
        return self.posterior.probabilities @ self._densities(theta)[..., 0]

    def _densities(self, theta: Tensor) -> Tensor:
        """Return the log densities (m, n, 1) of the members at theta (n, d)."""
        parts = [
            member.log_prob_embedded(theta[:, None], embedding)
            for member, embedding in zip(self.posterior.members, self.embeddings, strict=True)
        ]
        return torch.stack(parts)
