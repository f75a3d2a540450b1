"""How the columns of a stellar database come about: births, orbits, and the sky seen from here."""

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.dynamics import SCHEMA_VERSION, DynamicsConfig
from mlpop.io.files import json_digest
from mlpop.population.galaxy.birthmap import sample_birth_place
from mlpop.population.galaxy.coordinates import to_cartesian, to_sky
from mlpop.population.galaxy.dispersion import dispersion_measures
from mlpop.population.galaxy.gravitational_potential import circular_velocity
from mlpop.population.galaxy.orbits import integrate
from mlpop.population.galaxy.sky import t_sky_408
from mlpop.population.galaxy.spiral import SPIRAL_ARMS, rotate, smear
from mlpop.population.stars.birth import RADIUS_MIN_KPC, sample_age, sample_height, sample_radius
from mlpop.population.stars.kicks import sample_kick

Array = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
Progress = Callable[[int, int], None]
"""Called now and then with the number of stars done and the number of all."""

UNITS: Mapping[str, str] = {
    "age": "yr",
    "r": "kpc",
    "phi": "rad",
    "z": "kpc",
    "v_r": "km/s",
    "v_phi": "km/s",
    "v_z": "km/s",
    "l": "deg",
    "b": "deg",
    "ra": "deg",
    "dec": "deg",
    "d": "kpc",
    "pm_ra": "mas/yr",
    "pm_dec": "mas/yr",
    "v_ls": "km/s",
    "DM": "pc cm^-3",
    "T_sky408": "K",
}
"""Every column of a stellar database with its unit; all float32."""

DYNAMIC_COLUMNS = ("age", "r", "phi", "z", "v_r", "v_phi", "v_z")
"""What the orbits give, and the documented CSV file holds; all else is derived from it."""

CHUNK = 1 << 17


class Stage(IntEnum):
    """Purpose of a random stream. A number is never used again for something else."""

    AGE = 0
    ARM = 1
    RADIUS = 2
    SMEAR_PHI = 3
    SMEAR_R = 4
    PLACE = 5
    HEIGHT = 6
    KICK_SPEED = 7
    KICK_DIRECTION = 8


class StarsAtBirth(NamedTuple):
    """Stars at birth; all (n,): age [yr], r [kpc], phi [rad], z [kpc], velocities [km/s]."""

    age: Array
    r: Array
    phi: Array
    z: Array
    v_r: Array
    v_phi: Array
    v_z: Array


class BirthStreams:
    """The births of one configuration, drawn piece by piece.

    Each stage has a generator of its own that gives a star after the other. So neither the
    sizes of the pieces nor the number of stars changes a star.
    """

    def __init__(self, config: DynamicsConfig) -> None:
        self._config = config
        self._rng = {
            stage: np.random.Generator(
                np.random.Philox(np.random.SeedSequence(config.seed, spawn_key=(int(stage),)))
            )
            for stage in Stage
        }

    def draw(self, n: int) -> StarsAtBirth:
        """Draw the next `n` stars."""
        config, rng = self._config, self._rng
        age = sample_age(
            n, t_age_min=config.t_age_min, t_age_max=config.t_age_max, rng=rng[Stage.AGE]
        )
        if config.sample_edm:
            r, phi = sample_birth_place(n, r_extent=config.r_extent, rng=rng[Stage.PLACE])
        else:
            r, phi = self._on_arms(n)
        z = sample_height(n, h_c=config.h_c, z_extent=config.z_extent, rng=rng[Stage.HEIGHT])
        kick = sample_kick(
            n, config, rng_speed=rng[Stage.KICK_SPEED], rng_direction=rng[Stage.KICK_DIRECTION]
        )
        rotation = circular_velocity(r, z, config.galactic_model)
        v_phi = kick[:, 1] - rotation
        return StarsAtBirth(age, r, rotate(phi, age), z, kick[:, 0], v_phi, kick[:, 2])

    def _on_arms(self, n: int) -> tuple[Array, Array]:
        config, rng = self._config, self._rng
        arms = SPIRAL_ARMS[config.spiral_arms]
        arm = arms.draw(n, config.arm_number, rng[Stage.ARM])
        local = arm == 4
        r = sample_radius(
            n,
            model=config.radial_model,
            r_extent=config.r_extent,
            resolution=config.resolution,
            rng=rng[Stage.RADIUS],
            r_low=np.where(local, arms.local_range[0], RADIUS_MIN_KPC),
            r_high=np.where(local, arms.local_range[1], config.r_extent),
        )
        phi = arms.azimuth(r, arm)
        return smear(r, phi, rng_phi=rng[Stage.SMEAR_PHI], rng_r=rng[Stage.SMEAR_R])


def star_chunks(
    config: DynamicsConfig, header: dict[str, Any], progress: Progress | None = None
) -> Iterator[Columns]:
    """Build all stars of `config`, a piece at a time.

    Args:
        config: what to build.
        header: at the end gets under `orbits` median, 99 % quantile and maximum of |dE/E| and
            |dLz/Lz|: how well the orbits kept energy and angular momentum.
        progress: called after each piece.

    Yields:
        Every column of `UNITS`, for the next stars in order.
    """
    streams = BirthStreams(config)
    pieces: dict[str, list[NDArray[np.float32]]] = {"energy_error": [], "momentum_error": []}
    for start in range(0, config.NS_number, CHUNK):
        births = streams.draw(min(CHUNK, config.NS_number - start))
        orbits = integrate(
            **births._asdict(), model=config.galactic_model, time_step=config.dyn_time_step
        )
        for name, errors in pieces.items():
            errors.append(getattr(orbits, name).astype(np.float32))
        dynamic = {"age": births.age, **{name: getattr(orbits, name) for name in _ORBIT_COLUMNS}}
        yield complete_columns(dynamic, config)
        if progress is not None:
            progress(min(start + CHUNK, config.NS_number), config.NS_number)
    header["orbits"] = {
        name: {
            "median": float(np.median(values)),
            "p99": float(np.quantile(values, 0.99)),
            "max": float(values.max()),
        }
        for name, values in ((name, np.concatenate(errors)) for name, errors in pieces.items())
    }


def complete_columns(dynamic: Mapping[str, Array], config: DynamicsConfig) -> Columns:
    """Derive all columns from the dynamic ones.

    Positions are rounded to float32 first, so that a database written to CSV and read again
    holds the same bits in every column.

    Args:
        dynamic: the columns of `DYNAMIC_COLUMNS`, each (n,).
        config: place of the Sun, models of the electrons and of the sky temperature.

    Returns:
        Every column of `UNITS`, each (n,).
    """
    columns: Columns = {
        name: np.asarray(dynamic[name], dtype=np.float32) for name in DYNAMIC_COLUMNS
    }
    r, phi, z, v_r, v_phi, v_z = (columns[name].astype(np.float64) for name in _ORBIT_COLUMNS)
    x, y, v_x, v_y = to_cartesian(r, phi, v_r, v_phi)
    sky = to_sky(x, y, z, v_x, v_y, v_z, r_sun=config.R_sun, z_sun=config.z_sun)
    for name in ("l", "b", "ra", "dec", "d", "pm_ra", "pm_dec", "v_ls"):
        columns[name] = getattr(sky, name).astype(np.float32)
    # Rounding may reach the end of a half-open range.
    columns["l"][columns["l"] <= -180.0] = 180.0
    columns["ra"][columns["ra"] >= 360.0] = 0.0
    l, b, d = columns["l"], columns["b"], columns["d"]  # noqa: E741
    columns["DM"] = dispersion_measures(l, b, d, config.ed_model).astype(np.float32)
    columns["T_sky408"] = t_sky_408(l, b, config.tsky_model, config.tsky_map).astype(np.float32)
    return columns


def new_header(config: DynamicsConfig, source: str) -> dict[str, Any]:
    """The header fields known before any star is made; `source` says where they come from."""
    return {
        "schema": SCHEMA_VERSION,
        "source": source,
        "n_stars": config.NS_number,
        "t_age_min": config.t_age_min,
        "t_age_max": config.t_age_max,
        "config": config.settings(),
        **config.electrons(),
    }


def content_digest(header: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """SHA-256 [hex] of a database's content, by its header and the SHA-256 of each column."""
    content = {name: header[name] for name in ("schema", "n_stars", "t_age_max")}
    return json_digest({**content, "columns": dict(columns)})


_ORBIT_COLUMNS = DYNAMIC_COLUMNS[1:]
