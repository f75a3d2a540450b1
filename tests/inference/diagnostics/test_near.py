"""Tests near x_o weigh more, whatever labels say nothing."""

import numpy as np
import pytest

from mlpop.inference.diagnostics.near import MIN_NEAR, effective_number, near_weights
from mlpop.inference.diagnostics.pool import make_pool


def pool_of(centres, rng, failed=()):
    """One label that x tells, and one that it does not."""
    count = len(centres)
    success = np.ones(count, dtype=bool)
    success[list(failed)] = False
    draws = rng.random((count, 100, 2)).astype(np.float32)
    draws[..., 0] = centres[:, None] + 0.02 * rng.standard_normal((count, 100))
    zeros = np.zeros(count), np.zeros((count, 100))
    return make_pool(("a", "b"), draws[:, 0], draws, *zeros, success, rng)


@pytest.mark.parametrize(("count", "wanted"), [(1000, 200), (100, MIN_NEAR), (20, 20)])
def test_effective_number_is_what_was_wanted(count, wanted):
    rng = np.random.default_rng(1)
    pool = pool_of(rng.random(count), rng)
    observed = np.stack([0.3 + 0.02 * rng.standard_normal(500), rng.random(500)], 1)
    weights = near_weights(pool, observed)
    assert effective_number(weights) == pytest.approx(wanted, rel=0.02)


def test_weights_fall_with_the_distance_in_what_x_tells():
    rng = np.random.default_rng(2)
    centres = rng.random(500)
    pool = pool_of(centres, rng, failed=[7])
    observed = np.stack([0.3 + 0.02 * rng.standard_normal(500), rng.random(500)], 1)
    weights = near_weights(pool, observed)
    ok = pool.success
    near, far = np.abs(centres - 0.3) < 0.03, np.abs(centres - 0.3) > 0.4
    assert weights[ok & near].min() > 2 * weights[ok & far].max()
    assert weights[7] == pytest.approx(weights[ok].mean())
    assert weights.max() <= 1


def test_wider_posteriors_at_the_same_place_are_farther():
    rng = np.random.default_rng(3)
    pool = pool_of(np.full(400, 0.5), rng)
    pool.theta[200:, :, 0] = 0.5 + 20 * (pool.theta[200:, :, 0] - 0.5)
    observed = np.stack([0.5 + 0.02 * rng.standard_normal(500), rng.random(500)], 1)
    weights = near_weights(pool, observed)
    assert weights[:200].mean() > 2 * weights[200:].mean()
