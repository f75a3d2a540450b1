"""What every posterior is: trained members and a prior, conditioned on any x."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import Estimator
from mlpop.inference.posteriors.arguments import checked_theta, checked_x, one_x
from mlpop.inference.posteriors.conditioned import ConditionedPosterior, ScoredDraws
from mlpop.inference.posteriors.map_estimate import climb
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

_MAP_STARTS = 2000
"""Draws of which the densest climb to the densest point."""


@dataclass(frozen=True, eq=False)
class Posterior(ABC):
    """A mixture of the posteriors of trained members, each of which lives where the prior does.

    Theta are in physical units. Nothing is cached between calls, and all randomness comes from
    generators that are passed in.

    Args:
        members: trained estimators of theta, in the unit cube of the prior, and x.
        prior: labels and distributions of theta.
        weights: of the members; equal by default.
        preprocessing: of x, before the networks see it.

    Raises:
        DataError: no members, or weights or a compressor that do not fit them.
    """

    sampling: ClassVar[Literal["direct", "mcmc"]]
    """How it is drawn from."""
    coverage_draws: ClassVar[int]
    """Draws for every test of its coverage, unless told."""

    members: Sequence[Estimator]
    prior: Prior
    weights: Sequence[float] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    probabilities: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", self._member_probabilities())
        for member in self.members:
            if tuple(member.theta_shape) != (self.prior.dimension,):
                raise DataError(
                    f"the prior has {self.prior.dimension} labels but a member was trained for "
                    f"theta of shape {tuple(member.theta_shape)}"
                )
            self.preprocessing.stored_shape(tuple(member.x_shape))
            member.eval()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""
        return self.prior.labels

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x as stored, before any preprocessing."""
        return self.preprocessing.stored_shape(tuple(self.members[0].x_shape))

    def to(self, device: torch.device | str) -> Self:
        """Let the networks compute on `device`, and return the posterior itself.

        What goes in and comes out stays on the CPU. On one kind of device the same generator
        gives the same draws.
        """
        for member in self.members:
            member.to(device)
        return self

    @abstractmethod
    def sample(self, num_samples: int, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        """Draw theta (num_samples, d) in physical units given one `x`, of shape (*x_shape).

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: draws of the posterior are no numbers.
        """

    @abstractmethod
    def sample_batched(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> NDArray[np.float64]:
        """Draw theta (num_samples, b, d) in physical units given each of `x` (b, *x_shape).

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: for some x, draws of the posterior are no numbers.
        """

    def log_prob(
        self, theta: ArrayLike, x: ArrayLike, *, generator: Generator | None = None
    ) -> NDArray[np.float64]:
        """Return the log densities (s,) of physical theta (s, d) given one `x`.

        The density is per physical unit of every label, -inf outside the prior. That of Markov
        chains is normalised by an estimate, to about 1 / sqrt(`evidence_ess`).

        Args:
            theta: (s, d) points.
            x: (*x_shape) one observation.
            generator: for what warms Markov chains up; by default one with a fixed seed.

        Raises:
            DataError: `x` or `theta` has the wrong shape or holds NaN.
        """
        points = np.asarray(theta, dtype=np.float64)
        batched = points[:, None, :] if points.ndim == 2 else points
        return self.log_prob_batched(batched, one_x(x, self.x_shape), generator=generator)[:, 0]

    def log_prob_batched(
        self, theta: ArrayLike, x: ArrayLike, *, generator: Generator | None = None
    ) -> NDArray[np.float64]:
        """Return the log densities (s, b) of physical theta (s, b, d) given `x` (b, *x_shape).

        NaN for an x that Markov chains cannot draw for. Arguments and errors are those of
        `log_prob`.
        """
        values = checked_x(x, self.x_shape)
        points = checked_theta(theta, len(values), self.prior)
        log_prob = self._log_prob_unit(
            self.prior.to_unit(points), values, generator or generator_from_seed(0)
        )
        log_prior = self.prior.log_prob(points)
        return np.where(log_prior > -np.inf, log_prob.double().numpy() + log_prior, -np.inf)

    def map(self, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        """Return the theta (d,) of the highest posterior density, in physical units.

        The ten densest of 2000 draws climb for 200 steps of Adam.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: draws of the posterior are no numbers.
        """
        conditioned = self.at(x, generator)
        start = conditioned.sample(_MAP_STARTS, generator)

        def log_prob(theta: Tensor) -> Tensor:
            return conditioned.density(theta) + self.prior.log_prob_at(theta)

        return self.prior.to_physical(climb(log_prob, start))

    @abstractmethod
    def at(self, x: ArrayLike, generator: Generator) -> ConditionedPosterior:
        """Return the posterior at one `x` (*x_shape), of theta in the unit cube.

        Args:
            x: the observation; embedded once.
            generator: for what warms Markov chains up.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
            SamplingError: no place in the prior has a finite potential.
        """

    @abstractmethod
    def score(
        self, num_samples: int, x: ArrayLike, truth: Tensor, generator: Generator
    ) -> ScoredDraws:
        """Draw given each of `x`, and rank draws and truths by density; see `ScoredDraws`.

        Args:
            num_samples: draws for every x.
            x: (b, *x_shape).
            truth: (b, d) theta in the unit cube.
            generator: source of all randomness.

        Raises:
            DataError: `x` has the wrong shape or holds NaN.
        """

    @abstractmethod
    def _log_prob_unit(
        self, theta: Tensor, x: NDArray[np.float32], generator: Generator
    ) -> Tensor:
        """Return log densities (s, b) in the unit cube of its theta (s, b, d)."""

    def _member_probabilities(self) -> Tensor:
        """Return the probabilities (m,) of the members; equal without weights."""
        count = len(self.members)
        if not count:
            raise DataError("a posterior needs at least one trained member")
        weights = [1.0] * count if self.weights is None else list(self.weights)
        values = torch.tensor(weights).double()
        if len(values) != count or not bool((values > 0).all()):
            raise DataError(
                f"{count} members need as many weights above 0, but got {values.tolist()}"
            )
        return (values / values.sum()).float()
