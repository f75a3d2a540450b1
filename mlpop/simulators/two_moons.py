"""Two moons: two parameters whose posterior is two crescents, drawn from exactly."""

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import SimulationFailed
from mlpop.simulators.base import Simulation, theta_by_label

_RADIUS = 0.1
_RADIUS_SPREAD = 0.01
_OFFSET = 0.25
_MAX_DRAWS = 1000


class TwoMoons:
    """x is a point of a crescent, moved by (-|t1 + t2|, t2 - t1) / sqrt(2).

    The crescent is (r cos a + 0.25, r sin a) with a uniform in [-pi/2, pi/2] and r normal with
    mean 0.1 and standard deviation 0.01. The absolute value gives the posterior two modes. The
    usual prior is uniform on [-1, 1] in both parameters.

    References:
        Greenberg et al. 2019, https://arxiv.org/abs/1905.07488
        Lueckmann et al. 2021, https://arxiv.org/abs/2101.04653
    """

    labels = ("theta_1", "theta_2")
    channels = ("x_1", "x_2")

    def __call__(self, theta: ArrayLike, seed: SeedSequence) -> Simulation:
        """Simulate x (2,) for `theta` (2,).

        Raises:
            SimulationFailed: theta has the wrong shape or is not finite.
        """
        first, second = theta_by_label(theta, self.labels).values()
        point = _crescent(1, np.random.default_rng(seed))[0]
        shift = np.array([-abs(first + second), second - first]) / sqrt(2)
        return Simulation(x=(point + shift).astype(np.float32))

    def sample_posterior(
        self,
        num_samples: int,
        x: ArrayLike,
        low: Sequence[float],
        high: Sequence[float],
        rng: Generator,
    ) -> NDArray[np.float64]:
        """Draw theta (num_samples, 2) from the exact posterior given x (2,).

        Given the crescent's point, theta is one of two rotations of x minus that point, each of
        unit Jacobian; draws outside the prior's box [low, high) are rejected.

        Raises:
            SimulationFailed: no theta of the box could have made this x.
        """
        observed = np.asarray(x, dtype=np.float64)
        draws: list[NDArray[np.float64]] = []
        for _ in range(_MAX_DRAWS):
            shift = (observed - _crescent(max(num_samples, 1000), rng)) * sqrt(2)
            total = np.where(rng.random(len(shift)) < 0.5, 1.0, -1.0) * shift[:, 0]
            theta = np.stack([total - shift[:, 1], total + shift[:, 1]], axis=1) / 2
            inside = ((theta >= np.asarray(low)) & (theta < np.asarray(high))).all(1)
            draws.append(theta[(shift[:, 0] <= 0) & inside])
            if sum(map(len, draws)) >= num_samples:
                return np.concatenate(draws)[:num_samples]
        raise SimulationFailed(f"x = {observed} cannot come from any theta in {low} to {high}")


def _crescent(count: int, rng: Generator) -> NDArray[np.float64]:
    angle = rng.uniform(-pi / 2, pi / 2, count)
    radius = rng.normal(_RADIUS, _RADIUS_SPREAD, count)
    return np.stack([radius * np.cos(angle) + _OFFSET, radius * np.sin(angle)], axis=1)
