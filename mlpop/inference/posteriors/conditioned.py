"""A posterior at one observation, and draws of posteriors at many; both in the unit cube."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mlpop.inference.prior import Prior, in_cube


class ConditionedPosterior(ABC):
    """The posterior at one observation `x_o`, of theta in the unit cube of the prior."""

    cheap: ClassVar[bool]
    """Whether a draw costs microseconds; a Markov chain's cost milliseconds."""

    @property
    @abstractmethod
    def prior(self) -> Prior:
        """Labels and distributions of theta."""

    @abstractmethod
    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw theta (num_samples, d)."""

    @abstractmethod
    def density(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of theta (n, d), which must be in the cube; differentiable.

        Those of Markov chains are normalised up to the error of the estimated evidence.
        """

    def consensus(self, theta: Tensor) -> Tensor:
        """Return the mean log density (n,) of the members at theta (n, d), in the cube.

        It is at most `density`, and far below it where a single member has mass.

        References:
            Genest & Zidek 1986, "Combining probability distributions", Statistical Science 1, 114
            (the logarithmic opinion pool).
        """
        return self.density(theta)

    @torch.no_grad()
    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of theta (n, d), -inf outside the cube."""
        return torch.where(in_cube(theta), self.density(theta.clamp(0, 1)), -torch.inf)


@dataclass(frozen=True, eq=False)
class ScoredDraws:
    """Draws of b posteriors, and how they and the truths rank: all that coverage needs.

    Attributes:
        samples: (s, b, d); all NaN for an observation that could not be drawn for.
        log_prob: (s, b) log densities of the samples.
        log_truth: (b,) log densities of the truths.
        r_hat: (b,) worst of all labels and members; None where nothing was a Markov chain.
        ess: (b,) least effective number of draws of all labels; None likewise.
    """

    samples: Tensor
    log_prob: Tensor
    log_truth: Tensor
    r_hat: Tensor | None = None
    ess: Tensor | None = None
