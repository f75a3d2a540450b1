"""Gravitational potential of the Galaxy: the models gmM19 and gmFK06, compiled.

Inside the compiled functions lengths are in kpc and times in yr, so potentials are in
kpc^2 yr^-2; the array functions speak km/s.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mlpop.population.constants import GRAVITATION_KPC, KMS_KPC_YR, SOLAR_MASS_G

Array = NDArray[np.float64]

MODEL_CODES = {"gmM19": 0, "gmFK06": 1}
R_GUARD_KPC = 1e-12

_G_SUN = GRAVITATION_KPC * SOLAR_MASS_G  # kpc^3 yr^-2 per solar mass

# gmM19: Marchetti et al. 2019, eqs 7-9 and Table 1 (calibrated on Bovy 2015). Lengths in kpc.
_M19_DISC_GM, _M19_DISC_A, _M19_DISC_B = 6.8e10 * _G_SUN, 3.0, 0.28
_M19_BULGE_GM, _M19_BULGE_R = 5.0e9 * _G_SUN, 1.0
_M19_NUCLEUS_GM, _M19_NUCLEUS_R = 1.71e9 * _G_SUN, 0.07
_M19_HALO_GM, _M19_HALO_R = 5.4e11 * _G_SUN, 15.62

# gmFK06: Faucher-Giguere & Kaspi 2006, eqs 13-15; Kuijken & Gilmore 1989, Table B1; Carlberg &
# Innanen 1987. The text of FK06 swaps bulge and nucleus; these are the right way round.
_FK06_DISC_GM, _FK06_DISC_A, _FK06_DISC_B = 1.45e11 * _G_SUN, 2.4, 5.5
_FK06_BETA_1, _FK06_BETA_2, _FK06_BETA_3 = 0.4, 0.5, 0.1
_FK06_H_1, _FK06_H_2, _FK06_H_3 = 0.325, 0.090, 0.125
_FK06_BULGE_GM, _FK06_BULGE_B = 1.0e10 * _G_SUN, 1.5
_FK06_NUCLEUS_GM, _FK06_NUCLEUS_B = 9.3e9 * _G_SUN, 0.25

_SERIES_BELOW = 1e-3


@njit(cache=True, inline="always")
def _nfw_mass(x: float) -> float:
    """[ln(1+x) - x/(1+x)] / x^3 of an NFW halo, without the cancellation at small x."""
    if x < _SERIES_BELOW:
        return (0.5 - x * (2.0 / 3.0 - x * (0.75 - 0.8 * x))) / x
    return (math.log1p(x) - x / (1.0 + x)) / (x * x * x)


@njit(cache=True)
def force_factors(r2: float, z: float, model: int) -> tuple[float, float]:
    """Gradient of the potential over the coordinate: dPhi/dr / r and dPhi/dz / z [yr^-2].

    In this form the acceleration in Cartesian coordinates has no singularity on the axis. It
    takes the squared radius `r2` [kpc^2], the height `z` [kpc] and the code of the potential.
    """
    z2 = z * z
    big_r = max(math.sqrt(r2 + z2), R_GUARD_KPC)
    if model == 0:
        q = math.sqrt(z2 + _M19_DISC_B**2)
        k = _M19_DISC_A + q
        d2 = r2 + k * k
        disc = _M19_DISC_GM / (d2 * math.sqrt(d2))
        b = _M19_BULGE_R + big_r
        n = _M19_NUCLEUS_R + big_r
        spherical = (_M19_BULGE_GM / (b * b) + _M19_NUCLEUS_GM / (n * n)) / big_r
        spherical += _M19_HALO_GM / _M19_HALO_R**3 * _nfw_mass(big_r / _M19_HALO_R)
        return disc + spherical, disc * k / q + spherical
    q1 = math.sqrt(z2 + _FK06_H_1**2)
    q2 = math.sqrt(z2 + _FK06_H_2**2)
    q3 = math.sqrt(z2 + _FK06_H_3**2)
    k = _FK06_DISC_A + _FK06_BETA_1 * q1 + _FK06_BETA_2 * q2 + _FK06_BETA_3 * q3
    slope = _FK06_BETA_1 / q1 + _FK06_BETA_2 / q2 + _FK06_BETA_3 / q3
    d2 = k * k + _FK06_DISC_B**2 + r2
    disc = _FK06_DISC_GM / (d2 * math.sqrt(d2))
    b2 = _FK06_BULGE_B**2 + big_r * big_r
    n2 = _FK06_NUCLEUS_B**2 + big_r * big_r
    spherical = _FK06_BULGE_GM / (b2 * math.sqrt(b2)) + _FK06_NUCLEUS_GM / (n2 * math.sqrt(n2))
    return disc + spherical, disc * k * slope + spherical


@njit(cache=True)
def potential_energy(r2: float, z: float, model: int) -> float:
    """Potential [kpc^2 yr^-2] at squared radius `r2` [kpc^2] and height `z` [kpc]."""
    z2 = z * z
    big_r = max(math.sqrt(r2 + z2), R_GUARD_KPC)
    if model == 0:
        k = _M19_DISC_A + math.sqrt(z2 + _M19_DISC_B**2)
        return -(
            _M19_DISC_GM / math.sqrt(r2 + k * k)
            + _M19_BULGE_GM / (_M19_BULGE_R + big_r)
            + _M19_NUCLEUS_GM / (_M19_NUCLEUS_R + big_r)
            + _M19_HALO_GM / big_r * math.log1p(big_r / _M19_HALO_R)
        )
    k = _FK06_DISC_A + _FK06_BETA_1 * math.sqrt(z2 + _FK06_H_1**2)
    k += _FK06_BETA_2 * math.sqrt(z2 + _FK06_H_2**2) + _FK06_BETA_3 * math.sqrt(z2 + _FK06_H_3**2)
    return -(
        _FK06_DISC_GM / math.sqrt(k * k + _FK06_DISC_B**2 + r2)
        + _FK06_BULGE_GM / math.sqrt(_FK06_BULGE_B**2 + big_r * big_r)
        + _FK06_NUCLEUS_GM / math.sqrt(_FK06_NUCLEUS_B**2 + big_r * big_r)
    )


def gradient(r: ArrayLike, z: ArrayLike, model: str) -> tuple[Array, Array]:
    """Derivatives of the potential by `r` and `z` (n,) [kpc]: two (n,) [kpc yr^-2]."""
    if model not in MODEL_CODES:
        raise ValueError(f"galactic_model must be one of {sorted(MODEL_CODES)}, but got '{model}'")
    radius, height = np.broadcast_arrays(
        np.asarray(r, dtype=np.float64), np.asarray(z, dtype=np.float64)
    )
    values = np.asarray(_gradient(radius.ravel(), height.ravel(), MODEL_CODES[model]))
    by_r, by_z = values.reshape(2, *radius.shape)
    return by_r, by_z


def circular_velocity(r: ArrayLike, z: ArrayLike, model: str) -> Array:
    """Speed sqrt(r dPhi/dr) [km/s] of a circular orbit at `r` and `z` (n,) [kpc]."""
    radius = np.asarray(r, dtype=np.float64)
    return np.sqrt(radius * gradient(radius, z, model)[0]) / KMS_KPC_YR


@njit(cache=True)
def _gradient(r, z, model):  # type: ignore[no-untyped-def]
    out = np.empty((2, r.size))
    for i in range(r.size):
        factor_r, factor_z = force_factors(r[i] * r[i], z[i], model)
        out[0, i] = factor_r * r[i]
        out[1, i] = factor_z * z[i]
    return out
