"""Spin periods and dipole fields at birth."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, log_ndtr, ndtri_exp

from mlpop.config.blocks.population import PopulationConfig, given
from mlpop.population.constants import LN10

N_GRID = 20_001
Vector = NDArray[np.float64]


class Births(NamedTuple):
    """Random properties of stars at birth, all (n,).

    Attributes:
        ln_b0: ln of the dipole field at the pole [G].
        ln_floor: ln of the residual field [G].
        ln_p0: ln of the spin period [s].
        cos_chi0: cosine of the inclination.
        cos_zeta: cosine of the angle between line of sight and spin axis.
    """

    ln_b0: Vector
    ln_floor: Vector
    ln_p0: Vector
    cos_chi0: Vector
    cos_zeta: Vector


def draw_log_normal(mean: float, sigma: float, n: int, rng: np.random.Generator) -> Vector:
    """Draw natural logarithms (n,) of numbers whose log10 is normal with `mean` and `sigma`."""
    ln_values = rng.standard_normal(n)
    ln_values *= LN10 * sigma
    ln_values += LN10 * mean
    return ln_values


def draw_ln_field(config: PopulationConfig, n: int, rng: np.random.Generator) -> Vector:
    """Draw ln of the dipole field at the pole at birth [G] (n,), with n normal or uniform numbers.

    References:
        Graber et al. 2024, ApJ 968, 16; Pardo-Araujo et al. 2025, A&A 696, A114.
    """
    if config.magnetic_field_model == "log-normal":
        mean, sigma = given(config.B_initial_log10_mean), given(config.B_initial_log10_sigma)
        return draw_log_normal(mean, sigma, n, rng)
    grid, cdf = field_cdf(config)
    return LN10 * np.interp(rng.random(n), cdf, grid)


def draw_ln_period(config: PopulationConfig, n: int, rng: np.random.Generator) -> Vector:
    """Draw ln of the spin period at birth [s] (n,), with n normal or uniform numbers.

    Truncated laws are inverted rather than redrawn, so that each star takes one number.

    References:
        Faucher-Giguere & Kaspi 2006, ApJ 643, 332; Igoshev et al. 2022, MNRAS 514, 4606.
    """
    shortest = config.P_initial_min
    if config.spin_period_model == "normal":
        mean, sigma = given(config.P_initial_mean), given(config.P_initial_sigma)
        period = mean + sigma * _normal_above((shortest - mean) / sigma, n, rng)
        # Far in the tail the draw may round to the limit itself, which may be zero.
        return np.log(np.maximum(period, max(shortest, 1e-12 * sigma)))
    mean, sigma = given(config.P_initial_log10_mean), given(config.P_initial_log10_sigma)
    if shortest == 0.0:
        return draw_log_normal(mean, sigma, n, rng)
    limit, ln_mean, ln_sigma = math.log(shortest), LN10 * mean, LN10 * sigma
    ln_period = ln_mean + ln_sigma * _normal_above((limit - ln_mean) / ln_sigma, n, rng)
    return np.maximum(ln_period, limit)


def field_cdf(config: PopulationConfig) -> tuple[Vector, Vector]:
    """Return log10(B0 / G) (m,) and the probability (m,) of a weaker field, truncated models."""
    cdf, names = _FIELD_CDFS[config.magnetic_field_model]
    return cdf(*(given(getattr(config, f"B_initial_log10_{name}")) for name in names))


@lru_cache(maxsize=8)
def _double_cdf(
    low: float, high: float, mean1: float, sigma1: float, mean2: float, sigma2: float, w: float
) -> tuple[Vector, Vector]:
    x = np.linspace(low, high, N_GRID)
    cdf = w * erf((x - mean1) / (math.sqrt(2.0) * sigma1))
    cdf += (1.0 - w) * erf((x - mean2) / (math.sqrt(2.0) * sigma2))
    return _normalised(x, cdf - cdf[0])


@lru_cache(maxsize=8)
def _tophat_cdf(
    low: float,
    high: float,
    rise: float,
    rise_sigma: float,
    decay: float,
    decay_sigma: float,
    slope: float,
) -> tuple[Vector, Vector]:
    x = np.linspace(low, high, N_GRID)
    centre, half = 0.5 * (rise + decay), 0.5 * (decay - rise)
    line = np.where((x >= rise) & (x <= decay), 1.0 + slope * (x - centre), 0.0)
    left = (1.0 - slope * half) * np.exp(-0.5 * ((x - rise) / rise_sigma) ** 2)
    right = (1.0 + slope * half) * np.exp(-0.5 * ((x - decay) / decay_sigma) ** 2)
    pdf = np.maximum(line, np.maximum(left, right))
    steps = 0.5 * (pdf[1:] + pdf[:-1])
    return _normalised(x, np.concatenate([[0.0], np.cumsum(steps)]))


_FIELD_CDFS = {
    "double_log-normal": (
        _double_cdf,
        ("min", "max", "mean_comp1", "sigma_comp1", "mean_comp2", "sigma_comp2", "weight_comp1"),
    ),
    "smooth_tophat": (
        _tophat_cdf,
        ("min", "max", "rise_mean", "rise_sigma", "decay_mean", "decay_sigma", "slope"),
    ),
}
"""Distribution and its parameters, in their order, of each truncated field model."""


def _normalised(x: Vector, cdf: Vector) -> tuple[Vector, Vector]:
    if cdf[-1] > 0.0:
        return x, cdf / cdf[-1]
    # All probability lies beyond the grid, on this side of the double's range: no shape is left.
    return x, np.linspace(0.0, 1.0, x.size)


def _normal_above(limit: float, n: int, rng: np.random.Generator) -> Vector:
    """Draw standard normal numbers above `limit`, however far in the tail it lies."""
    ln_uniform = np.log(1.0 - rng.random(n))
    return -ndtri_exp(ln_uniform + log_ndtr(-limit))
