"""Scattering, and the dispersion constant."""

import numpy as np
import pytest

from mlpop.population.galaxy import scattering


def test_tau_327_G72():
    expected = [6.812505e-7, 1.844729e-3, 1.780302e-1, 2.781814e1]
    tau = scattering.tau_327(np.array([10.0, 100.0, 300.0, 1000.0]))
    np.testing.assert_allclose(tau, expected, rtol=1e-6)


def test_dispersion_constant_G74():
    constant = scattering.DISPERSION / 1e12  # s MHz^2
    assert constant == pytest.approx(4148.8057, rel=1e-6)


def test_no_electrons_no_scattering():
    assert scattering.tau_327(0.0) == 0.0
