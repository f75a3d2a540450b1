"""A posterior at one observation, and draws of posteriors at many."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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


def join_scored(parts: Sequence[ScoredDraws]) -> ScoredDraws:
    """Return the draws of all observations of `parts`, all of Markov chains or none."""
    return ScoredDraws(
        torch.cat([part.samples for part in parts], 1),
        torch.cat([part.log_prob for part in parts], 1),
        torch.cat([part.log_truth for part in parts]),
        torch.cat([part.mass for part in parts]),
        _join([part.r_hat for part in parts]),
        _join([part.ess for part in parts]),
    )


def _join(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) == len(parts) else None
