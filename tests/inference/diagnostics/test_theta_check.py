"""Theta that follow what they should, and sets that do not."""

import numpy as np
import pytest

from mlpop.inference.diagnostics.theta_check import check_set_theta, check_theta
from mlpop.inference.prior import Prior

LABELS = ("a", "b", "c")


def test_draws_of_the_prior_hardly_ever_fail():
    rng = np.random.default_rng(1)
    assert sum(not check_theta(LABELS, rng.random((200, 3))).follows for _ in range(200)) <= 2


@pytest.mark.parametrize("count", [60, 1000])
def test_set_of_half_the_prior_is_found(count):
    unit = np.random.default_rng(2).random((count, 3))
    unit[:, 1] /= 2
    found = check_theta(LABELS, unit)
    assert found.wrong == ["b"]
    assert not found.follows
    assert found.high["b"] <= 0.5
    assert found.outside == 0


def test_set_beyond_the_prior_is_found():
    unit = np.random.default_rng(3).random((400, 3))
    unit[:, 0] *= 2
    found = check_set_theta(Prior(LABELS, (0.0,) * 3, (1.0,) * 3), unit)
    assert not found.follows
    assert found.outside == pytest.approx(0.5, abs=0.1)
    assert "a" in found.wrong


def test_uniform_labels_on_a_line_are_found():
    unit = np.random.default_rng(4).random((300, 3))
    unit[:, 2] = unit[:, 0]
    assert check_theta(LABELS, unit).wrong == ["a ~ c"]


def test_draws_of_a_proposal_are_compared_with_it():
    rng = np.random.default_rng(5)

    def draw(count):
        first = rng.beta(3, 5, count)
        return np.stack([first, np.clip(first + 0.05 * rng.standard_normal(count), 0, 1)], 1)

    reference = draw(3000)
    assert check_theta(LABELS[:2], draw(300), reference).follows
    assert check_theta(LABELS[:2], rng.random((300, 2)), reference).wrong == ["a", "b", "a ~ b"]


def test_a_few_theta_are_no_error():
    assert check_theta(("a",), np.array([[0.5], [0.7]])).follows
