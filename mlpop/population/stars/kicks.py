"""Natal kicks: speeds from one of four distributions, directions isotropic."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv, ndtri

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.population.constants import TWO_PI

Array = NDArray[np.float64]


def sample_kick(
    n: int,
    config: DynamicsConfig,
    *,
    rng_speed: np.random.Generator,
    rng_direction: np.random.Generator,
) -> Array:
    """Draw kick velocities: (n, 3) components v_r, v_phi, v_z in the local triad [km/s].

    The Maxwell model draws all three components with `rng_speed`; directions otherwise take two
    uniform draws a star.
    """
    if config.kick_model == "km_maxwell":
        return config.sigma_k * rng_speed.standard_normal((n, 3))
    return _sample_speed(n, config, rng_speed)[:, None] * _isotropic(n, rng_direction)


def _sample_speed(n: int, config: DynamicsConfig, rng: np.random.Generator) -> Array:
    u = rng.random((n, 2))
    # A uniform draw of exactly zero would be a speed of zero or of minus infinity in the log.
    first = np.maximum(u[:, 0], np.finfo(np.float64).tiny)
    if config.kick_model == "km_exp":
        bound = gammainc(2.0, config.vk_extent / config.vk_c)
        return config.vk_c * gammaincinv(2.0, first * bound)
    if config.kick_model == "km_double_maxwell":
        sigma = np.array([config.sigma_k_comp1, config.sigma_k_comp2])
        bounds = gammainc(1.5, 0.5 * (config.vk_extent / sigma) ** 2)
        mass = np.array([config.kick_weight_comp1, 1.0 - config.kick_weight_comp1]) * bounds
        component = np.where(u[:, 1] < mass[0] / mass.sum(), 0, 1)
        return sigma[component] * np.sqrt(2.0 * gammaincinv(1.5, first * bounds[component]))
    return np.asarray(np.exp(config.vk_ln_mean + config.vk_ln_sigma * ndtri(first)))


def _isotropic(n: int, rng: np.random.Generator) -> Array:
    u = rng.random((n, 2))
    angle = TWO_PI * u[:, 0]
    cosine = 2.0 * u[:, 1] - 1.0
    sine = np.sqrt(1.0 - cosine**2)
    return np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)
