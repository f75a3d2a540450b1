"""Age, Galactocentric radius and height of newborn neutron stars."""

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.population.constants import TWO_PI

Array = NDArray[np.float64]

RADIUS_MIN_KPC = 1e-4
HEIGHT_MIN_KPC = 1e-4


def sample_age(n: int, *, t_age_min: float, t_age_max: float, rng: np.random.Generator) -> Array:
    """Draw `n` ages [yr] for a constant birth rate; one uniform draw a star."""
    return t_age_min + (t_age_max - t_age_min) * rng.random(n)


def surface_density(r: ArrayLike, model: str) -> Array:
    """Surface density (n,) of births [kpc^-2]; that of rmVV21 is relative to its value at 8 kpc.

    Args:
        r: (n,) Galactocentric radius [kpc], not negative.
        model: "rmYK04" or "rmVV21".

    Raises:
        ValueError: a radius is negative, or the model is unknown.

    References:
        Yusifov & Kucuk 2004, A&A 422, 545, eq. 15.
        Verberne & Vink 2021, MNRAS 504, 1536, eq. 9.
    """
    radius = np.asarray(r, dtype=np.float64)
    if np.any(radius < 0.0):
        raise ValueError(f"r must not be negative, but got {radius.min():g} kpc")
    if model == "rmYK04":
        r1, sun = 0.55, 8.5  # the paper's own solar radius, whatever R_sun is
        ratio = (radius + r1) / (sun + r1)
        return 37.6 * ratio**1.64 * np.exp(-4.01 * (radius - sun) / (sun + r1))
    if model == "rmVV21":
        return np.asarray(np.exp(-2.46 * (radius - 8.0) / 8.0))
    raise ValueError(f"radial_model must be 'rmYK04' or 'rmVV21', but got '{model}'")


@functools.lru_cache(maxsize=16)
def radial_cdf(model: str, r_extent: float, resolution: int) -> tuple[Array, Array]:
    """Tabulate the cumulative distribution of the birth radius on a logarithmic grid.

    Returns:
        (resolution,) radius up to `r_extent` [kpc] and (resolution,) probability below it, both
        read-only.
    """
    r = np.geomspace(RADIUS_MIN_KPC, r_extent, resolution)
    pdf = TWO_PI * r * surface_density(r, model)
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * (pdf[1:] + pdf[:-1]) * np.diff(r))])
    cdf /= cdf[-1]
    r.setflags(write=False)
    cdf.setflags(write=False)
    return r, cdf


def sample_radius(
    n: int,
    *,
    model: str,
    r_extent: float,
    resolution: int,
    rng: np.random.Generator,
    r_low: ArrayLike,
    r_high: ArrayLike,
) -> Array:
    """Draw birth radii by the inverse cumulative distribution; one uniform draw a star.

    Args:
        n: number of stars.
        model: see `surface_density`.
        r_extent: largest radius [kpc].
        resolution: number of grid points.
        rng: of the draws.
        r_low, r_high: scalar or (n,) limits of each star's radius [kpc].

    Returns:
        (n,) radius [kpc].
    """
    r, cdf = radial_cdf(model, r_extent, resolution)
    low, high = (np.interp(np.asarray(x, dtype=np.float64), r, cdf) for x in (r_low, r_high))
    return np.interp(low + (high - low) * rng.random(n), cdf, r)


def sample_height(n: int, *, h_c: float, z_extent: float, rng: np.random.Generator) -> Array:
    """Draw heights (n,) [kpc]: |z| exponential with the scale `h_c` [kpc], either side alike.

    It is truncated to [1e-4 kpc, z_extent]; a star takes two uniform draws.

    References:
        Wainscoat et al. 1992, ApJS 83, 111. Gullon et al. 2014, MNRAS 443, 1891, eq. 2.
    """
    u = rng.random((n, 2))
    inside = -np.expm1(-(z_extent - HEIGHT_MIN_KPC) / h_c)
    height = HEIGHT_MIN_KPC - h_c * np.log1p(-u[:, 0] * inside)
    height = np.minimum(height, z_extent)
    return np.where(u[:, 1] < 0.5, -height, height)
