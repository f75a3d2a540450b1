"""The Galactic potentials against golden numbers and against their own derivatives."""

import numpy as np
import pytest

from mlpop.population.constants import GRAVITATION_KPC, KMS_KPC_YR, KPC_CM, YEAR_S
from mlpop.population.galaxy.gravitational_potential import (
    MODEL_CODES,
    circular_velocity,
    force_factors,
    gradient,
    potential_energy,
)

MODELS = ("gmM19", "gmFK06")


def potential(r, z, model):
    r, z = np.broadcast_arrays(r, z)
    code = MODEL_CODES[model]
    return np.array(
        [potential_energy(a * a, b, code) for a, b in zip(r.flat, z.flat, strict=True)]
    )


def test_constants_G1_G2():
    assert pytest.approx(2.257810106689e-57, rel=1e-9) == GRAVITATION_KPC
    assert pytest.approx(1.0220121572e-9, rel=1e-9) == KMS_KPC_YR


def test_circular_velocity_G3_G4():
    v = circular_velocity([8.3, 0.5, 2.0, 20.0, 8.3], [0.0, 0.0, 0.0, 0.0, 0.5], "gmM19")
    expected = [231.753848, 143.129760, 192.707591, 214.841264, 229.326130]
    np.testing.assert_allclose(v, expected, rtol=1e-7)


def test_circular_velocity_G5():
    v = circular_velocity([8.3, 0.5, 20.0, 8.3], [0.0, 0.0, 0.0, 0.5], "gmFK06")
    np.testing.assert_allclose(v, [222.404855, 246.906613, 177.782169, 219.836575], rtol=1e-7)


@pytest.mark.parametrize(
    ("model", "by_r", "by_z", "phi"),
    [
        ("gmM19", 6.61821873e-15, 1.48793820e-15, -1.55560520e15),
        ("gmFK06", 6.08182517e-15, 1.66597310e-15, -7.03235651e14),
    ],
)
def test_gradient_and_potential_G6_G7(model, by_r, by_z, phi):
    np.testing.assert_allclose(gradient(8.3, 0.5, model), (by_r, by_z), rtol=1e-7)
    np.testing.assert_allclose(
        potential(8.3, 0.5, model) * (KPC_CM / YEAR_S) ** 2, [phi], rtol=1e-7
    )


@pytest.mark.parametrize(("model", "speed"), [("gmM19", 558.5943), ("gmFK06", 376.5669)])
def test_escape_speed_G8(model, speed):
    escape_speed = np.sqrt(-2.0 * potential(8.3, 0.0, model)) / KMS_KPC_YR
    np.testing.assert_allclose(escape_speed, [speed], rtol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_gradient_is_the_derivative_of_the_potential(model):
    rng = np.random.default_rng(1)
    r, z = 10.0 ** rng.uniform(-2, 1.5, 500), rng.uniform(-5, 5, 500)
    h = 1e-5
    by_r = (potential(r + h * r, z, model) - potential(r - h * r, z, model)) / (2 * h * r)
    by_z = (potential(r, z + h, model) - potential(r, z - h, model)) / (2 * h)
    got_r, got_z = gradient(r, z, model)
    scale = np.hypot(got_r, got_z)
    np.testing.assert_allclose(got_r / scale, by_r / scale, atol=2e-6)
    np.testing.assert_allclose(got_z / scale, by_z / scale, atol=2e-6)


@pytest.mark.parametrize("model", MODELS)
def test_potential_is_symmetric_and_rises_outwards(model):
    r = np.geomspace(1e-6, 100.0, 200)
    np.testing.assert_array_equal(potential(r, 1.3, model), potential(r, -1.3, model))
    np.testing.assert_array_equal(gradient(r, 1.3, model)[1], -gradient(r, -1.3, model)[1])
    assert (np.diff(potential(r, 0.0, model)) > 0).all()
    assert (potential(r, 0.0, model) < 0).all()


@pytest.mark.parametrize("model", [0, 1])
def test_force_is_finite_at_the_centre(model):
    assert np.isfinite(force_factors(0.0, 0.0, model)).all()


def test_halo_series_meets_the_closed_form():
    # The branch of the NFW mass changes at R = 1e-3 * 15.62 kpc; the force must not jump.
    edge = 1e-3 * 15.62
    below, above = (float(gradient(edge * (1 + s), 0.0, "gmM19")[0]) for s in (-1e-9, 1e-9))
    assert below == pytest.approx(above, rel=1e-8)


def test_unknown_model_is_refused():
    with pytest.raises(ValueError, match="galactic_model must be one of .* but got 'gmX'"):
        gradient(1.0, 0.0, "gmX")
