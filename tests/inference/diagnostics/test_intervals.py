"""Intervals: what they hold by closed form, and conformal ones by repetition."""

import numpy as np
import pytest
from scipy import stats

from mlpop.inference.diagnostics.intervals import (
    LEVEL,
    central_interval,
    check_intervals,
    confidence_band,
    conformal_level,
    heavy_enough,
)

DRAWS = 1000


def ranks_of(sigmas):
    """Ranks of truths that lie so many posterior sigmas above the middle."""
    return np.round(DRAWS * stats.norm.cdf(sigmas)).astype(np.int64)


def check(sigmas, success=None, weights=None, observed=None):
    success = np.ones(len(sigmas), dtype=bool) if success is None else success
    return check_intervals(ranks_of(sigmas), DRAWS, success, weights, observed, (-1.0, 1.0))


@pytest.mark.parametrize(("bias", "width"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.3), (-0.2, 0.7)])
def test_bias_and_width_are_those_of_the_truths(bias, width):
    rng = np.random.default_rng(1)
    found = check(bias + width * rng.standard_normal(20_000))
    assert found.bias == pytest.approx(bias, abs=0.03)
    assert found.width == pytest.approx(np.hypot(bias, width), abs=0.04)
    held = stats.norm.cdf([(-1.96 - bias) / width, (1.96 - bias) / width])
    assert found.held == pytest.approx(held[1] - held[0], abs=0.006)
    assert found.held_band[0] < found.held < found.held_band[1]
    assert found.bias_error == pytest.approx(1.96 * found.width / 20_000**0.5)


def test_failed_tests_are_held_by_nothing():
    sigmas = np.random.default_rng(2).standard_normal(400)
    success = np.arange(400) >= 40
    found = check(sigmas, success)
    assert found.held < 0.9
    assert found.conformal_level == 1
    observed = np.linspace(-0.5, 0.5, 101)
    assert check(sigmas, success, observed=observed).conformal == (-1.0, 1.0)


def test_tests_near_x_o_are_told_apart():
    """Right on average over all tests, and too narrow by half where x_o is."""
    rng = np.random.default_rng(3)
    near = np.arange(2000) < 500
    sigmas = np.where(near, 2.0, 0.8) * rng.standard_normal(2000)
    found = check(sigmas, weights=np.where(near, 1.0, 1e-3))
    assert found.near_tests == pytest.approx(500, rel=0.02)
    assert found.held_near == pytest.approx(2 * stats.norm.cdf(0.98) - 1, abs=0.04)
    assert found.held_near_band[1] < 0.8 < found.held
    everywhere = check(sigmas)
    assert everywhere.held_near is None
    assert found.conformal_level > everywhere.conformal_level


@pytest.mark.parametrize("width", [0.6, 1.0, 1.8])
def test_conformal_interval_holds_the_truth_of_a_new_test(width):
    """Over many experiments, however wrong the width of posteriors is."""
    rng = np.random.default_rng(4)
    held = []
    draws = rng.standard_normal(20_001)
    for _ in range(600):
        sigmas = width * rng.standard_normal(100)
        needed = np.abs(2 * stats.norm.cdf(sigmas[:99]) - 1)
        low, high = central_interval(draws, conformal_level(needed, np.ones(99)), (-9.0, 9.0))
        held.append(low <= sigmas[99] <= high)
    # exactly 0.95 with 99 tests, up to the draws
    assert np.mean(held) == pytest.approx(LEVEL, abs=4 * (0.05 * 0.95 / 600) ** 0.5)


def test_too_few_tests_give_the_whole_prior():
    assert conformal_level(np.linspace(0, 0.9, 18), np.ones(18)) == 1
    assert conformal_level(np.linspace(0, 0.9, 19), np.ones(19)) == pytest.approx(0.9)


def test_band_of_whole_numbers_is_that_of_clopper_and_pearson():
    exact = stats.binomtest(45, 50).proportion_ci(0.95, method="exact")
    assert confidence_band(0.9, 50) == pytest.approx((exact.low, exact.high))
    assert confidence_band(1.0, 50)[1] == 1
    assert confidence_band(0.0, 50)[0] == 0


def near_weights(rng, number, width):
    """Weights of a kernel around an x_o that is like the tests; the nearest has weight 1."""
    distance = np.abs(rng.standard_normal(number) - rng.standard_normal())
    weights = np.exp(-0.5 * (distance / width) ** 2)
    return weights / weights.max()


def test_far_tests_count_where_the_near_ones_are_few():
    weights = near_weights(np.random.default_rng(5), 150, 0.05)
    assert weights.sum() < 19
    raised = heavy_enough(weights)
    assert raised.sum() == pytest.approx(40)
    assert raised.max() == 1
    assert (np.diff(raised[np.argsort(weights)]) >= 0).all()
    assert np.array_equal(heavy_enough(weights[:30]), np.ones(30))
    enough = near_weights(np.random.default_rng(5), 150, 2.0)
    assert heavy_enough(enough) is enough


def test_interval_near_x_o_holds_the_truth_and_is_not_the_whole_prior():
    rng = np.random.default_rng(6)
    levels, held = [], []
    for _ in range(400):
        sigmas = 1.2 * rng.standard_normal(151)
        found = check(sigmas[:150], weights=near_weights(rng, 150, 0.05))
        levels.append(found.conformal_level)
        held.append(abs(2 * stats.norm.cdf(sigmas[150]) - 1) <= found.conformal_level)
    assert np.mean(held) > 0.95 - 2 * (0.95 * 0.05 / 400) ** 0.5
    assert np.mean(np.array(levels) < 1) > 0.99
