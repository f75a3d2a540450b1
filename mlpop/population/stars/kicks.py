"""Natal kicks: speeds from one of four distributions, directions isotropic."""

from typing import assert_never

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc, gammaincinv, ndtr, ndtri

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.population.constants import TWO_PI

Array = NDArray[np.float64]


def speed_cdf(v: ArrayLike, config: DynamicsConfig) -> Array:
    """Probability of a kick below `v`.

    Args:
        v: (n,) speed [km/s], not negative.
        config: kick model and its parameters; the exponential and the double Maxwell model
            are cut at `vk_extent`.

    Returns:
        (n,) probability.

    References:
        Hobbs et al. 2005, MNRAS 360, 974 (Maxwell). Ofek 2009, PASP 121, 814, eq. 5
        (exponential). Igoshev 2020, MNRAS 494, 3663, eq. 5 (double Maxwell).
        Disberg & Mandel 2025, ApJL 989, L8 (log-normal).
    """
    speed = np.asarray(v, dtype=np.float64)
    match config.kick_model:
        case "km_maxwell":
            return _maxwell_cdf(speed, config.sigma_k)
        case "km_exp":
            kept = gammainc(2.0, config.vk_extent / config.vk_c)
            return np.minimum(gammainc(2.0, speed / config.vk_c) / kept, 1.0)
        case "km_double_maxwell":
            w, one, two = config.kick_weight_comp1, config.sigma_k_comp1, config.sigma_k_comp2
            cut = np.append(np.minimum(speed, config.vk_extent).ravel(), config.vk_extent)
            mass = w * _maxwell_cdf(cut, one) + (1.0 - w) * _maxwell_cdf(cut, two)
            return (mass[:-1] / mass[-1]).reshape(speed.shape)
        case "km_log-normal":
            with np.errstate(divide="ignore"):
                score = (np.log(speed) - config.vk_ln_mean) / config.vk_ln_sigma
            probability: Array = ndtr(score)
            return probability
        case other:
            assert_never(other)


def sample_kick(
    n: int,
    config: DynamicsConfig,
    *,
    rng_speed: np.random.Generator,
    rng_direction: np.random.Generator,
) -> Array:
    """Draw kick velocities.

    Args:
        n: number of stars.
        config: kick model and its parameters.
        rng_speed: generator of the speeds; the Maxwell model draws all three components here.
        rng_direction: generator of the directions; two uniform draws a star.

    Returns:
        (n, 3) components (v_r, v_phi, v_z) in the local cylindrical triad [km/s].
    """
    if config.kick_model == "km_maxwell":
        return config.sigma_k * rng_speed.standard_normal((n, 3))
    return _sample_speed(n, config, rng_speed)[:, None] * _isotropic(n, rng_direction)


def _sample_speed(n: int, config: DynamicsConfig, rng: np.random.Generator) -> Array:
    u = rng.random((n, 2))
    # A uniform draw of exactly zero would be a speed of zero or of minus infinity in the log.
    first = np.maximum(u[:, 0], np.finfo(np.float64).tiny)
    speed: Array
    if config.kick_model == "km_exp":
        kept = gammainc(2.0, config.vk_extent / config.vk_c)
        speed = config.vk_c * gammaincinv(2.0, first * kept)
    elif config.kick_model == "km_double_maxwell":
        sigma = np.array([config.sigma_k_comp1, config.sigma_k_comp2])
        kept = gammainc(1.5, 0.5 * (config.vk_extent / sigma) ** 2)
        mass = np.array([config.kick_weight_comp1, 1.0 - config.kick_weight_comp1]) * kept
        component = np.where(u[:, 1] < mass[0] / mass.sum(), 0, 1)
        speed = sigma[component] * np.sqrt(2.0 * gammaincinv(1.5, first * kept[component]))
    else:
        speed = np.exp(config.vk_ln_mean + config.vk_ln_sigma * ndtri(first))
    return speed


def _isotropic(n: int, rng: np.random.Generator) -> Array:
    u = rng.random((n, 2))
    angle = TWO_PI * u[:, 0]
    cosine = 2.0 * u[:, 1] - 1.0
    sine = np.sqrt(1.0 - cosine**2)
    return np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)


def _maxwell_cdf(v: Array, sigma: float) -> Array:
    probability: Array = gammainc(1.5, 0.5 * (v / sigma) ** 2)
    return probability
