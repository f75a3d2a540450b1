"""Nobody can tell the truth from its draws, equal ones included."""

import numpy as np

from mlpop.inference.diagnostics.pool import REFERENCES, make_pool, ranks


def pool_of(count, drawn, rng, failed=()):
    success = np.ones(count, dtype=bool)
    success[list(failed)] = False
    draws = rng.random((count, drawn, 2)).astype(np.float32)
    return make_pool(
        ("a", "b"),
        np.full((count, 2), 2, np.float32),
        draws,
        np.full(count, 7.0),
        np.zeros((count, drawn)),
        success,
        rng,
    ), draws


def test_truth_lies_at_its_place_and_every_draw_once():
    pool, draws = pool_of(50, 100, np.random.default_rng(1))
    kept = 100 - REFERENCES
    assert pool.size == kept + 1
    rows = np.arange(50)
    assert (pool.theta[rows, pool.place] == 2).all()
    assert (pool.log_density[rows, pool.place] == 7).all()
    others = np.sort(pool.theta[..., 0], 1)[:, :kept]
    np.testing.assert_array_equal(others, np.sort(draws[:, :kept, 0], 1))
    np.testing.assert_array_equal(pool.references, draws[:, kept:])
    assert len(np.unique(pool.place)) > 20


def test_rank_of_a_truth_equal_to_its_draws_is_uniform():
    rng = np.random.default_rng(2)
    flat = np.zeros((3000, 9, 1), np.float32)
    ones = np.ones(3000, dtype=bool)
    equal = np.zeros(3000), np.zeros((3000, 9))
    pool = make_pool(("a",), flat[:, 0], flat, *equal, ones, rng)
    found = ranks(pool.log_density)[np.arange(3000), pool.place]
    counts = np.bincount(found, minlength=pool.size)
    assert counts.min() > 333 - 5 * 333**0.5
    assert counts.max() < 333 + 5 * 333**0.5


def test_failed_rows_hold_nothing():
    pool, _ = pool_of(5, 30, np.random.default_rng(3), failed=[2])
    assert not pool.theta[2].any()
    assert not pool.log_density[2].any()
    assert pool.theta[1].all()


def test_few_draws_leave_one_reference():
    pool, _ = pool_of(3, 5, np.random.default_rng(4))
    assert (pool.size, pool.references.shape[1]) == (5, 1)
