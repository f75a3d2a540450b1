"""An in-memory stand-in for the stellar database: an exponential disc of young stars."""

import math
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlpop.population.galaxy.coordinates import to_sky
from mlpop.population.galaxy.sky import t_sky_408
from mlpop.population.surveys.survey import coverage

N_STARS = 60_000
T_AGE_MAX = 3e6


class FakeStars(SimpleNamespace):
    """Columns and the greatest age, see `synthesis.stream.Stars`."""

    def __len__(self):
        return len(self.columns["age"])

    def coverage(self, chosen):
        return coverage(chosen, *(self.columns[name] for name in ("l", "b", "ra", "dec")))

    def derived(self, key: Hashable, derive: Callable[[], Any]) -> Any:
        return derive()


def make_stars(n=N_STARS):
    rng = np.random.default_rng(42)
    radius, phi = rng.gamma(2.0, 2.5, n), rng.uniform(0, 2 * math.pi, n)
    x, y, z = radius * np.cos(phi), radius * np.sin(phi), rng.laplace(0.0, 0.3, n)
    sky = to_sky(x, y, z, *np.zeros((3, n)))
    columns = {
        "age": rng.uniform(1.0, T_AGE_MAX, n),
        **{"r": radius, "phi": phi, "z": z},
        **{name: rng.normal(0, 100, n) for name in ("v_r", "v_phi", "v_z")},
        **{name: getattr(sky, name) for name in ("l", "b", "ra", "dec", "d")},
        **{name: rng.normal(0, 5, n) for name in ("pm_ra", "pm_dec", "v_ls")},
    }
    columns["DM"] = 40.0 * columns["d"] * np.exp(-np.abs(z))
    columns["T_sky408"] = t_sky_408(columns["l"], columns["b"])
    columns = {name: np.asarray(c, dtype=np.float32) for name, c in columns.items()}
    return FakeStars(columns=columns, t_age_max=T_AGE_MAX)
