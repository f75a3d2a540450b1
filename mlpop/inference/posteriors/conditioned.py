"""What other parts need to know of a posterior: at any x, and at one observation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior


@runtime_checkable
class ConditionedPosterior(Protocol):
    """The posterior at one observation `x_o`, in the scaled units of the networks.

    Attributes:
        prior: labels, ranges and scaling of theta.
        normalized: whether `log_prob` is that of a density; else it lacks a constant.
        cheap: whether a draw costs microseconds; a Markov chain's do not.
    """

    @property
    def prior(self) -> Prior:
        """Labels, ranges and scaling of theta."""

    @property
    def normalized(self) -> bool:
        """Whether `log_prob` is that of a density; else it lacks a constant."""

    @property
    def cheap(self) -> bool:
        """Whether a draw costs microseconds; a Markov chain's do not."""

    def sample(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw scaled theta (num_samples, d), all inside the prior."""

    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log densities (n,) of scaled theta (n, d), -inf outside the prior."""


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


class Posterior(Protocol):
    """The posterior at any x, in physical units: of density estimators, or by Markov chains."""

    @property
    def prior(self) -> Prior:
        """Labels, ranges and scaling of theta."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to x before the networks see it."""

    @property
    def members(self) -> Sequence[Any]:
        """The trained estimators."""

    @property
    def coverage_draws(self) -> int:
        """Draws for every test of its coverage, unless told."""

    def sample(self, num_samples: int, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        """Draw physical theta (num_samples, d) given one `x` (*x_shape)."""

    def sample_batched(
        self, num_samples: int, x: ArrayLike, generator: Generator
    ) -> NDArray[np.float64]:
        """Draw physical theta (num_samples, b, d) given each of `x` (b, *x_shape)."""

    def map(self, x: ArrayLike, generator: Generator) -> NDArray[np.float64]:
        """Return the physical theta (d,) of the highest density given one `x`."""

    def at(self, x: ArrayLike, generator: Generator) -> ConditionedPosterior:
        """Return the posterior at one `x` (*x_shape)."""

    def score(
        self, num_samples: int, x: ArrayLike, truth: Tensor, generator: Generator
    ) -> ScoredDraws:
        """Draw given each of `x` (b, *x_shape); `truth` is scaled theta (b, d)."""
