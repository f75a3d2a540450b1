"""Orbits of stars in the Galactic potential: symplectic, compiled, one thread a block of stars.

Kick-drift-kick steps in Cartesian coordinates, where the axis is no singular place. Two schemes:

* the default, the fourth-order SRKN_6^b of Blanes & Moan with six force evaluations a step. The
  step is constant along an orbit, as a symplectic scheme wants, and is chosen for each star: it
  starts from the local orbital frequency and is halved until the energy stays within
  `ENERGY_TOLERANCE` at every step;
* with a time step given, the plain leapfrog of that step.

Every star is integrated on its own, so the result does not depend on the number of threads.

References:
    Blanes & Moan 2002, J. Comput. Appl. Math. 142, 313, table 3.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mlpop.population.constants import KMS_KPC_YR, TWO_PI
from mlpop.population.galaxy.gravitational_potential import (
    MODEL_CODES,
    force_factors,
    potential_energy,
)

Array = NDArray[np.float64]

ENERGY_TOLERANCE = 1e-8
"""Largest change of energy at any step, relative to kinetic plus absolute potential energy."""
STEP_RADIANS = 0.25
"""First guess of a step, times the highest local orbital frequency at birth [rad]."""
CORE_KPC = 0.05
"""The first guess does not look further in: the force has a cusp, from which stars escape."""
SHORTEST_STEP_YR = 500.0
"""No halving below; only a star that falls right into the central cusp comes here."""

_BLOCK = 4096
_LEAPFROG = (np.array([1.0]), np.array([0.5, 0.5]))


def _blanes_moan() -> tuple[Array, Array]:
    b = [0.0829844064174052, 0.396309801498368, -0.0390563049223486]
    a = [0.245298957184271, 0.604872665711080]
    drifts = [*a, 0.5 - sum(a)]
    return np.array(drifts + drifts[::-1]), np.array([*b, 1.0 - 2.0 * sum(b), *b[::-1]])


_SRKN = _blanes_moan()


class Orbits(NamedTuple):
    """Where stars are today, and how well the integration kept what it should; all (n,).

    Args:
        r, phi, z: cylindrical place [kpc], [rad], [kpc]; phi is followed along the orbit and hence
            not wrapped.
        v_r, v_phi, v_z: velocity [km/s].
        energy_error: |E - E_0| / |E_0|.
        momentum_error: |L_z - L_z0| / |L_z0|.
    """

    r: Array
    phi: Array
    z: Array
    v_r: Array
    v_phi: Array
    v_z: Array
    energy_error: Array
    momentum_error: Array


def integrate(
    r: ArrayLike,
    phi: ArrayLike,
    z: ArrayLike,
    v_r: ArrayLike,
    v_phi: ArrayLike,
    v_z: ArrayLike,
    age: ArrayLike,
    *,
    model: str,
    time_step: float | None = None,
) -> Orbits:
    """Follow stars from birth to today.

    Args:
        r, phi, z: (n,) cylindrical place at birth [kpc], [rad], [kpc].
        v_r, v_phi, v_z: (n,) velocity at birth [km/s]; v_phi < 0 along Galactic rotation.
        age: (n,) time since birth [yr].
        model: potential, "gmM19" or "gmFK06".
        time_step: step of a plain leapfrog [yr]; None for the energy-controlled scheme.

    Raises:
        ValueError: unknown model, arrays of unequal length, or a value that is not finite.
    """
    if model not in MODEL_CODES:
        raise ValueError(f"galactic_model must be one of {sorted(MODEL_CODES)}, but got '{model}'")
    state = np.empty((7, np.size(age)))
    names = ("r", "phi", "z", "v_r", "v_phi", "v_z", "age")
    for row, name, values in zip(state, names, (r, phi, z, v_r, v_phi, v_z, age), strict=True):
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if array.shape != row.shape:
            raise ValueError(f"{name} must have shape {row.shape} like age, but got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of star {int(np.argmin(np.isfinite(array)))} is not finite")
        row[:] = array
    n = state.shape[1]
    out = np.empty((8, n))
    drifts, kicks = _SRKN if time_step is None else _LEAPFROG
    step = 0.0 if time_step is None else time_step

    def block(start: int) -> None:
        part = slice(start, start + _BLOCK)
        _integrate_block(state[:, part], out[:, part], drifts, kicks, step, MODEL_CODES[model])

    # Not numba's own parallel loops: those cannot be entered from two threads at once, nor after
    # a fork. The kernel releases the interpreter lock.
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for _ in pool.map(block, range(0, n, _BLOCK)):
            pass
    return Orbits(*out)


@njit(cache=True, nogil=True)
def _integrate_block(state, out, drifts, kicks, step, model):  # type: ignore[no-untyped-def]
    """Integrate every column of `state`; a positive `step` [yr] fixes the step."""
    for i in range(state.shape[1]):
        r, phi, z, age = state[0, i], state[1, i], state[2, i], state[6, i]
        v_r = state[3, i] * KMS_KPC_YR
        v_phi = state[4, i] * KMS_KPC_YR
        v_z = state[5, i] * KMS_KPC_YR
        cos, sin = math.cos(phi), math.sin(phi)
        x0, y0 = r * cos, r * sin
        vx0, vy0 = v_r * cos - v_phi * sin, v_r * sin + v_phi * cos
        kinetic = 0.5 * (vx0 * vx0 + vy0 * vy0 + v_z * v_z)
        depth = potential_energy(x0 * x0 + y0 * y0, z, model)
        energy0 = kinetic + depth
        if step > 0.0:
            steps = max(1, math.ceil(age / step))
            allowed = np.inf
        else:
            factor_r, factor_z = force_factors(max(x0 * x0 + y0 * y0, CORE_KPC**2), z, model)
            frequency = math.sqrt(max(factor_r, factor_z))
            steps = max(1, math.ceil(age * frequency / STEP_RADIANS))
            allowed = ENERGY_TOLERANCE * (kinetic - depth)
        while True:
            x, y, zz, vx, vy, vz, turned, energy, kept = _advance(
                x0,
                y0,
                z,
                vx0,
                vy0,
                v_z,
                age / steps,
                steps,
                drifts,
                kicks,
                model,
                energy0,
                allowed,
            )
            if kept:
                break
            steps *= 2
            if age / steps < SHORTEST_STEP_YR:
                allowed = np.inf
        radius = math.sqrt(x * x + y * y)
        angle = math.atan2(y, x)
        cos, sin = (x / radius, y / radius) if radius > 0.0 else (1.0, 0.0)
        out[0, i] = radius
        out[1, i] = angle + TWO_PI * round((phi + turned - angle) / TWO_PI)
        out[2, i] = zz
        out[3, i] = (vx * cos + vy * sin) / KMS_KPC_YR
        out[4, i] = (vy * cos - vx * sin) / KMS_KPC_YR
        out[5, i] = vz / KMS_KPC_YR
        out[6, i] = abs(energy - energy0) / max(abs(energy0), 1e-300)
        spin0 = x0 * vy0 - y0 * vx0
        out[7, i] = abs(x * vy - y * vx - spin0) / max(abs(spin0), 1e-300)


@njit(cache=True, nogil=True)
def _advance(x, y, z, vx, vy, vz, h, steps, drifts, kicks, model, energy0, allowed):  # type: ignore[no-untyped-def]
    """Make `steps` symplectic steps of `h` [yr], or fewer if the energy leaves `allowed`.

    Returns the state, the azimuth swept [rad], the energy and whether it was kept.
    """
    r2 = x * x + y * y
    factor_r, factor_z = force_factors(r2, z, model)
    turned = 0.0
    energy = energy0
    for _ in range(steps):
        x_before, y_before = x, y
        vx -= h * kicks[0] * factor_r * x
        vy -= h * kicks[0] * factor_r * y
        vz -= h * kicks[0] * factor_z * z
        for k in range(drifts.size):
            x += h * drifts[k] * vx
            y += h * drifts[k] * vy
            z += h * drifts[k] * vz
            r2 = x * x + y * y
            factor_r, factor_z = force_factors(r2, z, model)
            vx -= h * kicks[k + 1] * factor_r * x
            vy -= h * kicks[k + 1] * factor_r * y
            vz -= h * kicks[k + 1] * factor_z * z
        turned += math.atan2(x_before * y - y_before * x, x_before * x + y_before * y)
        energy = 0.5 * (vx * vx + vy * vy + vz * vz) + potential_energy(r2, z, model)
        if not abs(energy - energy0) <= allowed:
            return x, y, z, vx, vy, vz, turned, energy, False
    return x, y, z, vx, vy, vz, turned, energy, True
