"""Scattering and dispersion smearing."""

import numpy as np
import pytest

from mlpop.population.galaxy import scattering


def test_tau_327_G72():
    expected = [6.812505e-7, 1.844729e-3, 1.780302e-1, 2.781814e1]
    tau = scattering.tau_327(np.array([10.0, 100.0, 300.0, 1000.0]))
    np.testing.assert_allclose(tau, expected, rtol=1e-6)


def test_tau_dm_G73():
    assert scattering.tau_dm(100.0, 1374e6, 3e6) == pytest.approx(9.596528e-4, rel=1e-6)
    assert scattering.tau_dm(100.0, 1352e6, 0.390625e6) == pytest.approx(1.311545e-4, rel=1e-6)


def test_dispersion_constant_G74():
    constant = scattering.DISPERSION / 1e12  # s MHz^2
    assert constant == pytest.approx(4148.8057, rel=1e-6)


def test_smearing_is_the_delay_across_a_channel():
    f, width, dm = 1.4e9, 1e6, 250.0
    low, high = f - width / 2, f + width / 2
    delay = scattering.DISPERSION * dm * (low**-2 - high**-2)
    assert scattering.tau_dm(dm, f, width) == pytest.approx(delay, rel=1e-5)


def test_scattering_falls_with_frequency():
    assert scattering.at_frequency(2.0, 327e6) == 2.0
    ratio = scattering.at_frequency(1.0, 654e6)
    assert ratio == pytest.approx(2.0**-4.4)


def test_scatter_is_half_a_dex_about_the_law():
    dm = np.full(40_000, 120.0)
    tau = scattering.scattered_tau_327(dm, np.random.default_rng(8))
    dex = np.log10(tau / scattering.tau_327(120.0))
    assert dex.mean() == pytest.approx(0.0, abs=0.01)
    assert dex.std() == pytest.approx(0.5, abs=0.01)


def test_no_electrons_no_scattering():
    tau = scattering.scattered_tau_327(np.array([0.0, 50.0]), np.random.default_rng(0))
    assert tau[0] == 0.0
    assert tau[1] > 0.0


def test_draws_are_repeatable():
    dm = np.linspace(1.0, 900.0, 50)
    first = scattering.scattered_tau_327(dm, np.random.default_rng(3))
    np.testing.assert_array_equal(
        first, scattering.scattered_tau_327(dm, np.random.default_rng(3))
    )
