"""The posterior of an ensemble, in physical units and with label names."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from mlpop.errors import DataError, MlpopError
from mlpop.inference.estimators import EmbedOnce
from mlpop.inference.prior import Prior
from mlpop.inference.rng import generator_from_seed
from mlpop.inference.sampling import (
    embed,
    log_prob_members,
    log_prob_mixture,
    mass_inside,
    sample_mixture,
)
from mlpop.maps.scaling import Mode, scale_inputs


class SamplingError(MlpopError):
    """A posterior puts next to no mass inside the prior, so that it cannot be drawn from."""


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
        input_scaling: how every map of x is scaled before the networks see it.

    Raises:
        DataError: no members, or weights that do not fit them.
    """

    members: Sequence[EmbedOnce]
    prior: Prior
    weights: Sequence[float] | None = None
    input_scaling: Mode = "none"
    probabilities: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.members:
            raise DataError("a posterior needs at least one trained member")
        weights = torch.tensor(
            [1.0] * len(self.members) if self.weights is None else list(self.weights)
        ).double()
        if len(weights) != len(self.members) or not bool((weights > 0).all()):
            raise DataError(
                f"{len(self.members)} members need as many weights above 0, but got "
                f"{weights.tolist()}"
            )
        for member in self.members:
            if member.input_shape != (self.prior.dimension,):
                raise DataError(
                    f"the prior has {self.prior.dimension} labels but a member was trained for "
                    f"theta of shape {tuple(member.input_shape)}"
                )
            member.eval()
        object.__setattr__(self, "probabilities", (weights / weights.sum()).float())

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""
        return self.prior.labels

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return tuple(self.members[0].condition_shape)

    def sample(self, num_samples: int, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        """Draw theta (num_samples, d) in physical units given one `x`, of shape (*x_shape).

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: hardly any of the posterior's mass is inside the prior.
        """
        return self.sample_batched(num_samples, self._one(x), generator)[:, 0]

    def sample_batched(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> NDArray[np.float64]:
        """Draw theta (num_samples, b, d) in physical units given each of `x` (b, *x_shape).

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: for some x, hardly any of the posterior's mass is inside the prior.
        """
        samples, _ = self.sample_scaled(num_samples, self.embed(x), generator)
        failed = samples.isnan().any(-1).any(0).nonzero()[:, 0].tolist()
        if failed:
            raise SamplingError(
                f"the posterior of observation {failed[0]} ({len(failed)} such of "
                f"{samples.shape[1]}) has next to no mass inside the prior; the observation is "
                "unlike the training data, the prior is too narrow, or the training failed"
            )
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
            batched, self._one(x), generator=generator, mass_draws=mass_draws
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
        points = np.asarray(theta, dtype=np.float64)
        embeddings = self.embed(x)
        expected = (len(embeddings[0]), self.prior.dimension)
        if points.ndim != 3 or points.shape[1:] != expected or not np.isfinite(points).all():
            raise DataError(
                f"theta must be finite and of shape (s, {expected[0]}, {expected[1]}), but got "
                f"shape {points.shape}"
            )
        generator = generator or generator_from_seed(0)
        masses = mass_inside(self.members, embeddings, self.prior, generator, mass_draws)
        values = self.log_prob_scaled(self.prior.to_scaled(points), embeddings, masses)
        result = values.double().numpy() + self.prior.log_volume_ratio
        low, high = np.array(self.prior.low), np.array(self.prior.high)
        inside = ((points >= low) & (points <= high)).all(-1)
        return np.where(inside, result, -np.inf)

    def map(
        self, x: ArrayLike, generator: Generator, *, num_samples: int = 2000, num_steps: int = 200
    ) -> NDArray[np.float64]:
        """Return the theta (d,) of the highest posterior density, in physical units.

        The ten densest of `num_samples` draws climb for `num_steps` steps of Adam.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: hardly any of the posterior's mass is inside the prior.
        """
        start = self.prior.to_scaled(self.sample(num_samples, x, generator))
        embeddings = self.embed(self._one(x))
        masses = mass_inside(self.members, embeddings, self.prior, generator)
        density = self.log_prob_scaled(start[:, None], embeddings, masses)[:, 0]
        low, high = self.prior.scaled_low, self.prior.scaled_high
        unit = (start[density.topk(min(10, num_samples)).indices] - low) / (high - low)
        place = unit.clamp(1e-4, 1 - 1e-4).logit().requires_grad_()
        optimizer = torch.optim.Adam([place], lr=0.02)
        best, best_density = start[density.argmax()], density.max()
        offset = (self.probabilities.log() - masses[:, 0].log())[:, None]
        for _ in range(num_steps):
            theta = low + (high - low) * place.sigmoid()
            values = torch.logsumexp(
                torch.stack(
                    [
                        member.log_prob_embedded(theta[:, None], embedding)[:, 0]
                        for member, embedding in zip(self.members, embeddings, strict=True)
                    ]
                )
                + offset,
                dim=0,
            )
            if bool(values.max() > best_density):
                best, best_density = theta[values.argmax()].detach(), values.max().detach()
            optimizer.zero_grad()
            (gradient,) = torch.autograd.grad(-values.sum(), place)
            place.grad = gradient
            optimizer.step()
        return self.prior.to_physical(best)

    def embed(self, x: ArrayLike) -> list[Tensor]:
        """Return the embedding (b, e) of `x` (b, *x_shape) by every member.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """
        values = np.asarray(x, dtype=np.float32)
        if values.shape[1:] != self.x_shape or values.ndim != len(self.x_shape) + 1:
            raise DataError(
                f"x must have the shape (b, {', '.join(map(str, self.x_shape))}), but got "
                f"{values.shape}"
            )
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values.reshape(len(values), -1)).all(1)))
            raise DataError(f"x holds NaN or infinity, first in observation {row}")
        return embed(self.members, torch.tensor(scale_inputs(values, self.input_scaling)))

    def sample_scaled(
        self,
        num_samples: int,
        embeddings: Sequence[Tensor],
        generator: Generator,
        *,
        max_factor: int = 1000,
    ) -> tuple[Tensor, Tensor]:
        """Draw scaled theta (num_samples, b, d); see `mlpop.inference.sampling.sample_mixture`."""
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

    def _one(self, x: ArrayLike) -> NDArray[np.float32]:
        values = np.asarray(x, dtype=np.float32)
        if values.shape == (1, *self.x_shape):
            return values
        if values.shape != self.x_shape:
            raise DataError(f"one x must have the shape {self.x_shape}, but got {values.shape}")
        return values[None]
