"""The field's decay, its integral, the table of it, and fields at birth."""

import math

import numpy as np
import pytest
from numba import njit
from scipy.integrate import quad

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.pulsars.decay_table import decay_table, lookup
from mlpop.population.pulsars.field import (
    crossing_time,
    decay_slope,
    field_law,
    log_decay,
    square_integral,
)
from mlpop.population.pulsars.initial import (
    at_birth,
    field_at_birth,
    field_cdf,
    period_at_birth,
)

DEFAULT = PopulationConfig.parse({})


def config(**values):
    return DEFAULT.with_override({k.replace("__", "-"): v for k, v in values.items()})


ANALYTICAL = DEFAULT.with_override({"magneto-thermal_model": "analytical"})
MULTI = DEFAULT.with_override({"magneto-thermal_model": "BSk24_multi_heavy"})


@pytest.mark.parametrize(
    ("settings", "b0", "ages", "expected"),
    [
        (DEFAULT, 1e12, (4, 6, 7, 8), (9.537953e11, 4.555446e11, 1.197416e11, 1.783644e10)),
        (DEFAULT, 1e13, (4, 6, 7, 8), (8.422265e12, 2.671436e12, 4.720377e11, 6.319686e10)),
        (DEFAULT, 1e14, (4, 6, 7, 8), (6.793581e13, 1.152324e13, 1.142210e12, 1.347553e11)),
        (DEFAULT, 1e15, (4, 6, 7, 8), (5.289660e14, 4.273440e13, 2.632366e12, 2.856844e11)),
        (MULTI, 1e13, (4, 6, 7, 8), (8.107516e12, 2.144659e12, 3.251651e11, 4.184307e10)),
        (MULTI, 1e14, (4, 6, 7, 8), (6.292239e13, 7.260238e12, 5.069436e11, 5.505698e10)),
        (
            config(a_late=-1.8),
            1e13,
            (4, 6, 7, 8),
            (8.383708e12, 1.839674e12, 9.079827e10, 1.697192e9),
        ),
        (ANALYTICAL, 1e13, (4, 6, 7), (9.823770e12, 3.322197e12, 1.452524e11)),
        (ANALYTICAL, 1e14, (4, 6, 7), (8.627615e13, 5.312512e12, 1.659480e11)),
    ],
)
def test_field_today_G30_to_G38(settings, b0, ages, expected):
    law = field_law(settings)
    found = [b0 * math.exp(log_decay(law, math.log(b0), 10.0**age)) for age in ages]
    assert found == pytest.approx(expected, rel=1e-6)


def test_time_scales_of_the_analytical_law_G37():
    law = field_law(ANALYTICAL)
    assert law.tau_ohm == pytest.approx(4.433655e6, rel=1e-6)
    assert law.hall / 1e13 == pytest.approx(6.384305e5, rel=1e-6)


def test_branch_limit_G53():
    law = field_law(DEFAULT)
    limit = math.exp((math.log(law.tau_late) - law.ln_A2) / law.b2)
    assert limit == pytest.approx(2.430000e12, rel=1e-6)
    below, above = (log_decay(law, math.log(limit * f), 1e7) for f in (1 - 1e-9, 1 + 1e-9))
    assert below == pytest.approx(above, abs=1e-7)


@pytest.mark.parametrize("settings", [DEFAULT, MULTI, ANALYTICAL, config(a_late=-3.0)])
@pytest.mark.parametrize("b0", [1e8, 3e10, 2.4e12, 1e13, 1e15, 1e17])
@pytest.mark.parametrize("age", [1.0, 1e3, 3e7])
def test_integral_against_adaptive_quadrature(settings, b0, age):
    law, ln_b0 = field_law(settings), math.log(b0)

    def integrand(s):
        t = 1e-3 * math.expm1(s)
        return 1e-3 * math.exp(2.0 * log_decay(law, ln_b0, t) + s)

    top = math.log1p(age / 1e-3)
    panels = np.linspace(0.0, top, 9)
    pieces = zip(panels[:-1], panels[1:], strict=True)
    expected = sum(quad(integrand, a, b, epsabs=0.0, epsrel=1e-12)[0] for a, b in pieces)
    assert square_integral(law, ln_b0, age) == pytest.approx(expected, rel=1e-10)


def test_integral_of_a_pure_power_law_has_its_logarithmic_limit():
    law = field_law(config(a_late=-0.5))
    exact = law.tau_late * math.log1p(3e7 / law.tau_late)
    assert square_integral(law, math.log(1e8), 3e7) == pytest.approx(exact, rel=1e-12)
    near = field_law(config(a_late=-0.5 + 1e-9))
    assert square_integral(near, math.log(1e8), 3e7) == pytest.approx(exact, rel=1e-7)


def test_analytical_integral_without_hall_drift():
    law = field_law(ANALYTICAL)
    b0, age = 1e3, 2e6
    exact = 0.5 * law.tau_ohm * -math.expm1(-2.0 * age / law.tau_ohm)
    assert square_integral(law, math.log(b0), age) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("settings", [DEFAULT, ANALYTICAL, config(a_late=-3.0)])
def test_crossing_time_is_where_the_field_meets_the_floor(settings):
    law, rng = field_law(settings), np.random.default_rng(1)
    crossed = 0
    for _ in range(300):
        ln_b0, ln_floor = math.log(10.0) * rng.normal((13.0, 10.0), (0.8, 0.8))
        if ln_b0 <= ln_floor or ln_b0 + log_decay(law, ln_b0, 1e9) > ln_floor:
            continue
        crossed += 1
        t = crossing_time(law, ln_b0, ln_floor, 1e9)
        assert ln_b0 + log_decay(law, ln_b0, t) == pytest.approx(ln_floor, abs=1e-8)
    assert crossed > 150


@pytest.mark.parametrize("settings", [DEFAULT, MULTI, ANALYTICAL])
def test_slope_is_the_derivative_and_never_positive(settings):
    law, rng = field_law(settings), np.random.default_rng(2)
    for _ in range(200):
        ln_b0, ln_t = math.log(10.0) * rng.uniform((9.0, 0.0), (16.0, 7.4))
        step = 1e-5
        high, low = (log_decay(law, ln_b0, math.exp(ln_t + d)) for d in (step, -step))
        slope = decay_slope(law, ln_b0, math.exp(ln_t))
        assert slope <= 0.0
        assert slope == pytest.approx((high - low) / (2 * step), abs=1e-5, rel=1e-5)


@njit
def _compare(table, law, ln_b0, ln_t):
    error, field_error = np.empty(ln_b0.size), np.empty(ln_b0.size)
    for i in range(ln_b0.size):
        integral, field = lookup(table, law, ln_b0[i], ln_t[i])
        exact = square_integral(law, ln_b0[i], math.exp(ln_t[i]))
        error[i] = math.exp(integral + ln_t[i]) / exact - 1.0
        field_error[i] = field - log_decay(law, ln_b0[i], math.exp(ln_t[i]))
    return error, field_error


@pytest.mark.parametrize("a_late", [-0.5, -0.88, -3.0, -5.0])
@pytest.mark.parametrize("settings", [DEFAULT, MULTI])
def test_table_keeps_the_period_to_1e_6(settings, a_late):
    law = field_law(settings.with_override({"a_late": a_late}))
    table, rng = decay_table(law, 3e7), np.random.default_rng(3)
    # Beyond both ends, where look-ups fall back to quadrature, and across both branch limits.
    ln_b0 = math.log(10.0) * rng.uniform(8.0, 20.0, 20_000)
    ln_t = rng.uniform(math.log(0.5), math.log(3e7), 20_000)
    error, field_error = _compare(table, law, ln_b0, ln_t)
    assert table.usable == 1
    assert np.abs(error).max() < 1e-6
    assert np.abs(field_error).max() < 0.01


def test_table_at_the_branch_limits():
    law = field_law(DEFAULT)
    table = decay_table(law, 3e7)
    edges = np.array([table.low[0], table.low[1]])
    ln_b0 = np.concatenate([edges * (1 - 1e-12), edges, edges * (1 + 1e-12)])
    error, _ = _compare(table, law, ln_b0, np.full(6, math.log(2.9e7)))
    assert np.abs(error).max() < 1e-6


def test_laws_without_a_table_fall_back_to_quadrature():
    law = field_law(DEFAULT)._replace(b2=0.1)
    table = decay_table(law, 3e7)
    assert table.usable == 0
    integral, _ = lookup(table, law, math.log(1e13), math.log(1e6))
    assert math.exp(integral) * 1e6 == pytest.approx(square_integral(law, math.log(1e13), 1e6))


def test_smooth_tophat_G28():
    x, cdf = field_cdf(config(magnetic_field_model="smooth_tophat"))
    assert np.interp([13.0, 14.0], x, cdf) == pytest.approx([0.25338315, 0.67985877], abs=1e-4)


def test_double_log_normal_G29():
    x, cdf = field_cdf(config(magnetic_field_model="double_log-normal"))
    assert np.interp(13.5, x, cdf) == pytest.approx(0.39886116, abs=1e-5)


def drawn_from(law, n, seed):
    """Draw ln x (n,) of a law at birth."""
    ln_x = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    at_birth(law, ln_x)
    return ln_x.astype(np.float64)


@pytest.mark.parametrize("model", ["double_log-normal", "smooth_tophat"])
def test_truncated_fields_follow_their_distribution(model):
    settings = config(magnetic_field_model=model)
    drawn = drawn_from(field_at_birth(settings), 200_000, 5) / math.log(10.0)
    x, cdf = field_cdf(settings)
    for edge in (12.5, 13.5, 14.3, 15.0):
        expected = np.interp(edge, x, cdf)
        assert np.mean(drawn < edge) == pytest.approx(expected, abs=4 * 0.5 / 200_000**0.5)


def test_log_normal_field_and_period():
    field = drawn_from(field_at_birth(DEFAULT), 200_000, 6) / math.log(10.0)
    period = drawn_from(period_at_birth(DEFAULT), 200_000, 7) / math.log(10.0)
    assert [field.mean(), field.std()] == pytest.approx([13.09, 0.5], abs=5e-3)
    assert [period.mean(), period.std()] == pytest.approx([-0.67, 0.55], abs=5e-3)


def test_normal_period_is_the_truncated_law():
    settings = config(spin_period_model="normal", P_initial_mean=0.1, P_initial_sigma=0.2)
    period = np.exp(drawn_from(period_at_birth(settings), 100_000, 7))
    redrawn = 0.1 + 0.2 * np.random.default_rng(8).standard_normal(400_000)
    redrawn = redrawn[redrawn > 0]
    assert period.min() > 0
    assert period.mean() == pytest.approx(redrawn.mean(), abs=2e-3)
    assert period.std() == pytest.approx(redrawn.std(), abs=2e-3)


@pytest.mark.parametrize("mean", [-2.0, -1e3])
def test_normal_period_far_in_the_tail_is_positive_and_finite(mean):
    settings = config(spin_period_model="normal", P_initial_mean=mean, P_initial_sigma=0.2)
    ln_period = drawn_from(period_at_birth(settings), 1000, 9)
    assert np.isfinite(ln_period).all()
    # The tail of a Gaussian is an exponential with scale sigma^2 / |mean|.
    assert np.exp(ln_period).mean() == pytest.approx(0.04 / -mean, rel=0.15)


def test_shortest_period_is_kept():
    settings = config(P_initial_min=0.01, P_initial_log10_mean=-2.0)
    ln_period = drawn_from(period_at_birth(settings), 10_000, 10)
    assert ln_period.min() >= math.log(0.01)
    assert np.median(ln_period) > math.log(0.01)
