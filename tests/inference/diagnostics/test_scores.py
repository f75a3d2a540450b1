"""Scores do not know which member of a pool is the truth."""

from dataclasses import replace

import numpy as np

from mlpop.inference.diagnostics.pool import make_pool
from mlpop.inference.diagnostics.scores import family, score_blocks

LABELS = ("a", "b", "c")


def pool_of(count=30, drawn=60, seed=1, failed=()):
    rng = np.random.default_rng(seed)
    success = np.ones(count, dtype=bool)
    success[list(failed)] = False
    draws = rng.random((count, drawn, 3)).astype(np.float32)
    log_draws = rng.standard_normal((count, drawn))
    truth, log_truth = rng.random((count, 3)).astype(np.float32), rng.standard_normal(count)
    return make_pool(LABELS, truth, draws, log_truth, log_draws, success, rng)


def scores_of(pool, weights=None):
    ((rows, scores),) = score_blocks(pool, weights, np.random.default_rng(9))
    assert rows == slice(0, len(pool.success))
    return scores.values


def test_family_has_a_score_for_every_name():
    pool = pool_of()
    for weights in (None, np.random.default_rng(2).random(30)):
        listed = family(LABELS, near=weights is not None)
        assert scores_of(pool, weights).shape == (30, pool.size, len(listed))
        assert len({statistic.name for statistic in listed}) == len(listed)


def test_scores_have_mean_zero_in_every_pool():
    values = scores_of(pool_of(), np.ones(30))
    assert np.abs(values.mean(1)).max() < 1e-5


def test_scores_do_not_depend_on_which_member_is_the_truth():
    pool = pool_of()
    other = replace(pool, place=(pool.place + 1) % pool.size)
    np.testing.assert_array_equal(scores_of(pool), scores_of(other))


def test_scores_go_with_their_members():
    """Another order of the members of a pool is the same order of their scores."""
    pool = pool_of()
    order = np.random.default_rng(3).permutation(pool.size)
    shuffled = replace(pool, theta=pool.theta[:, order], log_density=pool.log_density[:, order])
    np.testing.assert_allclose(scores_of(shuffled), scores_of(pool)[:, order], atol=2e-4)


def test_failed_tests_say_one_thing_only():
    pool = pool_of(failed=[4])
    names = [statistic.name for statistic in family(LABELS, near=True)]
    values = scores_of(pool, np.ones(30))
    spoken = {name for name, column in zip(names, values[4].T, strict=True) if column.any()}
    assert spoken == {"width/all", "x_o width/all"}
    truth = values[4, pool.place[4], names.index("width/all")]
    assert truth == values[4, :, names.index("width/all")].max()


def test_blocks_are_the_same_as_all_at_once(monkeypatch):
    from mlpop.inference.diagnostics import scores as module

    pool = pool_of()
    whole = scores_of(pool)
    monkeypatch.setattr(module, "_BLOCK", 20_000)
    parts = [part.values for _, part in score_blocks(pool, None, np.random.default_rng(9))]
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), whole)
