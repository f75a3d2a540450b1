"""NE2025 as its package gives it: parameters, and the spiral arms tabulated once.

The package evaluates the arms at a point in about a millisecond, too slow for integrals to
millions of stars. At every point of the plane they are a sum over few scale heights; so their
density at as many heights gives each part, on a grid of 200 pc. That takes minutes, and the grid
is kept in the cache. All else is in closed form, from the package's parameters.

References:
    Ocker & Cordes 2026, ApJ 1002, 3 (NE2025); the package mwprop.
"""

import functools
import importlib
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mlpop.config.electrons import ne2025_source
from mlpop.errors import DataError
from mlpop.io.arrays import read_npy
from mlpop.io.cache import cache_folder
from mlpop.io.files import json_digest, write_array
from mlpop.io.locks import locked
from mlpop.population.galaxy.ne2025 import Arms, Disc, Local, Ne2025

logger = logging.getLogger(__name__)

CELL, HALF = 0.2, 19.2
"""Grid on which the package is asked for the arms [kpc]; they end within it."""
FINER = 4
"""Cells of the interpolated grid in one of the package's."""
TABLE_VERSION = 1
"""Part of the cache's key: raise it when the table of the same package would be another."""

Array = NDArray[np.float64]
Density = Callable[[float, float, float], float]
Values = Mapping[str, Any]


@functools.cache
def found_or_tabulated() -> Ne2025:
    """Return the model; its arms are found in the cache, or tabulated there.

    Raises:
        ConfigError: the package is not installed.
        DataError: it is set to another model, or the cache cannot be written.
    """
    source = ne2025_source()
    values, density = _package()
    heights = arm_heights(values["galaxy"])
    key = json_digest({**source, "table": TABLE_VERSION, "cell": CELL, "half": HALF})[:24]
    path = cache_folder() / "ne2025" / f"arms-{key}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), waiting="another process tabulates NE2025"):
        if not path.is_file():
            write_array(path, _tabulated(density, heights))
    return assembled(values, arms_table(read_npy(path), heights))


def _package() -> tuple[dict[str, Any], Density]:
    """Return the parameters of the package and its density of the arms."""
    with warnings.catch_warnings():
        # of its own docstrings, and filters that it sets for everybody
        warnings.simplefilter("ignore")
        config = importlib.import_module("mwprop.nemod.config_nemod")
        arms = importlib.import_module("mwprop.nemod.ne_arms")
    if not config.eval_NE2025:
        raise DataError(
            "ed_model: mwprop is set to NE2001, as its last use left it in "
            "params/which_model.inp: run python -c 'import mwprop.nemod.NE2025' to set it back"
        )
    values = {
        "galaxy": config.Dgal,
        "centre": config.Dgc,
        "local": config.Dlism,
        "clumps": list(config.Dclumps.values()),
        "voids": list(config.Dvoids.values()),
        "r_sun": config.rsun,
    }

    def density(x: float, y: float, z: float) -> float:
        return float(arms.ne_arms_ne2001p(x, y, z, Ncoarse=config.Ncoarse)[0])

    return values, density


def arm_heights(galaxy: Values) -> Array:
    """Return the scale heights that the arms have (k,) [kpc], each once."""
    factors = [galaxy[f"harm{arm}"] for arm in range(1, 6)]
    return np.unique(np.round(galaxy["ha"] * np.array(factors), 9))


def arms_at(x: float, y: float, density: Density, heights: Array) -> Array:
    """Return the density (k,) in the plane of the arms of each scale height [cm^-3]."""
    plane = density(x, y, 0.0)
    if plane == 0.0:
        return np.zeros(heights.size)
    z = heights.max() * np.linspace(0.0, 3.0, heights.size)
    above = [plane, *(density(x, y, height) for height in z[1:])]
    # relative to the first column, else the thin arms would vanish in the rounding
    profile = 1.0 / np.cosh(z[:, None] / heights) ** 2
    return np.linalg.solve(profile, np.array(above))


def _tabulated(density: Density, heights: Array) -> Array:
    started = time.monotonic()
    nodes = np.linspace(-HALF, HALF, round(2 * HALF / CELL) + 1)
    logger.info("tabulating the spiral arms of NE2025, once, which takes minutes")
    table = np.zeros((nodes.size, nodes.size, heights.size))
    for i in tqdm(range(nodes.size), desc="arms of NE2025", disable=None, delay=2.0):
        for j in range(nodes.size):
            if math.hypot(nodes[i], nodes[j]) <= HALF:
                table[i, j] = arms_at(nodes[i], nodes[j], density, heights)
    logger.info("arms of NE2025 tabulated (%.0f s)", time.monotonic() - started)
    return table


def arms_table(coarse: Array, heights: Array) -> Arms:
    """Return the arms on a grid `FINER` times finer than `coarse` (n, n, k), by cubic splines."""
    from scipy.interpolate import RectBivariateSpline

    nodes = np.linspace(-HALF, HALF, coarse.shape[0])
    finer = np.linspace(-HALF, HALF, FINER * (nodes.size - 1) + 1)
    planes = [
        RectBivariateSpline(nodes, nodes, coarse[:, :, k])(finer, finer)
        for k in range(heights.size)
    ]
    plane = np.maximum(np.stack(planes, axis=-1), 0.0).astype(np.float32)
    return Arms(plane, heights, HALF, float(finer[1] - finer[0]))


def assembled(values: Mapping[str, Any], arms: Arms) -> Ne2025:
    """Return the model of the package's parameters and a table of its arms."""
    galaxy, centre, r_sun = values["galaxy"], values["centre"], float(values["r_sun"])
    disc = Disc(
        n1=float(galaxy["wg1"] * galaxy["n1h1"] / galaxy["h1"]),
        h1=float(galaxy["h1"]),
        r1=float(galaxy["A1"]),
        n2=float(galaxy["wg2"] * galaxy["n2"]),
        h2=float(galaxy["h2"]),
        r2=float(galaxy["A2"]),
        n_centre=float(galaxy["wggc"] * centre["negc0"]),
        r_sun=r_sun,
    )
    clumps = [[*_place(c, "dc", r_sun), c["nec"], c["rc"], c["edge"]] for c in values["clumps"]]
    axes = np.diag([1.0 / centre["rgc"], 1.0 / centre["rgc"], 1.0 / centre["hgc"]])
    first = [centre["xgc"], centre["ygc"], centre["zgc"], *axes.ravel(), centre["negc0"], 1.0]
    voids = [_void(void, r_sun) for void in values["voids"]]
    used_clumps = clumps if galaxy["wgcN"] else []
    return Ne2025(
        disc,
        _local(values["local"], r_sun, used=bool(galaxy["wglism"])),
        arms._replace(plane=arms.plane * np.float32(galaxy["wga"])),
        np.array(used_clumps, dtype=np.float64).reshape(-1, 6),
        np.array([first, *(voids if galaxy["wgvN"] else [])], dtype=np.float64),
    )


def _place(part: Values, distance: str, r_sun: float) -> tuple[float, float, float]:
    """Return x, y, z [kpc] of what stands at l, b [deg] and a distance [kpc]."""
    longitude, latitude = math.radians(part["l"]), math.radians(part["b"])
    flat = part[distance] * math.cos(latitude)
    height = part[distance] * math.sin(latitude)
    return flat * math.sin(longitude), r_sun - flat * math.cos(longitude), height


def _void(void: Values, r_sun: float) -> list[float]:
    """Return a row of `Ne2025.ellipsoids`, turned about y and then about z."""
    y, z = math.radians(void["thvy"]), math.radians(void["thvz"])
    turned = np.array(
        [
            [math.cos(y) * math.cos(z), math.sin(z), math.sin(y) * math.cos(z)],
            [-math.cos(y) * math.sin(z), math.cos(z), -math.sin(y) * math.sin(z)],
            [-math.sin(y), 0.0, math.cos(y)],
        ]
    )
    axes = np.array([void["aav"], void["bbv"], void["ccv"]])
    matrix = turned / axes[:, None]
    return [*_place(void, "dv", r_sun), *matrix.ravel(), void["nev"], void["edge"]]


def _ellipsoid(local: Values, name: str) -> Array:
    """Return a row of `Local`, turned about z."""
    a, b, c, x, y, z, angle, density = (
        local[f"{quantity}{name}"] for quantity in ("a", "b", "c", "x", "y", "z", "theta", "ne")
    )
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    squares = (cos / a) ** 2 + (sin / b) ** 2, (sin / a) ** 2 + (cos / b) ** 2, 1.0 / c**2
    return np.array([x, y, z, *squares, 2.0 * cos * sin * (1.0 / a**2 - 1.0 / b**2), density])


def _local(local: Values, r_sun: float, *, used: bool) -> Local:
    hot = [local[f"{quantity}lhb"] for quantity in ("x", "y", "z", "a", "b", "c", "theta", "ne")]
    hot[6] = math.tan(math.radians(hot[6]))
    loop = [local[name] for name in ("xlpI", "ylpI", "zlpI", "rlpI", "drlpI", "nelpI", "dnelpI")]
    sizes = {name: [local[f"{axis}{name}"] for axis in "abc"] for name in ("ldr", "lsb")}
    sizes |= {"lhb": [local["alhb"], local["blhb"] + abs(hot[6]), local["clhb"]]}
    sizes |= {"lpI": [local["rlpI"] + local["drlpI"]] * 3}
    reach = [
        math.dist((local[f"x{n}"], local[f"y{n}"], local[f"z{n}"]), (0.0, r_sun, 0.0)) + max(s)
        for n, s in sizes.items()
    ]
    height = [abs(local[f"z{name}"]) + size[2] for name, size in sizes.items()]
    return Local(
        _ellipsoid(local, "ldr"),
        _ellipsoid(local, "lsb"),
        np.array(hot),
        np.array(loop),
        max(reach) if used else 0.0,
        max(height),
    )
