"""Distributions of one label: each against its formula, at its edges, and what is none."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from mlpop.config.blocks.prior import DistributionConfig
from mlpop.errors import ConfigError
from mlpop.inference.distributions import Marginal, marginal

TAIL = 2.0**-24
NO_EDGE = math.nan

TRIANGLE = '''
import numpy as np


class Triangle:
    """Density 2 theta / height^2 from 0 to `height`."""

    def __init__(self, height: float) -> None:
        self.height = height

    def cdf(self, theta):
        return np.clip(np.asarray(theta) / self.height, 0, 1) ** 2

    def ppf(self, unit):
        return self.height * np.sqrt(unit)

    def logpdf(self, theta):
        with np.errstate(divide="ignore"):
            return np.log(2 * np.asarray(theta) / self.height**2)


class Forgetful(Triangle):
    logpdf = None


class Backwards(Triangle):
    def ppf(self, unit):
        return self.height * (1 - np.sqrt(unit))
'''


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "own_distributions.py").write_text(TRIANGLE)
    monkeypatch.syspath_prepend(str(tmp_path))


def made(type_: str, low: float = NO_EDGE, high: float = NO_EDGE, **args: Any) -> Marginal:
    config = DistributionConfig.parse({"type": type_, "args": args})
    return marginal("a", config, low, high, TAIL)


def normal_density(theta: Any, loc: float, scale: float) -> Any:
    return np.exp(-0.5 * ((theta - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))


def normal_mass(low: float, high: float, loc: float, scale: float) -> float:
    a, b = ((edge - loc) / scale / math.sqrt(2) for edge in (low, high))
    # by the tail on which both are small, where the difference keeps its digits
    return (math.erfc(a) - math.erfc(b)) / 2 if a > 0 else (math.erfc(-b) - math.erfc(-a)) / 2


Density = Callable[[Any], Any]
CASES: dict[str, tuple[dict[str, Any], Density]] = {
    "uniform": (
        {"type_": "uniform", "low": 12.0, "high": 14.0},
        lambda t: np.full_like(t, 0.5),
    ),
    "log uniform": (
        {"type_": "log_uniform", "low": 0.1, "high": 10.0},
        lambda t: 1 / (t * math.log(100.0)),
    ),
    "truncated normal": (
        {"type_": "truncated_normal", "low": 0.0, "high": 4.0, "loc": 3.0, "scale": 2.0},
        lambda t: normal_density(t, 3.0, 2.0) / normal_mass(0.0, 4.0, 3.0, 2.0),
    ),
    "truncated normal whose centre is outside": (
        {"type_": "truncated_normal", "low": 0.0, "high": 3.0, "loc": -8, "scale": 1},
        lambda t: normal_density(t, -8.0, 1.0) / normal_mass(0.0, 3.0, -8.0, 1.0),
    ),
    "normal": (
        {"type_": "normal", "loc": -2, "scale": 0.5},
        lambda t: normal_density(t, -2.0, 0.5),
    ),
    "beta of scipy": (
        {"type_": "scipy.stats:beta", "a": 2, "b": 3, "loc": 1, "scale": 4},
        lambda t: 12 * ((t - 1) / 4) * (1 - (t - 1) / 4) ** 2 / 4,
    ),
    "gamma of scipy": (
        {"type_": "scipy.stats:gamma", "a": 3},
        lambda t: t**2 * np.exp(-t) / 2,
    ),
    "class of the user": (
        {"type_": "own_distributions:Triangle", "height": 3.0},
        lambda t: 2 * t / 9,
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Marginal, Density]:
    arguments, density = CASES[request.param]
    return made(**arguments), density


def test_density_is_the_formula_and_integrates_to_one(case: tuple[Marginal, Density]) -> None:
    found, density = case
    unit = np.linspace(0, 1, 201)[1:-1]
    theta = found.ppf(unit)
    np.testing.assert_allclose(np.exp(found.logpdf(theta)), density(theta), rtol=1e-9)
    area = integrate.quad(lambda t: np.exp(found.logpdf(t)), found.low, found.high, limit=200)[0]
    assert area == pytest.approx(1, abs=1e-6)


def test_cdf_and_ppf_undo_each_other_and_are_the_integral(case: tuple[Marginal, Density]) -> None:
    found, density = case
    unit = np.array([TAIL, 1e-5, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-5])
    theta = found.ppf(unit)
    assert (np.diff(theta) > 0).all()
    np.testing.assert_allclose(found.cdf(theta), unit, rtol=1e-6)
    for probability, place in zip(unit[2:6], theta[2:6], strict=True):
        area = integrate.quad(lambda t: float(density(np.array(t))), found.low, place)[0]
        assert area == pytest.approx(probability, abs=1e-6)


def test_edges(case: tuple[Marginal, Density]) -> None:
    found, _ = case
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)
    tail = 0.0 if found.bounded else TAIL
    np.testing.assert_allclose(found.cdf(np.array([found.low, found.high])), [tail, 1 - tail])
    # beyond the edges there is nothing more
    width = found.high - found.low
    beyond = found.cdf(np.array([found.low - 9 * width, found.high + 9 * width]))
    np.testing.assert_allclose(beyond, [0, 1], atol=1e-9)
    assert found.low <= found.range[0] < found.range[1] <= found.high
    shown = np.diff(found.cdf(np.array(found.range)))
    assert shown == pytest.approx(1 if found.bounded else 0.998)


def test_what_each_one_says_of_itself() -> None:
    found = {name: made(**arguments) for name, (arguments, _) in CASES.items()}
    assert [name for name, each in found.items() if each.is_uniform] == ["uniform"]
    assert found["uniform"].log_height == pytest.approx(-math.log(2))
    endless = [name for name, each in found.items() if not each.bounded]
    assert endless == ["normal", "gamma of scipy"]
    beta = found["beta of scipy"]
    assert (beta.low, beta.high) == (1, 5)
    # what float32 resolves of a normal is 5.3 standard deviations
    normal = found["normal"]
    assert (normal.low, normal.high) == pytest.approx((-2 - 0.5 * 5.2947, -2 + 0.5 * 5.2947), 1e-4)


def test_draws_follow_the_density(case: tuple[Marginal, Density]) -> None:
    found, density = case
    theta = found.ppf(np.random.default_rng(4).random(3000))
    assert (theta >= found.low).all()
    assert (theta <= found.high).all()
    # a distribution function of its own: the formula, summed over fine cells
    edges = np.linspace(found.low, found.high, 200_001)
    cells = density((edges[1:] + edges[:-1]) / 2) * np.diff(edges)
    cumulative = np.concatenate([[0], cells.cumsum()])
    assert cumulative[-1] == pytest.approx(1, abs=1e-4)
    assert stats.kstest(np.interp(theta, edges, cumulative), "uniform").pvalue > 0.01


def test_pickled_ones_are_the_same(case: tuple[Marginal, Density]) -> None:
    found, _ = case
    copy = pickle.loads(pickle.dumps(found))
    theta = found.ppf(np.linspace(0.1, 0.9, 9))
    for name in ("cdf", "logpdf"):
        assert np.array_equal(getattr(copy, name)(theta), getattr(found, name)(theta))
    assert (copy.low, copy.high, copy.range) == (found.low, found.high, found.range)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no edges": ({"type_": "uniform"}, "of a: low must be below high and both finite.*low nan"),
    "one edge": ({"type_": "log_uniform", "low": 1.0}, "both finite.*low 1.0 and high nan"),
    "no width": ({"type_": "uniform", "low": 1.0, "high": 1.0}, "low 1.0 and high 1.0"),
    "the wrong way round": (
        {"type_": "truncated_normal", "low": 2.0, "high": 1.0, "loc": 1, "scale": 1},
        "must be below high.*low 2.0 and high 1.0",
    ),
    "too far from the centre": (
        {"type_": "truncated_normal", "low": 1e9, "high": 2e9, "loc": 0, "scale": 1e-9},
        "'truncated_normal' has a cdf and a ppf that do not undo each other",
    ),
    "discrete": (
        {"type_": "scipy.stats:poisson", "mu": 3},
        "distributions.a: 'scipy.stats:poisson' must have cdf, ppf and logpdf.*it lacks logpdf",
    ),
    "without a method": (
        {"type_": "own_distributions:Forgetful", "height": 1.0},
        "it lacks logpdf",
    ),
    "no distribution at all": ({"type_": "math:exp", "x": 1}, "math:exp"),
    "cdf that does not undo ppf": (
        {"type_": "own_distributions:Backwards", "height": 1.0},
        "do not undo each other: at the probabilities .* ppf gives .* must be continuous",
    ),
    "arguments that make no sense": (
        {"type_": "scipy.stats:beta", "a": -2, "b": 3},
        "'scipy.stats:beta' has a cdf and a ppf that do not undo each other.*nan",
    ),
    "an argument that scipy misses": (
        {"type_": "scipy.stats:beta", "a": 2},
        "distributions.a: 'scipy.stats:beta' cannot be made with the args .'a': 2.: .*'b'",
    ),
    "an argument that the class misses": (
        {"type_": "own_distributions:Triangle"},
        "'own_distributions:Triangle' cannot be made with the args {}: .*'height'",
    ),
    "no such module": ({"type_": "no.such:Thing"}, "'no.such:Thing' cannot be imported"),
    "no such name": ({"type_": "scipy.stats:betta"}, "'scipy.stats:betta' cannot be imported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_distribution_is_refused(name: str) -> None:
    arguments, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        made(**arguments)
