"""A posterior at one observation, and draws of posteriors at many."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mlpop.inference.prior import Prior


class ConditionedPosterior(ABC):
    """The posterior at one observation `x_o`, in the scaled units of the networks."""

    cheap: ClassVar[bool]
    """Whether a draw costs microseconds; a Markov chain's cost milliseconds."""

    @property
    @abstractmethod
    def prior(self) -> Prior:
        """Labels, ranges and scaling of theta."""

    @abstractmethod
    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw scaled theta (num_samples, d), all inside the prior."""

    @abstractmethod
    def density(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of scaled theta (n, d), not cut to the prior; differentiable.

        Those of Markov chains are normalised up to the error of the estimated evidence.
        """

    @torch.no_grad()
    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of scaled theta (n, d), -inf outside the prior."""
        return torch.where(self.prior.contains(theta), self.density(theta), -torch.inf)


@dataclass(frozen=True, eq=False)
class ScoredDraws:
    """Draws of b posteriors, and how they and the truths rank: all that coverage needs.

    Attributes:
        samples: (s, b, d) scaled; all NaN for an observation that could not be drawn for.
        log_prob: (s, b) log densities of the samples, scaled units.
        log_truth: (b,) log densities of the truths, not cut to the prior.
        mass: (b, m) mass of every member inside the prior.
        r_hat: (b,) worst of all labels and members; None where nothing was a Markov chain.
        ess: (b,) least effective number of draws of all labels; None likewise.
    """

    samples: Tensor
    log_prob: Tensor
    log_truth: Tensor
    mass: Tensor
    r_hat: Tensor | None = None
    ess: Tensor | None = None
