"""Spin-down and alignment: golden numbers, limits, and a Runge-Kutta oracle."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.constants import YEAR_S
from mlpop.population.pulsars.decay_table import decay_table
from mlpop.population.pulsars.evolution import evolution, evolve_births, magnetic_time
from mlpop.population.pulsars.initial import Births
from mlpop.population.pulsars.spindown import beta, force_free, general, moment_of_inertia

DEFAULT = PopulationConfig.parse({})
VACUUM = DEFAULT.with_override({"k_coefficients": [0.0, 2 / 3, 2 / 3]})


def table_of(now, *, tabulated):
    """The nodes of the field's decay, or none, so that every look-up is a quadrature."""
    table = decay_table(now.law, 1e9)
    return table if tabulated else table._replace(usable=0)


def evolve(settings, b0, p0, chi0, age, b_floor=0.0, *, tabulated=False):
    """Evolve stars of these births [G, s, rad, G] to their ages [yr]."""
    b0, p0, chi0, age, b_floor = np.broadcast_arrays(*np.atleast_1d(b0, p0, chi0, age, b_floor))
    births = Births(
        np.log(b0),
        np.log(np.maximum(b_floor, 1e-300)),
        np.log(p0),
        np.cos(chi0),
        np.zeros(len(b0)),
    )
    now = evolution(settings)
    return evolve_births(now, table_of(now, tabulated=tabulated), births, age)


GOLDEN = {
    "G39": ({}, 0.0, 1e13, 0.1, 45, 1e6, 0.490267170, 1.023201128, 7.79739766, 5.836765e-15),
    "G40": ({}, 0.0, 1e13, 0.1, 45, 1e7, 0.772128965, 1.272398506, 6.30409697, 1.456324e-16),
    "G41": (
        {}, 0.0, 10**13.09, 10**-0.67, 60, 1e5, 0.191565263, 0.784305732, 37.01580057, 7.434139e-14
    ),
    "G42": ({}, 0.0, 1e14, 0.05, 30, 1e6, 19.8599594, 6.303352310, 0.30298399, 1.731060e-14),
    "G43": ({}, 0.0, 1e12, 0.02, 80, 1e7, 0.0218192810, 0.277371786, 54.09312622, 7.034358e-17),
    "G44": (
        {"NS_radius": 1.1e6, "a_late": -1.8},
        0.0, 1e13, 0.1, 45, 1e6, 0.223463103, 0.706882540, 11.10684069, 2.377658e-15,
    ),
    "G45": (
        {"magneto-thermal_model": "SLy4_dip-tor_heavy", "a_late": -1.8},
        0.0, 1e13, 0.1, 45, 1e6, 0.286008231, 0.793053059, 9.96164040, 2.693693e-15,
    ),
    "G46": (
        {"magneto-thermal_model": "BSk24_multi_heavy"},
        0.0, 1e13, 0.1, 45, 1e6, 0.380031024, 0.906598748, 8.76427092, 4.265712e-15,
    ),
    "G47": (
        {"a_late": -3.0},
        10**8.5, 1e13, 0.1, 45, 1e8, 0.310376724, 0.824060933, 9.60403940, 1.024912e-22,
    ),
    "G48": (
        {}, 10**8.5, 1e8, 0.1, 45, 1e7, 2.59136830e-9, 0.100000039, 44.99999258, 1.232576e-22
    ),
}  # fmt: skip


@pytest.mark.parametrize("tabulated", [False, True])
@pytest.mark.parametrize("name", GOLDEN)
def test_spins_today_G39_to_G48(name, tabulated):
    override, floor, b0, p0, chi0, age, tau, period, chi, derivative = GOLDEN[name]
    settings = DEFAULT.with_override(override)
    spins = evolve(settings, b0, p0, math.radians(chi0), age, floor, tabulated=tabulated)
    assert spins.P[0] == pytest.approx(period, rel=1e-6)
    assert math.degrees(spins.chi[0]) == pytest.approx(chi, rel=1e-6)
    assert spins.P_dot[0] == pytest.approx(derivative, rel=1e-6)
    ln_floor = math.log(max(floor, 1e-300))
    now = evolution(settings)
    table = table_of(now, tabulated=False)
    found = magnetic_time(now, table, math.log(b0), ln_floor, math.log(age))
    assert found == pytest.approx(tau, rel=1e-6)


def test_analytical_law_G49():
    settings = DEFAULT.with_override({"magneto-thermal_model": "analytical"})
    spins = evolve(settings, 1e13, 0.1, math.radians(45), 1e6)
    assert spins.P[0] == pytest.approx(1.24615434, rel=1e-6)
    assert math.degrees(spins.chi[0]) == pytest.approx(6.43414283, rel=1e-6)


def test_vacuum_torque_G50():
    spins = evolve(VACUUM, 1e13, 0.1, math.radians(45), 1e6)
    assert spins.P[0] == pytest.approx(0.14142136, rel=1e-6)
    assert math.degrees(spins.chi[0]) < 1e-5


def test_start_at_one_year_G51():
    now, ln_b0 = evolution(DEFAULT), math.log(1e13)
    whole, first = (
        magnetic_time(now, table_of(now, tabulated=False), ln_b0, -700.0, math.log(age))
        for age in (1e6, 1.0)
    )
    period, sin2, cos2 = force_free(0.1, 0.5, whole - first)
    assert period == pytest.approx(1.02319855, rel=1e-8)
    assert math.degrees(math.atan2(sin2**0.5, cos2**0.5)) == pytest.approx(7.79741672, rel=1e-7)


def test_torque_strength_and_inertia_G52():
    radii = (1.1e6, 1.17e6, 1.2e6, 1.259e6)
    assert [beta(2.8e33, r) for r in radii] == pytest.approx(
        [4.788399e-40, 6.128625e-40, 6.781794e-40, 8.217175e-40], rel=1e-6
    )
    assert [moment_of_inertia(2.8e33, r) for r in radii] == pytest.approx(
        [1.355200e45, 1.533168e45, 1.612800e45, 1.775291e45], rel=1e-6
    )


def test_limits_of_inclination_G90():
    assert force_free(0.1, 1.0, 1.0)[0] == pytest.approx(1.41774469, rel=1e-8)
    assert force_free(0.1, 0.0, 1.0)[0] == pytest.approx(2.00249844, rel=1e-8)
    nearly = [force_free(0.1, c, 1.0)[0] for c in (1.0 - 1e-9, 1e-9)]
    assert nearly == pytest.approx([1.41774469, 2.00249844], rel=1e-6)


def test_bounds_and_invariant_of_4_7():
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        tau, p0, c = 10 ** rng.uniform(-9, 4), 10 ** rng.uniform(-3, 0.5), rng.random()
        period, sin2, cos2 = force_free(p0, c, tau)
        assert (1 - 1e-12) * (p0**2 + 2 * tau) <= period**2 <= (1 + 1e-12) * (p0**2 + 4 * tau)
        assert sin2 + cos2 == pytest.approx(1.0, abs=1e-12)
        before, after = p0 * math.sqrt(1 - c) / c, period * math.sqrt(sin2) / cos2
        assert after == pytest.approx(before, rel=1e-10)


@pytest.mark.parametrize("c", [0.0, 1e-12, 0.3, 1.0 - 1e-9, 1.0])
@pytest.mark.parametrize("tau", [1e-9, 1e-3, 1.0, 1e4])
def test_general_torque_agrees_with_the_closed_form(c, tau):
    assert general(0.1, c, tau, 1.0, 1.0, 1.0) == pytest.approx(
        force_free(0.1, c, tau), rel=1e-11, abs=1e-14
    )


@pytest.mark.parametrize("tau", [1e-3, 0.5, 1e5])
def test_vacuum_invariant_is_kept(tau):
    # P / cos chi is conserved, and an orthogonal rotator spins down for ever.
    period, _, cos2 = general(0.1, 0.25, tau, 0.0, 2 / 3, 2 / 3)
    assert period / math.sqrt(cos2) == pytest.approx(0.1 / 0.5, rel=1e-12)
    orthogonal = general(0.1, 0.0, tau, 0.0, 2 / 3, 2 / 3)[0]
    assert orthogonal == pytest.approx(math.sqrt(0.01 + 4 / 3 * tau), rel=1e-12)


def _field(settings, b0, t):
    tau1 = settings.A1 * b0**settings.b1
    tau2 = settings.A2 * b0**settings.b2
    late, a1, a2, a3 = settings.tau_late, settings.a1, settings.a2, settings.a_late
    if tau2 < late:
        shape = (1 + t / tau1) ** a1 * (1 + t / tau2) ** (a2 - a1) * (1 + t / late) ** (a3 - a2)
    elif tau1 < late:
        shape = (1 + t / tau1) ** a1 * (1 + t / late) ** (a3 - a1)
    else:
        shape = (1 + t / late) ** a3
    return b0 * shape


def _runge_kutta(settings, b0, p0, chi0, age, floor):
    """Integrate the equations of 4.6, in ln(1 + t), from t = 0; return P and chi."""
    strength = beta(settings.NS_mass, settings.NS_radius) * YEAR_S
    k0, k1, k2 = settings.k_coefficients

    def rates(u, y, constant):
        t = math.expm1(u)
        field = constant if constant else _field(settings, b0, t)
        period, chi = y
        pull = strength * field**2 / period * (1 + t)
        sine, cosine = math.sin(chi), math.cos(chi)
        return pull * (k0 + k1 * sine**2), -k2 * pull / period * sine * cosine

    def integrate(y, start, end, constant):
        solution = solve_ivp(
            rates, (start, end), y, method="DOP853", rtol=1e-11, atol=1e-14, args=(constant,)
        )
        return solution.y[:, -1]

    end, y = math.log1p(age), np.array([p0, chi0])
    if b0 <= floor:
        return integrate(y, 0.0, end, b0)
    if _field(settings, b0, age) >= floor:
        return integrate(y, 0.0, end, 0.0)
    # Where the field meets its floor the equations have a kink, which a solver must not cross.
    kink = brentq(lambda u: _field(settings, b0, math.expm1(u)) / floor - 1, 0, end, xtol=1e-13)
    return integrate(integrate(y, 0.0, kink, 0.0), kink, end, floor)


def _compare_with_runge_kutta(settings, n, seed):
    rng = np.random.default_rng(seed)
    stars = {
        "b0": 10 ** rng.normal(13.1, 0.5, n),
        "p0": 10 ** rng.normal(-0.67, 0.55, n),
        "chi0": np.arccos(rng.random(n)),
        "age": rng.uniform(1, 3e7, n),
        "b_floor": 10 ** rng.normal(8.5, 0.5, n),
    }
    oracle = np.array(
        [_runge_kutta(settings, *values) for values in zip(*stars.values(), strict=True)]
    )
    for tabulated in (False, True):
        spins = evolve(settings, *stars.values(), tabulated=tabulated)
        np.testing.assert_allclose(spins.P, oracle[:, 0], rtol=1e-6)
        np.testing.assert_allclose(spins.chi, oracle[:, 1], atol=1e-6)
    return spins, stars


@pytest.mark.parametrize(
    ("override", "n"),
    [
        ({}, 300),
        ({"a_late": -3.0}, 100),
        ({"k_coefficients": [1.0, 1.4, 0.8]}, 60),
        ({"k_coefficients": [0.0, 2 / 3, 2 / 3]}, 60),
    ],
)
def test_against_runge_kutta(override, n):
    settings = DEFAULT.with_override(override)
    spins, stars = _compare_with_runge_kutta(settings, n, seed=1)
    at_floor = np.isclose(spins.B, stars["b_floor"], rtol=1e-12)
    if override.get("a_late") == -3.0:
        assert at_floor.sum() > 5


@pytest.mark.slow
def test_ten_thousand_stars_against_runge_kutta():
    _compare_with_runge_kutta(DEFAULT, 10_000, seed=2)


def test_extreme_stars_stay_finite():
    b0 = np.array([1e5, 1e18, 1e20, 1e13, 1e13])
    p0 = np.array([10.0, 1e-7, 1e-9, 1e-12, 1e3])
    spins = evolve(DEFAULT, b0, p0, [1e-9, 1.5707963, 1.0, 0.5, 0.0], 3e7, tabulated=True)
    for column in spins:
        assert np.isfinite(column).all()
    assert (spins.P_dot > 0).all()
