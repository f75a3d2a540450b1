"""A loaded posterior that knows what was observed: x_o need not be given again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Generator

from mlpop.errors import DataError
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.networks.rng import generator_from_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class KnownPosterior:
    """A posterior and its x_o; theta are in physical units, in the order of `labels`.

    All else is that of `posterior`: `labels`, `prior`, `members`, `x_shape`, `sample_batched`.
    Without a generator draws come from `seed`: the same every time.

    Attributes:
        posterior: for any x.
        x_o: what was observed, as stored; None where it was not kept.
        truth: label -> true value, where it is known.
    """

    posterior: Posterior
    x_o: NDArray[np.float32] | None = None
    truth: Mapping[str, float] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "posterior":
            raise AttributeError(name)
        return getattr(self.posterior, name)

    def sample(
        self,
        num_samples: int,
        x: ArrayLike | None = None,
        generator: Generator | None = None,
        *,
        seed: int = 0,
    ) -> NDArray[np.float64]:
        """Draw theta (num_samples, d) given x_o, or another `x` (*x_shape) as stored.

        Raises:
            DataError: no x_o was kept, or `x` has the wrong shape or holds NaN.
            SamplingError: draws of the posterior are no numbers.
        """
        given = self._given(x)
        return self.posterior.sample(num_samples, given, _generator(generator, seed))

    def log_prob(
        self,
        theta: ArrayLike,
        x: ArrayLike | None = None,
        *,
        generator: Generator | None = None,
    ) -> NDArray[np.float64]:
        """Return the log densities (s,) of theta (s, d) given x_o, or another `x`; -inf outside.

        Raises:
            DataError: no x_o was kept, or an array has the wrong shape or holds NaN.
        """
        return self.posterior.log_prob(theta, self._given(x), generator=generator)

    def map(
        self, x: ArrayLike | None = None, generator: Generator | None = None, *, seed: int = 0
    ) -> NDArray[np.float64]:
        """Return the theta (d,) of the highest density given x_o, or another `x`.

        Raises:
            DataError, SamplingError: as `sample`.
        """
        return self.posterior.map(self._given(x), _generator(generator, seed))

    def pairplot(
        self,
        num_samples: int = 10_000,
        x: ArrayLike | None = None,
        *,
        truth: ArrayLike | None = None,
        seed: int = 0,
    ) -> "Figure":
        """Draw marginals and pairs of the posterior, over the extent of its draws.

        The `truth` (d,) is marked; where x is x_o, it is by default the known one.

        Raises:
            DataError, SamplingError: as `sample`.
        """
        from mlpop.plots.corner import corner

        prior = self.posterior.prior
        if truth is None and x is None and self.truth is not None:
            truth = [self.truth[label] for label in prior.labels]
        draws = self.sample(num_samples, x, seed=seed)
        return corner(draws, prior.labels, truth)

    def _given(self, x: ArrayLike | None) -> ArrayLike:
        if x is not None:
            return x
        if self.x_o is None:
            raise DataError("this posterior was stored without its x_o: give x, one observation")
        return self.x_o


def _generator(generator: Generator | None, seed: int) -> Generator:
    return generator_from_seed(seed) if generator is None else generator
