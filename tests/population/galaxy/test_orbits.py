"""Orbits: golden end points, conservation laws, reversibility and order of the schemes."""

import math

import numba
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mlpop.population.constants import KMS_KPC_YR
from mlpop.population.galaxy import orbits
from mlpop.population.galaxy.gravitational_potential import circular_velocity, force_factors
from mlpop.population.galaxy.orbits import integrate

O1 = (8.3, math.pi / 2, 0.02, 100.0, -220.0, 50.0)
O2 = (4.0, 1.0, 0.1, -50.0, -150.0, 200.0)
O3 = (5.0, 2.0, -0.05, 30.0, -20.0, -100.0)
GOLDEN = {
    "G9": (
        O1,
        "gmM19",
        1e7,
        9.27183216,
        1.32882120,
        0.49652994,
        88.879945,
        -196.940580,
        41.746163,
    ),
    "G10": (
        *(O1, "gmM19", 1e8),
        *(9.43815744, -0.13964282, 0.06880061, -88.024073, -193.469966, -45.130822),
    ),
    "G11": (
        *(O2, "gmM19", 3e7),
        *(3.11865989, -1.02915453, 2.03493905, 87.031402, -192.390328, -93.472540),
    ),
    "G12": (
        *(O3, "gmM19", 3e7),
        *(0.96388128, 1.62055685, -0.37493391, -305.913087, -103.747217, 163.242918),
    ),
    "G13": (
        *(O1, "gmFK06", 3e7),
        *(10.96743322, 0.96645305, 1.02969844, 67.805802, -166.492922, 14.969482),
    ),
    "G14": (
        *(O2, "gmFK06", 1e8),
        *(3.18993528, 2.32717743, -1.48740476, 20.841749, -188.091591, 174.055551),
    ),
}


def end(result):
    return np.array([result.r, result.phi, result.z, result.v_r, result.v_phi, result.v_z])


def wrapped(angle):
    return (angle + math.pi) % (2 * math.pi) - math.pi


def population(n, seed=5):
    """Stars with kicks, some born close to the centre, one at the axis."""
    rng = np.random.default_rng(seed)
    r, phi = rng.uniform(0.05, 15.0, n), rng.uniform(0.0, 2 * math.pi, n)
    z = rng.normal(0.0, 0.3, n)
    v = rng.normal(0.0, 265.0, (3, n))
    v[1] -= circular_velocity(r, z, "gmM19")
    r[0] = 0.0
    return r, phi, z, *v, rng.uniform(1.0, 1e8, n)


@pytest.mark.parametrize("step", [None, 1e4])
@pytest.mark.parametrize("golden", sorted(GOLDEN))
def test_end_of_orbit_G9_to_G14(golden, step):
    start, model, age, *expected = GOLDEN[golden]
    got = end(integrate(*start, age, model=model, time_step=step))[:, 0]
    got[1] = wrapped(got[1] - expected[1]) + expected[1]
    place, speed = (1e-3, 1e-3 * 400) if golden == "G12" else (2e-5, 2e-2)
    np.testing.assert_allclose(got[:3], expected[:3], atol=place, rtol=0)
    np.testing.assert_allclose(got[3:], expected[3:], atol=speed, rtol=0)


@pytest.mark.parametrize("golden", sorted(GOLDEN))
def test_default_scheme_is_far_inside_the_golden_tolerance(golden):
    start, model, age, *expected = GOLDEN[golden]
    got = end(integrate(*start, age, model=model))[:, 0]
    got[1] = wrapped(got[1] - expected[1]) + expected[1]
    np.testing.assert_allclose(got[:3], expected[:3], atol=2e-6, rtol=0)
    np.testing.assert_allclose(got[3:], expected[3:], atol=1e-3, rtol=0)


def test_agrees_with_a_high_order_solver():
    start = population(8)
    result = integrate(*start, model="gmM19")
    million = 1e6 * KMS_KPC_YR
    for i in range(1, 8):
        r, phi, z, v_r, v_phi, v_z, age = (column[i] for column in start)
        state = [
            *(r * math.cos(phi), r * math.sin(phi), z),
            (v_r * math.cos(phi) - v_phi * math.sin(phi)) * million,
            (v_r * math.sin(phi) + v_phi * math.cos(phi)) * million,
            v_z * million,
        ]

        def derivative(_, s):
            by_r, by_z = force_factors(s[0] ** 2 + s[1] ** 2, s[2], 0)
            pull = np.array([by_r, by_r, by_z]) * -1e12
            return np.concatenate([s[3:], pull * s[:3]])

        solved = solve_ivp(
            derivative, (0.0, age / 1e6), state, method="DOP853", rtol=1e-11, atol=1e-12
        )
        x, y, height = solved.y[:3, -1]
        got = (
            result.r[i] * math.cos(result.phi[i]),
            result.r[i] * math.sin(result.phi[i]),
            result.z[i],
        )
        np.testing.assert_allclose(got, (x, y, height), atol=5e-6, rtol=0)


def test_energy_and_angular_momentum_are_kept():
    result = integrate(*population(3000), model="gmM19")
    assert np.quantile(result.energy_error, 0.99) < 1e-6
    # The star on the axis has no angular momentum to compare with.
    assert np.quantile(result.momentum_error[1:], 0.99) < 1e-11


def test_star_through_the_centre_stays_finite():
    result = integrate(0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 1e7, model="gmM19")
    assert np.isfinite(end(result)).all()
    assert result.z[0] == 0.0
    assert result.energy_error[0] < 1e-3


@pytest.mark.parametrize("model", ["gmM19", "gmFK06"])
def test_orbit_runs_back_to_its_birth(model):
    start = population(200)
    there = integrate(*start[:6], np.full(200, 3e7), model=model)
    back = integrate(
        *(there.r, there.phi, there.z, -there.v_r, -there.v_phi, -there.v_z),
        np.full(200, 3e7),
        model=model,
    )
    r, phi, z = start[:3]
    miss = np.hypot(
        np.hypot(
            back.r * np.cos(back.phi) - r * np.cos(phi),
            back.r * np.sin(back.phi) - r * np.sin(phi),
        ),
        back.z - z,
    )
    assert np.quantile(miss[1:], 0.95) < 1e-5


def test_circular_orbit_keeps_radius_and_counts_turns():
    speed = float(circular_velocity(8.3, 0.0, "gmM19"))
    age = 1e9
    result = integrate(8.3, 0.4, 0.0, 0.0, -speed, 0.0, age, model="gmM19")
    assert result.r[0] == pytest.approx(8.3, abs=1e-6)
    swept = speed * KMS_KPC_YR * age / 8.3
    assert swept > 8 * math.pi
    assert result.phi[0] == pytest.approx(0.4 - swept, rel=1e-6)
    assert result.v_phi[0] == pytest.approx(-speed, rel=1e-7)


@pytest.mark.parametrize(
    ("scheme", "order"), [(orbits._LEAPFROG, 2), (orbits._SRKN, 4)], ids=["leapfrog", "srkn"]
)
def test_order_of_the_schemes(scheme, order):
    drifts, kicks = scheme
    assert drifts.sum() == pytest.approx(1.0, abs=1e-14)
    assert kicks.sum() == pytest.approx(1.0, abs=1e-14)
    start = np.array([[*O1, 5e7]]).T

    def place(step):
        out = np.empty((8, 1))
        orbits._integrate_block(start, out, drifts, kicks, step, 0)
        return out[0, 0]

    truth = place(2e4)
    coarse, fine = (abs(place(step) - truth) for step in (2e6, 1e6))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.5)


def test_threads_and_neighbours_do_not_change_a_bit(monkeypatch):
    start = population(9000)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 1)
    one = integrate(*start, model="gmM19")
    monkeypatch.setattr(numba, "get_num_threads", lambda: 3)
    two = integrate(*start, model="gmM19")
    np.testing.assert_array_equal(end(one), end(two))
    alone = integrate(*(column[8000:8003] for column in start), model="gmM19")
    np.testing.assert_array_equal(end(one)[:, 8000:8003], end(alone))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(0, np.nan, "r of star 0 is not finite"), (6, np.inf, "age of star 0 is not finite")],
)
def test_values_that_are_not_finite_are_refused(place, value, message):
    start = [*O1, 1e7]
    start[place] = value
    with pytest.raises(ValueError, match=message):
        integrate(*start, model="gmM19")


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match=r"phi must have shape \(2,\) like age, but got \(1,\)"):
        integrate([1.0, 2.0], 0.0, *([[0.0, 0.0]] * 4), [1e6, 1e6], model="gmM19")
