"""The decay in single precision: its error is what it says."""

import math

import numpy as np
import pytest

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.pulsars.decay_grid import decay_grid, interpolate
from mlpop.population.pulsars.decay_table import decay_table
from mlpop.population.pulsars.field import ANALYTICAL, field_law, log_decay, square_integral

T_MAX = 1e8
SETTINGS = (
    {},
    {"a_late": -0.1},
    {"a_late": -3.0},
    {"a_late": -30.0},
    {"magneto_thermal_model": "SLy4_dip-tor_heavy"},
    {"magneto_thermal_model": "BSk24_multi_heavy"},
    {"magneto_thermal_model": "analytical"},
    {"magneto_thermal_model": "analytical", "n_e": 1e34},
)


def grid_of(settings):
    law = field_law(PopulationConfig.parse(settings))
    return law, decay_grid(law, decay_table(law, T_MAX), T_MAX)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_error_is_an_upper_bound_and_small(settings):
    law, grid = grid_of(settings)
    rng = np.random.default_rng(3)
    ln_b0 = rng.uniform(math.log(1e7), math.log(1e16), 20_000).astype(np.float32)
    ln_t = rng.uniform(0.0, math.log(T_MAX), 20_000).astype(np.float32)
    integral, field, room = (np.empty_like(ln_b0) for _ in range(3))
    interpolate(grid, grid.integral, ln_b0, ln_t, room, integral)
    interpolate(grid, grid.field, ln_b0, ln_t, room, field)
    stars = list(zip(ln_b0.astype(float), ln_t.astype(float), strict=True))
    exact = [math.log(square_integral(law, b, math.exp(t))) - t for b, t in stars]
    assert np.abs(integral - exact).max() < grid.error[0]
    assert np.abs(field - [log_decay(law, b, math.exp(t)) for b, t in stars]).max() < grid.error[1]
    # The analytical field falls exponentially in the end, and -30 is nearly as steep.
    steep = law.kind == ANALYTICAL or law.a_late < -10.0
    assert max(grid.error) < (0.1 if steep else 0.01)


def test_what_lies_above_the_grid_has_no_bound():
    _, grid = grid_of({})
    ln_b0 = np.array([30.0, float(grid.high) + 0.1, 30.0], np.float32)
    ln_t = np.array([10.0, 10.0, -0.5], np.float32)
    integral, field, room = (np.empty_like(ln_b0) for _ in range(3))
    interpolate(grid, grid.integral, ln_b0, ln_t, room, integral)
    interpolate(grid, grid.field, ln_b0, ln_t, room, field)
    assert list(np.isnan(integral)) == [False, True, True]


def test_laws_without_a_table_have_no_grid():
    law = field_law(PopulationConfig.parse({}))._replace(b2=0.1)
    assert decay_grid(law, decay_table(law, T_MAX), T_MAX) is None
