"""The order of drawing: every star once, lines of neighbours in random order."""

import numpy as np
import pytest

from mlpop.population.synthesis.order import (
    FEW_STARS,
    Order,
    Unchanging,
    covered_stars,
    draw_order,
    rows_of,
)


@pytest.mark.parametrize("n", [1, 7, FEW_STARS - 1, FEW_STARS, FEW_STARS + 5])
def test_every_star_is_drawn_once(n):
    order = draw_order(n, np.random.default_rng(1))
    rows = rows_of(order, np.arange(n, dtype=np.uint32))
    np.testing.assert_array_equal(np.sort(rows), np.arange(n))
    assert n < 100 or np.abs(np.corrcoef(rows, np.arange(n))[0, 1]) < 0.02


def test_neighbours_of_large_databases_are_drawn_together():
    order = draw_order(FEW_STARS + 5, np.random.default_rng(2))
    rows = rows_of(order, np.arange(FEW_STARS + 5, dtype=np.uint32))
    lines = rows[:FEW_STARS].reshape(-1, 16)
    assert (np.diff(lines, axis=1) == 1).all()
    assert (lines[:, 0] % 16 == 0).all()
    np.testing.assert_array_equal(rows[FEW_STARS:], FEW_STARS + np.arange(5))


def test_the_order_of_lines_is_uniform():
    ranks = np.zeros(8)
    for seed in range(400):
        ranks[draw_order(8, np.random.default_rng(seed)).lines[0]] += 1
    assert ((ranks - 50) ** 2 / 50).sum() < 25  # chi^2 with 7 degrees of freedom, p = 1e-3


def test_covered_stars():
    order = Order(np.array([1, 0], np.uint32), 1)
    reach = np.array([-1e9, -60.0, -61.0, -1e9], np.float32)
    seen = Unchanging(np.zeros(4, np.float32), reach)
    np.testing.assert_array_equal(covered_stars(0, 4, order, seen), [0, 3])
    np.testing.assert_array_equal(covered_stars(1, 3, order, seen), [3])
