"""Spiral arms: golden azimuths, arm probabilities, smearing and rotation."""

import math

import numpy as np
import pytest
from scipy import stats

from mlpop.population.constants import TWO_PI
from mlpop.population.galaxy.spiral import SPIRAL_ARMS, rotate, smear

LEAST_P = 1e-3


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("saYMW17", [5.2611111, 8.4418625, 6.7361404, 10.1422629, 1.1853566]),
        ("saFK06", [5.2641987, 8.4041987, 6.6671293, 3.5271293, 1.2414689]),
    ],
    ids=["G23", "G24"],
)
def test_arm_azimuth_G23_G24(model, expected):
    azimuth = SPIRAL_ARMS[model].azimuth(np.full(5, 8.3), np.arange(5))
    np.testing.assert_allclose(azimuth, expected, atol=1e-6)


def test_rotation_G25():
    assert rotate(np.zeros(1), np.array([1e7]))[0] == pytest.approx(0.25132741, abs=1e-8)
    assert rotate(np.ones(1), np.array([2.5e8]))[0] == pytest.approx(1.0 + TWO_PI)


@pytest.mark.parametrize(
    ("model", "arm_number", "probabilities"),
    [
        ("saYMW17", 5, [0.2455] * 4 + [0.018]),
        ("saFK06", 5, [0.24615] * 4 + [0.0154]),
        ("saYMW17", 4, [0.25] * 4),
    ],
)
def test_arm_probabilities(model, arm_number, probabilities):
    n = 100_000
    arm = SPIRAL_ARMS[model].draw(n, arm_number, np.random.default_rng(1))
    counts = np.bincount(arm, minlength=arm_number)
    assert counts.size == arm_number
    assert stats.chisquare(counts, np.array(probabilities) * n).pvalue > LEAST_P


def test_other_arm_numbers_are_refused():
    with pytest.raises(ValueError, match="arm_number must be 4 or 5, but got 3"):
        SPIRAL_ARMS["saYMW17"].draw(1, 3, np.random.default_rng(1))


@pytest.mark.parametrize("radius", [0.5, 8.0])
def test_smearing(radius):
    n = 20_000
    r, phi = smear(
        np.full(n, radius),
        np.full(n, 1.0),
        rng_phi=np.random.default_rng(1),
        rng_r=np.random.default_rng(2),
    )
    assert stats.kstest(r, stats.norm(radius, 0.07 * radius).cdf).pvalue > LEAST_P
    width = TWO_PI * math.exp(-0.35 * radius)
    assert stats.kstest(phi, stats.uniform(1.0, width).cdf).pvalue > LEAST_P
    # Independent of each other.
    assert stats.pearsonr(r, phi).pvalue > LEAST_P
