"""The spiral arms on which pulsars are born: logarithmic spirals, smeared and rotating."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.population.constants import TWO_PI

Array = NDArray[np.float64]

PATTERN_PERIOD_YR = 2.5e8  # rigid rotation of the arms (Vallee 2017)
SMEAR_PHI_PER_KPC = 0.35  # decay of the azimuthal smearing with r (FK06 section 3.2.1)
SMEAR_R = 0.07  # standard deviation of the radial smearing, relative to r (FK06)


@dataclass(frozen=True)
class SpiralArms:
    """Arms phi(r) = k ln(r / r0) + phi0; the fifth is the Local arm with a finite range of r.

    Args:
        k: (5,) winding [rad].
        r0: (5,) radius where phi = phi0 [kpc].
        phi0: (5,) azimuth at r0 [rad].
        local_range: inner and outer radius of the Local arm [kpc].
        local_probability: share of births on the Local arm; the rest is equal on the other four.
    """

    k: tuple[float, ...]
    r0: tuple[float, ...]
    phi0: tuple[float, ...]
    local_range: tuple[float, float]
    local_probability: float

    def azimuth(self, r: ArrayLike, arm: NDArray[np.int64]) -> Array:
        """Azimuth (n,) [rad] of the ridges of arms 0 to 4 (n,) at `r` (n,) [kpc]; not wrapped."""
        k, r0, phi0 = np.array(self.k), np.array(self.r0), np.array(self.phi0)
        ridge: Array = k[arm] * np.log(np.asarray(r, dtype=np.float64) / r0[arm]) + phi0[arm]
        return ridge

    def draw(self, n: int, arm_number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the arm of each birth: (n,) index, 0 to `arm_number` - 1; one uniform draw a star.

        The arms are equally likely: 4 of them without the Local one, or 5 with its own share.

        Raises:
            ValueError: `arm_number` is neither 4 nor 5.
        """
        if arm_number not in (4, 5):
            raise ValueError(f"arm_number must be 4 or 5, but got {arm_number}")
        local = self.local_probability if arm_number == 5 else 0.0
        edges = np.append(np.arange(1, 4) * (1.0 - local) / 4.0, 1.0 - local)
        index = np.searchsorted(edges, rng.random(n), side="right")
        return np.minimum(index, arm_number - 1).astype(np.int64)


SPIRAL_ARMS: dict[str, SpiralArms] = {
    # Norma, Carina-Sagittarius, Perseus, Crux-Scutum: Yao et al. 2017 Table 1;
    # Local: Hou & Han 2014.
    "saYMW17": SpiralArms(
        k=(4.95, 5.46, 5.77, 5.37, 20.67),
        r0=(3.35, 3.56, 3.71, 3.67, 8.21),
        phi0=(0.77, 3.82, 2.09, 5.76, 0.96),
        local_range=(8.17, 8.60),
        local_probability=0.018,
    ),
    # Faucher-Giguere & Kaspi 2006 Table 2; Local: Wainscoat et al. 1992.
    "saFK06": SpiralArms(
        k=(4.25, 4.25, 4.89, 4.89, 4.57),
        r0=(3.48, 3.48, 4.90, 4.90, 8.10),
        phi0=(1.57, 4.71, 4.09, 0.95, 1.13),
        local_range=(8.10, 9.14),
        local_probability=0.0154,
    ),
}


def smear(
    r: Array, phi: Array, *, rng_phi: np.random.Generator, rng_r: np.random.Generator
) -> tuple[Array, Array]:
    """Scatter births around the ridge of their arm, at `r` [kpc] and `phi` [rad], both (n,).

    phi grows by U(0, 2 pi) exp(-0.35 r), which blends the arms at the centre; r by
    N(0, 0.07 r). Both use the r of the ridge.

    References:
        Faucher-Giguere & Kaspi 2006, ApJ 643, 332, section 3.2.1.
    """
    turn = TWO_PI * rng_phi.random(r.size) * np.exp(-SMEAR_PHI_PER_KPC * r)
    # A Gaussian has no lower end; 14 sigma below zero it would put a star at negative r.
    radius = np.abs(r * (1.0 + SMEAR_R * rng_r.standard_normal(r.size)))
    return radius, phi + turn


def rotate(phi: Array, age: Array) -> Array:
    """Azimuth at birth [rad] of the place that is now at `phi`: the pattern turns clockwise.

    Both are (n,), and so is the age [yr].

    References:
        Vallee 2017, The Astronomical Review 13, 113.
    """
    return phi + (2.0 * math.pi / PATTERN_PERIOD_YR) * age
