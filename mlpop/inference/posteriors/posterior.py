"""The posterior of an ensemble, in physical units and with label names."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.posteriors.arguments import (
    SamplingError,
    check_drawn,
    checked_theta,
    checked_x,
    member_probabilities,
    one_x,
)
from mlpop.inference.posteriors.conditioned import ScoredDraws
from mlpop.inference.posteriors.map_estimate import climb
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.posteriors.sampling import (
    embed,
    log_prob_members,
    log_prob_mixture,
    mass_inside,
    sample_mixture,
    to_physical_density,
)
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

__all__ = ["ConditionedEnsemble", "EnsemblePosterior", "SamplingError"]

_MAX_FACTOR = 300
"""Coverage gives up on an observation after this many draws for one that is wanted."""


@dataclass(frozen=True, eq=False)
class EnsemblePosterior:
    """A mixture of trained estimators, each cut to the prior and renormalised there.

    Its density is sum_j w_j q_j(theta | x) / Z_j(x) inside the prior and 0 outside, where Z_j is
    the mass of member j inside the prior: exactly what `sample` draws from.
    Nothing is cached between calls and all randomness comes from generators that are passed in.

    Args:
        members: trained estimators of scaled theta given scaled x.
        prior: labels, ranges and scaling of theta.
        weights: of the members; equal by default.
        preprocessing: of x, before the networks see it.

    Raises:
        DataError: no members, or weights or a compressor that do not fit them.
    """

    members: Sequence[EmbedOnce]
    prior: Prior
    weights: Sequence[float] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    probabilities: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        probabilities = member_probabilities(len(self.members), self.weights)
        for member in self.members:
            if member.input_shape != (self.prior.dimension,):
                raise DataError(
                    f"the prior has {self.prior.dimension} labels but a member was trained for "
                    f"theta of shape {tuple(member.input_shape)}"
                )
            self.preprocessing.stored_shape(tuple(member.condition_shape))
            member.eval()
        object.__setattr__(self, "probabilities", probabilities)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""
        return self.prior.labels

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x as stored, before any preprocessing."""
        return self.preprocessing.stored_shape(tuple(self.members[0].condition_shape))

    @property
    def coverage_draws(self) -> int:
        """Draws for every test of its coverage, unless told."""
        return 10_000

    def sample(self, num_samples: int, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        """Draw theta (num_samples, d) in physical units given one `x`, of shape (*x_shape).

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: hardly any of the posterior's mass is inside the prior.
        """
        return self.sample_batched(num_samples, one_x(x, self.x_shape), generator)[:, 0]

    def sample_batched(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> NDArray[np.float64]:
        """Draw theta (num_samples, b, d) in physical units given each of `x` (b, *x_shape).

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: for some x, hardly any of the posterior's mass is inside the prior.
        """
        samples, _ = self.sample_scaled(num_samples, self.embed(x), generator)
        check_drawn(samples)
        return self.prior.to_physical(samples)

    def log_prob(
        self,
        theta: ArrayLike,
        x: ArrayLike,
        *,
        generator: Generator | None = None,
        mass_draws: int = 10_000,
    ) -> NDArray[np.float64]:
        """Return the log densities (s,) of physical theta (s, d) given one `x`.

        The density is per physical unit of every label, -inf outside the prior.

        Args:
            theta: (s, d) points.
            x: (*x_shape) one observation.
            generator: for the masses inside the prior; by default one with a fixed seed.
            mass_draws: draws to estimate them from: Z is known to sqrt((1 - Z) / (Z mass_draws)).

        Raises:
            DataError: `x` or `theta` has the wrong shape or holds NaN.
        """
        points = np.asarray(theta, dtype=np.float64)
        batched = points[:, None, :] if points.ndim == 2 else points
        return self.log_prob_batched(
            batched, one_x(x, self.x_shape), generator=generator, mass_draws=mass_draws
        )[:, 0]

    def log_prob_batched(
        self,
        theta: ArrayLike,
        x: ArrayLike,
        *,
        generator: Generator | None = None,
        mass_draws: int = 10_000,
    ) -> NDArray[np.float64]:
        """Return the log densities (s, b) of physical theta (s, b, d) given `x` (b, *x_shape).

        Arguments and errors are those of `log_prob`.
        """
        embeddings = self.embed(x)
        points = checked_theta(theta, len(embeddings[0]), self.prior)
        generator = generator or generator_from_seed(0)
        masses = mass_inside(self.members, embeddings, self.prior, generator, mass_draws)
        values = self.log_prob_scaled(self.prior.to_scaled(points), embeddings, masses)
        return to_physical_density(values, points, self.prior)

    def map(
        self, x: ArrayLike, generator: Generator, *, num_samples: int = 2000, num_steps: int = 200
    ) -> NDArray[np.float64]:
        """Return the theta (d,) of the highest posterior density, in physical units.

        The ten densest of `num_samples` draws climb for `num_steps` steps of Adam.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: hardly any of the posterior's mass is inside the prior.
        """
        conditioned = self.at(x, generator)
        start = conditioned.sample(num_samples, generator)
        return self.prior.to_physical(climb(conditioned.density, start, self.prior, num_steps))

    def at(self, x: ArrayLike, generator: Generator) -> "ConditionedEnsemble":
        """Return the posterior at one `x` (*x_shape), in scaled units.

        Args:
            x: the observation; embedded once.
            generator: for the masses of the members inside the prior.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """
        embeddings = self.embed(one_x(x, self.x_shape))
        masses = mass_inside(self.members, embeddings, self.prior, generator)
        return ConditionedEnsemble(self, tuple(embeddings), masses)

    def score(
        self, num_samples: int, x: ArrayLike, truth: Tensor, generator: Generator
    ) -> ScoredDraws:
        """Draw given each of `x`, and rank draws and truths by density; see `ScoredDraws`.

        Args:
            num_samples: draws for every x.
            x: (b, *x_shape).
            truth: (b, d) scaled theta.
            generator: source of the draws.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """
        embeddings = self.embed(x)
        samples, masses = self.sample_scaled(
            num_samples, embeddings, generator, max_factor=_MAX_FACTOR
        )
        ok = ~samples.isnan().any(-1).any(0)
        log_prob = torch.full(samples.shape[:2], torch.nan)
        log_truth = torch.full((len(ok),), torch.nan)
        if bool(ok.any()):
            kept = [embedding[ok] for embedding in embeddings]
            log_prob[:, ok] = self.log_prob_scaled(samples[:, ok], kept, masses[:, ok])
            log_truth[ok] = self.log_prob_scaled(truth[ok][None], kept, masses[:, ok])[0]
        return ScoredDraws(samples, log_prob, log_truth, masses.T)

    def embed(self, x: ArrayLike) -> list[Tensor]:
        """Return the embedding (b, e) of `x` (b, *x_shape) by every member.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """
        values = checked_x(x, self.x_shape)
        return embed(self.members, self.preprocessing(values))

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
class ConditionedEnsemble:
    """An `EnsemblePosterior` at one observation; a `ConditionedPosterior`.

    Args:
        posterior: at any x.
        embeddings: (1, e) of the observation, by every member.
        masses: (m, 1) of every member inside the prior.
    """

    posterior: EnsemblePosterior
    embeddings: tuple[Tensor, ...]
    masses: Tensor

    @property
    def prior(self) -> Prior:
        """Labels, ranges and scaling of theta."""
        return self.posterior.prior

    @property
    def normalized(self) -> bool:
        """`log_prob` is that of a density."""
        return True

    @property
    def cheap(self) -> bool:
        """Draws cost microseconds."""
        return True

    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw scaled theta (num_samples, d), all inside the prior.

        Raises:
            SamplingError: hardly any of the posterior's mass is inside the prior.
        """
        samples, _ = self.posterior.sample_scaled(num_samples, self.embeddings, generator)
        check_drawn(samples)
        return samples[:, 0]

    @torch.no_grad()
    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of scaled theta (n, d), -inf outside the prior."""
        return torch.where(self.prior.contains(theta), self.density(theta), -torch.inf)

    def density(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of scaled theta (n, d), not cut to the prior."""
        parts = [
            member.log_prob_embedded(theta[:, None], embedding)
            for member, embedding in zip(self.posterior.members, self.embeddings, strict=True)
        ]
        return log_prob_mixture(torch.stack(parts), self.masses, self.posterior.probabilities)[
            :, 0
        ]
