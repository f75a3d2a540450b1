"""Faults are found and called by their names; posteriors without one are not accused."""

from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import pytest

from benchmarks import verdict as study
from mlpop.inference.diagnostics.exchange import ExchangeTest
from mlpop.inference.diagnostics.scores import Cause, Statistic
from mlpop.inference.diagnostics.verdict import (
    FAULTS,
    LARGE_EFFECT,
    deciding,
    fault,
    is_negligible,
    may_be_large,
    verdict_name,
)


@pytest.mark.parametrize("name", study.FAULTS)
def test_faults_are_found_and_named(name: str) -> None:
    problem, right = study.FAULTS[name]
    assert [study.verdict(problem, 600, seed, 199) for seed in (1, 2)] == [right, right]


def test_exact_posteriors_are_rarely_accused() -> None:
    names = [
        study.verdict(problem, 60, seed, 99)
        for problem in study.NULL.values()
        for seed in range(8)
    ]
    # two of 40 are expected; ten have a chance of 1e-5
    assert names.count("calibrated") > 30


@pytest.mark.slow
@pytest.mark.parametrize("name", study.NULL)
def test_error_rate_is_alpha(name: str) -> None:
    names = [study.verdict(study.NULL[name], 150, seed, 199) for seed in range(1000, 1200)]
    # ten of 200 are expected; 25 have a chance of 1e-5
    assert 200 - names.count("calibrated") < 25


def made(
    values: dict[str, float],
    count: int = 300,
    p_value: float = 0.001,
    correlations: dict[tuple[str, str], float] | None = None,
) -> ExchangeTest:
    """A test with some statistics; all others are 0, as are correlations that are not given."""
    causes: dict[str, Cause] = {
        "bias": "bias",
        "width": "width",
        "tails": "tails",
        "width slope": "local width",
        "x_o width": "local width",
        "slope": "local bias",
        "shape": "shape",
        "edge": "edge",
    }
    statistics = tuple(Statistic(name, causes[name.split("/")[0]]) for name in values)
    numbers = np.full(len(values), float(count))
    matrix = np.eye(len(values))
    for pair, value in (correlations or {}).items():
        a, b = (list(values).index(name) for name in pair)
        matrix[a, b] = matrix[b, a] = value
    return ExchangeTest(statistics, np.array(list(values.values())), 3.3, p_value, numbers, matrix)


def test_largest_significant_statistic_names_the_fault() -> None:
    assert fault(made({"bias/a": 3.0, "width/a": 5.0})) == "overconfident"
    assert fault(made({"edge/a": 6.0, "width/a": -5.0})) == "edge"
    assert fault(made({"bias/a": 2.0, "width/a": -5.0})) == "underconfident"
    assert fault(made({"bias/a": 3.0}, p_value=0.06)) is None


def test_large_shifts_and_widths_explain_what_follows_from_them() -> None:
    """A bias of b sigma makes the square of a rank larger by b^2."""
    assert fault(made({"bias/a": -6.0, "width/a": 9.0})) == "biased"
    assert fault(made({"bias/a": 3.5, "width/a": 9.0})) == "overconfident"
    # 300 tests: 20 standard deviations are 1.15 of a density rank, whose square is 1.33
    assert fault(made({"width/all": 20.0, "tails/all": 22.0})) == "overconfident"
    assert fault(made({"width/all": 5.0, "tails/all": 9.0})) == "tails"


def test_shifts_do_not_explain_regions_that_are_too_wide() -> None:
    """A bias makes squares larger, never smaller."""
    assert fault(made({"bias/a": 6.0, "width/a": 7.0})) == "biased"
    assert fault(made({"bias/a": 6.0, "width/a": -7.0})) == "underconfident"


def test_shifts_that_follow_from_the_width_do_not_explain_it() -> None:
    values = {"slope/a ~ a": 7.0, "width/all": 12.0}
    pair = "slope/a ~ a", "width/all"
    assert fault(made(values)) == "locally biased"
    assert fault(made(values, correlations={pair: 0.5})) == "overconfident"
    assert fault(made(values, correlations={pair: -0.5})) == "locally biased"


@pytest.mark.parametrize(
    ("scale", "noise", "name"),
    [
        (0.4, 0.15, "overconfident"),
        (2.9, 0.15, "underconfident"),
        (0.4, 0.3, "overconfident"),
        (2.9, 0.3, "underconfident"),
    ],
)
def test_a_width_keeps_its_name_where_the_prior_cuts(
    scale: float, noise: float, name: str
) -> None:
    """Next to an edge too wide a posterior lies too far inside, and that is not its fault."""
    problem = partial(study.cut, scale=scale, noise=noise)
    assert [study.verdict(problem, 400, seed, 199) for seed in range(1, 7)] == 6 * [name]


@pytest.mark.parametrize(
    ("fault_of", "name"),
    [
        ({"scale": 0.25}, "overconfident"),
        ({"scale": 4.0}, "underconfident"),
        ({"bias": 2.0}, "biased"),
        ({"local_bias": 2.0}, "locally biased"),
    ],
)
def test_gross_faults_keep_their_names(fault_of: dict[str, float], name: str) -> None:
    problem = partial(study.gaussian, **fault_of)
    assert [study.verdict(problem, 200, seed, 99) for seed in (1, 2)] == [name, name]


def test_what_sees_every_fault_names_none_if_another_can() -> None:
    test = made({"shape/all": 9.0, "edge/a": 4.0, "bias/a": 1.0})
    assert fault(test) == "edge"
    assert test.statistics[deciding(test)].name == "edge/a"
    assert fault(made({"shape/all": 9.0, "edge/a": 3.0})) == "shape"


@pytest.mark.parametrize(("here", "name"), [(2.0, "over"), (-2.0, "under")])
def test_width_that_changes_is_judged_where_x_o_is(here: float, name: str) -> None:
    test = made({"width slope/a": 5.0, "x_o width/all": here})
    assert fault(test) == f"locally {name}confident"


def test_small_faults_of_many_tests_are_negligible() -> None:
    """0.04 sigma with 10 000 tests is measured well, and does not matter."""
    test = made({"bias/a": 4.0, "width/a": 1.0}, count=10_000)
    assert fault(test) == "biased"
    assert is_negligible(test)
    assert verdict_name(test, 10_000) == "calibrated"
    assert verdict_name(made({"bias/a": 4.0}, count=1000), 1000) == "biased"


def test_large_faults_that_few_tests_cannot_exclude() -> None:
    """A bias of 2 / sqrt(60) = 0.26 sigma may be one of 0.47, and at 3 / sqrt(60) of 0.6."""
    for value, expected in ((2.0, "calibrated"), (3.0, "too few tests")):
        test = made({"bias/a": value, "edge/a": 3.0}, count=60, p_value=0.2)
        assert verdict_name(test, 60) == expected
        upper = (value + 1.645) / 60**0.5
        assert [s.name for s in may_be_large(test)] == (["bias/a"] if upper > LARGE_EFFECT else [])
    test = made({"bias/a": 0.0}, count=300, p_value=0.5)
    assert verdict_name(test, 300) == "calibrated"
    assert verdict_name(replace(test, numbers=np.array([49.0])), 49) == "too few tests"


def test_every_cause_has_a_name() -> None:
    from mlpop.inference.diagnostics.verdict import _NAMES

    assert set(_NAMES) == set(get_args(Cause))
    assert {name for pair in _NAMES.values() for name in pair} == set(FAULTS)
