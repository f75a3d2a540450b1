"""Seconds for a stellar database, and how much faster than a loop of `odeint` over its orbits.

    python benchmarks/dynamics.py [stars] [largest age in yr]

The plain way is that of the reference implementation: one call of LSODA a star in cylindrical
coordinates, output every 1e4 yr. It is timed on a few stars of the same population, in one run
with the rest, and compared with them in accuracy against a tight DOP853 solution.
"""

import math
import sys
import time

import numpy as np
from scipy.integrate import odeint, solve_ivp

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.population.constants import KMS_KPC_YR
from mlpop.population.galaxy.gravitational_potential import force_factors
from mlpop.population.galaxy.orbits import Orbits, integrate
from mlpop.population.stars.build import BirthStreams, StarsAtBirth
from mlpop.population.stars.database import StellarDatabase

SAMPLE = 60
OUTPUT_STEP = 1e4  # yr
SCALE = 1e6  # yr, so that the tight solver works on numbers near one


def main() -> None:
    """Run the benchmark and write its table."""
    stars = int(float(sys.argv[1])) if len(sys.argv) > 1 else 100_000
    t_age_max = float(sys.argv[2]) if len(sys.argv) > 2 else 3e7
    config = DynamicsConfig(NS_number=stars, t_age_max=t_age_max)
    StellarDatabase.generate(DynamicsConfig(NS_number=10))  # compile
    births = BirthStreams(config).draw(stars)

    rows = {}
    for name, step in (("default", None), ("leapfrog 1e4 yr", 1e4), ("leapfrog 5e4 yr", 5e4)):
        few = stars if step is None else min(stars, 20_000)
        start = time.perf_counter()
        orbits = follow(births, few, step)
        rows[name] = ((time.perf_counter() - start) / few, orbits)
    truth = np.array([tight(births, i) for i in range(SAMPLE)])

    start = time.perf_counter()
    plain = np.array([reference(births, i) for i in range(SAMPLE)])
    plain_seconds = (time.perf_counter() - start) / SAMPLE
    write(f"{stars} stars, ages to {t_age_max:g} yr")
    write(f"{'orbits':18}{'s a star':>12}{'ratio':>9}{'dE/E p99':>12}{'error kpc':>12}")
    error = miss(plain, truth)
    write(f"{'odeint loop':18}{plain_seconds:12.2e}{1.0:9.1f}{'':>12}{error:12.1e}")
    for name, (seconds, orbits) in rows.items():
        x, y = orbits.r * np.cos(orbits.phi), orbits.r * np.sin(orbits.phi)
        error = miss(np.stack([x, y, orbits.z], axis=1)[:SAMPLE], truth)
        energy = np.quantile(orbits.energy_error, 0.99)
        ratio = plain_seconds / seconds
        write(f"{name:18}{seconds:12.2e}{ratio:9.1f}{energy:12.1e}{error:12.1e}")

    start = time.perf_counter()
    StellarDatabase.generate(config)
    write(f"whole database: {time.perf_counter() - start:.1f} s")


def follow(births: StarsAtBirth, n: int, step: float | None) -> Orbits:
    """Integrate the first `n` stars."""
    few = {name: column[:n] for name, column in births._asdict().items()}
    return integrate(**few, model="gmM19", time_step=step)


def reference(births: StarsAtBirth, i: int) -> tuple[float, float, float]:
    """End of one orbit [kpc] as the reference implementation computes it."""

    def derivative(state: np.ndarray, _: float) -> list[float]:
        r, _phi, z, v_r, omega, v_z = state
        by_r, by_z = force_factors(r * r, z, 0)
        return [v_r, omega, v_z, r * omega**2 - by_r * r, -2.0 * v_r * omega / r, -by_z * z]

    r, age = births.r[i], births.age[i]
    v_r, v_phi, v_z = (v[i] * KMS_KPC_YR for v in (births.v_r, births.v_phi, births.v_z))
    times = np.append(np.arange(0.0, age, OUTPUT_STEP), age)
    start = [r, births.phi[i], births.z[i], v_r, v_phi / r, v_z]
    r, phi, z = odeint(derivative, start, times)[-1, :3]
    return r * math.cos(phi), r * math.sin(phi), z


def tight(births: StarsAtBirth, i: int) -> tuple[float, float, float]:
    """End of one orbit [kpc] to twelve digits."""

    def derivative(_: float, state: np.ndarray) -> np.ndarray:
        by_r, by_z = force_factors(state[0] ** 2 + state[1] ** 2, state[2], 0)
        pull = -(SCALE**2) * np.array([by_r, by_r, by_z])
        return np.concatenate([state[3:], pull * state[:3]])

    cos, sin = math.cos(births.phi[i]), math.sin(births.phi[i])
    v_r, v_phi, v_z = (v[i] * KMS_KPC_YR * SCALE for v in (births.v_r, births.v_phi, births.v_z))
    start = [
        *(births.r[i] * cos, births.r[i] * sin, births.z[i]),
        *(v_r * cos - v_phi * sin, v_r * sin + v_phi * cos, v_z),
    ]
    solved = solve_ivp(
        derivative, (0.0, births.age[i] / SCALE), start, method="DOP853", rtol=1e-12, atol=1e-13
    )
    x, y, z = solved.y[:3, -1]
    return x, y, z


def miss(places: np.ndarray, truth: np.ndarray) -> float:
    """Largest distance [kpc] between end points."""
    return float(np.linalg.norm(places - truth, axis=1).max())


def write(line: str) -> None:
    """Write one line of the table."""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
