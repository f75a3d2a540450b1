"""The error rate of the largest of many statistics, by repetition."""

import numpy as np
import pytest
from scipy import stats

from mlpop.inference.diagnostics.exchange import exchange_test
from mlpop.inference.diagnostics.pool import make_pool

LABELS = ("a", "b")


def experiment(seed, count=40, drawn=44, shift=0.0, exchanges=99):
    """A posterior with correlations and a curved second label, shifted in the first one."""
    rng = np.random.default_rng(seed)
    theta = 0.1 * rng.standard_normal((count, drawn + 1, 2))
    theta[..., 1] = 0.5 * theta[..., 0] + theta[..., 1] ** 2
    theta += 0.5 + 0.05 * rng.standard_normal((count, 1, 2))
    log_density = np.exp(theta[..., 0]) + rng.random((count, drawn + 1))
    theta[:, 0, 0] += shift
    pool = make_pool(
        LABELS,
        theta[:, 0],
        theta[:, 1:],
        log_density[:, 0],
        log_density[:, 1:],
        np.ones(count, dtype=bool),
        rng,
    )
    weights = rng.random(count) ** 6
    return exchange_test(pool, rng, weights=weights, exchanges=exchanges)


def test_p_values_of_a_right_posterior_are_uniform():
    tests = [experiment(seed) for seed in range(200)]
    p_values = np.array([test.p_value for test in tests])
    # 10 of 200 are expected; 25 have a chance of 1e-5
    assert (p_values <= 0.05).sum() < 25
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    # every statistic by itself has mean 0 and variance 1, but for distances, which are positive,
    # and for edges, which few of the tests are near to
    values = np.array([test.values for test in tests])
    sums = [statistic.cause not in ("shape", "edge") for statistic in tests[0].statistics]
    assert np.abs(values[:, sums].mean(0)).max() < 4.5 / 200**0.5
    assert values[:, sums].std(0) == pytest.approx(np.ones(sum(sums)), abs=4.5 / 400**0.5)


def test_critical_value_is_exceeded_as_rarely_as_the_p_value_says():
    for seed in range(20):
        test = experiment(seed, shift=0.02)
        assert bool(np.abs(test.values).max() > test.critical) == (test.p_value <= 0.05)


def test_shift_is_found_where_it_is():
    test = experiment(1, count=200, shift=0.08, exchanges=199)
    assert test.p_value == pytest.approx(1 / 200)
    values = test.by_name()
    assert values["bias/a"] == max(values[f"{kind}/a"] for kind in ("bias", "width", "edge"))
    place = [statistic.name for statistic in test.statistics].index("bias/a")
    # 0.08 of a spread of 0.1
    assert test.effects[place] == pytest.approx(0.8, abs=0.15)
    assert test.numbers[place] == 200


def test_effects_near_x_o_rest_on_fewer_tests():
    test = experiment(2)
    near = [statistic.name.startswith("x_o") for statistic in test.statistics]
    assert any(near)
    assert (test.numbers[near] < 20).all()
    assert (test.numbers[~np.array(near)] == 40).all()


def test_what_is_near_x_o_in_most_tests_is_not_local():
    rng = np.random.default_rng(4)
    draws = rng.random((30, 20, 1)).astype(np.float32)
    zeros = np.zeros(30), np.zeros((30, 20))
    pool = make_pool(("a",), draws[:, 0], draws, *zeros, np.ones(30, dtype=bool), rng)
    for part, local in ((30, False), (10, True)):
        weights = (np.arange(30) < part).astype(float)
        test = exchange_test(pool, rng, weights=weights, exchanges=19)
        assert any(name.startswith("x_o") for name in test.by_name()) is local


def test_same_seed_same_values():
    first, second = experiment(3), experiment(3)
    assert (first.p_value, first.critical) == (second.p_value, second.critical)
    np.testing.assert_array_equal(first.values, second.values)
