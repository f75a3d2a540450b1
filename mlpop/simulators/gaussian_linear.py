"""Gaussian noise on theta itself: the simulator whose posterior is known in closed form."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mlpop.errors import ConfigError
from mlpop.simulators.base import Simulation, theta_by_label


class GaussianLinear:
    """x = theta + noise, with independent Gaussian noise on every component.

    Under a uniform prior on a box the posterior is a product of truncated Gaussians, centred on
    x. With its default ten dimensions and variance 0.1 on [-1, 1] it is the task
    `gaussian_linear_uniform` of sbibm.

    Args:
        dimension: number of parameters and of data.
        noise: standard deviation of the noise.

    Raises:
        ConfigError: an argument is not positive.

    References:
        Lueckmann et al. 2021, https://arxiv.org/abs/2101.04653
    """

    def __init__(self, dimension: int = 10, noise: float = sqrt(0.1)) -> None:
        if dimension < 1:
            raise ConfigError(f"simulator.args.dimension must be at least 1, but got {dimension}")
        if not noise > 0:
            raise ConfigError(f"simulator.args.noise must be above 0, but got {noise}")
        self.dimension = dimension
        self.noise = noise
        self.labels = tuple(f"theta_{i + 1}" for i in range(dimension))
        self.channels = tuple(f"x_{i + 1}" for i in range(dimension))

    def __call__(self, theta: ArrayLike, seed: SeedSequence) -> Simulation:
        """Simulate x (dimension,) for `theta` (dimension,).

        Raises:
            SimulationFailed: theta has the wrong shape or is not finite.
        """
        values = np.array(list(theta_by_label(theta, self.labels).values()))
        noise = np.random.default_rng(seed).standard_normal(self.dimension)
        return Simulation(x=(values + self.noise * noise).astype(np.float32))

    def posterior(
        self, x: ArrayLike, low: Sequence[float], high: Sequence[float]
    ) -> stats.distributions.rv_frozen:
        """Return the exact posterior given x (dimension,), as a distribution of scipy.

        It is that of every component for itself: they are independent. The prior is uniform from
        `low` to `high`.
        """
        centre = np.asarray(x, dtype=np.float64)
        return stats.truncnorm(
            (np.asarray(low) - centre) / self.noise,
            (np.asarray(high) - centre) / self.noise,
            loc=centre,
            scale=self.noise,
        )

    def sample_posterior(
        self,
        num_samples: int,
        x: ArrayLike,
        low: Sequence[float],
        high: Sequence[float],
        rng: Generator,
    ) -> NDArray[np.float64]:
        """Draw theta (num_samples, dimension) from the exact posterior given x (dimension,)."""
        exact = self.posterior(x, low, high)
        return exact.rvs(size=(num_samples, self.dimension), random_state=rng)
