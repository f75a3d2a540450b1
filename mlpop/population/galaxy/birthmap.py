"""Births that follow the free-electron density of the Galactic plane."""

import functools

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.constants import PC_KPC, TWO_PI
from mlpop.population.galaxy.electrons import electron_density

Array = NDArray[np.float64]

NODES = 501  # nodes in r and in phi, those of the reference's map
SUN_Y_PC = 8300.0  # the Sun of the electron-density model, whatever R_sun is


@functools.lru_cache(maxsize=4)
def birth_density(r_extent: float) -> Array:
    """Density of births in (r, phi): r n_e(r, phi, z = 0), relative to its maximum.

    Returns:
        (501, 501) density at the nodes r = linspace(0, `r_extent`) [kpc], phi = linspace(0, 2 pi);
        read-only.

    References:
        Yao, Manchester & Wang 2017, ApJ 835, 29.
    """
    density = np.asarray(density_at_nodes(r_extent / PC_KPC, NODES))
    density /= density.max()
    density.setflags(write=False)
    return density


def sample_birth_place(
    n: int, *, r_extent: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw `n` places from the bilinear interpolation of `birth_density`, exactly.

    A cell is drawn by its mass, then the place inside it by inverting the two linear
    densities: phi from the marginal, r from the conditional. A star takes three uniform draws.

    Returns:
        (n,) radius up to `r_extent` [kpc] and (n,) azimuth in [0, 2 pi) [rad].
    """
    density = birth_density(r_extent)
    u = rng.random((n, 3))
    cells = NODES - 1
    cell = np.minimum(np.searchsorted(_cell_cdf(r_extent), u[:, 0], side="right"), cells**2 - 1)
    i, j = np.divmod(cell, cells)
    low_r, high_r = density[i, j], density[i + 1, j]  # at the cell's lower phi
    next_low_r, next_high_r = density[i, j + 1], density[i + 1, j + 1]
    s = _invert_linear(low_r + high_r, next_low_r + next_high_r, u[:, 1])
    inner = (1.0 - s) * low_r + s * next_low_r
    outer = (1.0 - s) * high_r + s * next_high_r
    t = _invert_linear(inner, outer, u[:, 2])
    return (i + t) * (r_extent / cells), (j + s) * (TWO_PI / cells)


@functools.lru_cache(maxsize=4)
def _cell_cdf(r_extent: float) -> Array:
    density = birth_density(r_extent)
    mass = density[1:, 1:] + density[1:, :-1] + density[:-1, 1:] + density[:-1, :-1]
    cdf = np.cumsum(mass.ravel())
    cdf /= cdf[-1]
    return cdf


def _invert_linear(first: Array, last: Array, u: Array) -> Array:
    """Inverse of the cumulative distribution on [0, 1] of a density linear from first to last."""
    root = np.sqrt(first**2 + u * (last**2 - first**2))
    total = first + root
    # Both ends zero: no mass, hence never drawn but for rounding; any place will do.
    return np.where(total > 0.0, u * (first + last) / np.where(total > 0.0, total, 1.0), u)


@njit(cache=True)
def density_at_nodes(r_extent_pc: float, nodes: int) -> Array:
    """Return r n_e(r, phi, z = 0) at (nodes, nodes) of r up to `r_extent_pc` [pc] and of phi."""
    density = np.empty((nodes, nodes))
    for i in range(nodes):
        r = r_extent_pc * i / (nodes - 1)
        for j in range(nodes):
            # The last column is the first one again.
            phi = TWO_PI * (j % (nodes - 1)) / (nodes - 1)
            x = r * np.cos(phi)
            y = r * np.sin(phi)
            density[i, j] = r * electron_density(x, y, 0.0, np.arctan2(x, SUN_Y_PC - y))
    return density
