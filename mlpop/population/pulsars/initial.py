"""Spin periods and dipole fields at birth."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import erf, log_ndtr, ndtr, ndtri_exp

from mlpop.config.blocks.population import PopulationConfig, given
from mlpop.population.constants import LN10
from mlpop.population.single_precision import Single, f32, i32

N_GRID = 20_001
N_QUANTILES = 1 << 16
"""Between two of them lie at most 7e-5 of the stars, spread evenly in ln x."""
SPAN = f32(6.0)
"""Normal deviates lie within +-SPAN."""
_PER_DEVIATE = f32(N_QUANTILES / 12.0)
_DEVIATES = np.linspace(-6.0, 6.0, N_QUANTILES + 1)
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


class BirthLaw(NamedTuple):
    """A distribution at birth: ln x as an increasing function of a standard normal deviate.

    A law of any shape is one, by its quantiles; so every star takes one normal deviate.

    Attributes:
        mean: of ln x, where it is normal.
        sigma: of ln x, where it is normal.
        quantiles: (N_QUANTILES + 1,) ln x at deviates from -SPAN to SPAN; empty where ln x is
            normal.
    """

    mean: np.float32
    sigma: np.float32
    quantiles: Single


class BirthLaws(NamedTuple):
    """Distributions at birth.

    Attributes:
        field: of the dipole field at the pole [G].
        floor: of the residual field [G].
        period: of the spin period [s].
    """

    field: BirthLaw
    floor: BirthLaw
    period: BirthLaw


def birth_laws(config: PopulationConfig) -> BirthLaws:
    """Build the distributions at birth that `config` asks for."""
    floor = _log_normal(config.B_millisec_mean, config.B_millisec_sigma)
    return BirthLaws(field_at_birth(config), floor, period_at_birth(config))


@njit(cache=True, error_model="numpy")
def at_birth(law: BirthLaw, deviates: Single) -> None:
    """Turn standard normal deviates (n,) of stars into ln x, in place."""
    if law.quantiles.size == 0:
        for i in range(deviates.size):
            deviates[i] = law.mean + law.sigma * deviates[i]
        return
    for i in range(deviates.size):
        place = (deviates[i] + SPAN) * _PER_DEVIATE
        node = min(max(i32(place), i32(0)), i32(N_QUANTILES - 1))
        lower, upper = law.quantiles[node], law.quantiles[node + 1]
        deviates[i] = lower + (place - f32(node)) * (upper - lower)


def field_at_birth(config: PopulationConfig) -> BirthLaw:
    """Return the law of the dipole field at the pole at birth [G].

    References:
        Graber et al. 2024, ApJ 968, 16; Pardo-Araujo et al. 2025, A&A 696, A114.
    """
    if config.magnetic_field_model == "log-normal":
        return _log_normal(config.B_initial_log10_mean, config.B_initial_log10_sigma)
    if config.magnetic_field_model == "log-uniform":
        low, high = given(config.B_initial_log10_min), given(config.B_initial_log10_max)
        return _by_quantiles(LN10 * (low + (high - low) * ndtr(_DEVIATES)))
    grid, cdf = field_cdf(config)
    return _by_quantiles(LN10 * np.interp(ndtr(_DEVIATES), cdf, grid))


def period_at_birth(config: PopulationConfig) -> BirthLaw:
    """Return the law of the spin period at birth [s]; truncated laws are inverted, not redrawn.

    References:
        Faucher-Giguere & Kaspi 2006, ApJ 643, 332; Igoshev et al. 2022, MNRAS 514, 4606; Du et
        al. 2024, ApJ 968, 105 (Weibull).
    """
    shortest = config.P_initial_min
    if config.spin_period_model == "weibull":
        shape, scale = given(config.P_initial_weibull_shape), given(config.P_initial_weibull_scale)
        # (P / scale)^shape is exponential, and what it exceeds a limit by is so too
        exceeding = -log_ndtr(-_DEVIATES) + (shortest / scale) ** shape
        return _by_quantiles(math.log(scale) + np.log(exceeding) / shape)
    if config.spin_period_model == "normal":
        mean, sigma = given(config.P_initial_mean), given(config.P_initial_sigma)
        period = mean + sigma * _normal_above((shortest - mean) / sigma)
        # Far in the tail the draw may round to the limit itself, which may be zero.
        return _by_quantiles(np.log(np.maximum(period, max(shortest, 1e-12 * sigma))))
    if shortest == 0.0:
        return _log_normal(config.P_initial_log10_mean, config.P_initial_log10_sigma)
    ln_mean = LN10 * given(config.P_initial_log10_mean)
    ln_sigma = LN10 * given(config.P_initial_log10_sigma)
    limit = math.log(shortest)
    ln_period = ln_mean + ln_sigma * _normal_above((limit - ln_mean) / ln_sigma)
    return _by_quantiles(np.maximum(ln_period, limit))


def _log_normal(mean: float | None, sigma: float | None) -> BirthLaw:
    """Return the law of a number whose log10 is normal with `mean` and `sigma`."""
    return BirthLaw(f32(LN10 * given(mean)), f32(LN10 * given(sigma)), np.empty(0, f32))


def _by_quantiles(ln_x: Vector) -> BirthLaw:
    rounded = ln_x.astype(f32)
    # A truncated law keeps its limit.
    rounded = np.where(rounded < ln_x[0], np.nextafter(rounded, f32(np.inf)), rounded)
    return BirthLaw(f32(0.0), f32(0.0), rounded)


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


def _normal_above(limit: float) -> Vector:
    """Return what standard normal deviates become above `limit`, however far in the tail."""
    return np.asarray(-ndtri_exp(log_ndtr(-_DEVIATES) + log_ndtr(-limit)))
