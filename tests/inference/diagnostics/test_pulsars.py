"""Features of pulsars: numbers that a hand can compute, and skies that differ in one of them."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import skew

from mlpop.inference.diagnostics.predictive import ALPHA, predictive_check
from mlpop.inference.diagnostics.pulsars import MIDDLE, pulsar_views


def skies(rng: np.random.Generator, count: int, **changes: float) -> NDArray:
    """Tables (count, 400, 6) of about 300 pulsars."""
    shape = (count, 400)
    p, field = rng.normal(-0.3, 0.4, shape), rng.normal(-14.8, 0.8, shape)
    columns = {
        "P": 10**p,
        "P_dot": 10 ** (field - p),
        "l": rng.uniform(-100, 50, shape) % 360,
        "b": rng.laplace(0, 2.0, shape),
        "DM": 10 ** rng.normal(2.3, 0.35, shape),
        "S": 10 ** rng.normal(-3.3, 0.4, shape),
    }
    for name, factor in changes.items():
        columns[name] *= factor
    tables = np.stack([*columns.values()], 2)
    tables[np.arange(400) >= rng.binomial(400, 0.75, count)[:, None]] = 0
    tables[rng.random(shape) < 0.3, 5] = 0
    return tables


def test_features_by_hand() -> None:
    one = np.zeros((1, 5, 6))
    one[0, 0] = [1.0, 1e-15, 10.0, 1.0, 100.0, 0.0]
    one[0, 1] = [0.1, 1e-14, 350.0, -3.0, 1000.0, 1e-3]
    one[0, 2] = [0.1, 1e-13, 180.0, 0.0, 0.0, 1e-2]
    views = pulsar_views({"a": one, "b": one[:, :2]})
    np.testing.assert_allclose(views["numbers"], [[np.log(2 / 3)]])
    np.testing.assert_allclose(views["distances"], [[2.5, 0.5, 2.5, 0.5]])
    heights = np.log10(np.array([1.0, 3.0, 0.0]) + MIDDLE)
    away = np.array([10.0, 10.0, 180.0])
    together = [views[name] for name in ("spins", "distances", "brightness")]
    np.testing.assert_array_equal(views["pulsars"], np.column_stack(together))
    places = [heights.mean(), heights.std(), away.mean(), away.std()]
    np.testing.assert_allclose(views["places"][0, :4], places)
    np.testing.assert_allclose(views["brightness"][0, :3], [-2.5, 0.5, 1.0])
    # the pulsars of both surveys, two of them twice
    age, field = np.array([15.0, 13, 12, 15, 13]), np.array([-15.0, -15, -14, -15, -15])
    moments = [age.mean(), age.std(), field.mean(), field.std(), skew(age), skew(field)]
    moments.append(np.cov(age, field, ddof=0)[0, 1])
    np.testing.assert_allclose(views["spins"][0, :7], moments)
    # youngest 12; no pulsar is older, or has a weaker field, than the highest and lowest ones
    np.testing.assert_allclose(views["spins"][0, 7:] ** 2, [0.2, 0.2, 0, 0, 0, 0, 0.2, 0.2])


def test_tails_are_those_of_all_skies() -> None:
    tables = skies(np.random.default_rng(0), 50)
    one = pulsar_views({"a": tables})["spins"][:, 7:]
    np.testing.assert_allclose((one**2).mean(0), [0.02, 0.1, 0.1, 0.02] * 2, atol=0.003)
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_allclose(pulsar_views({"a": tables[order]})["spins"][:, 7:], one[order])


def test_empty_surveys_have_features() -> None:
    views = pulsar_views({"a": np.zeros((3, 4, 6)), "b": np.zeros((3, 4, 6))})
    assert all(np.isfinite(v).all() and not v.any() for v in views.values())
    assert "numbers" not in pulsar_views({"a": np.zeros((3, 4, 6))})


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        ({}, ""),
        ({"DM": 0.7}, "distances"),
        ({"b": 1.5}, "places"),
        ({"P_dot": 3.0}, "spins"),
        ({"S": 1.4}, "brightness"),
    ],
)
def test_the_view_that_sees_it(changes: dict[str, float], view: str) -> None:
    rng = np.random.default_rng(4)
    x, tables = rng.normal(size=(101, 2)), skies(rng, 100)
    rejected: dict[str, int] = {}
    for _ in range(20):
        pooled = {"a": np.concatenate([skies(rng, 1, **changes), tables])}
        check = predictive_check(x[0], x[1:], ("a", "b"), pulsar_views(pooled))
        seen = [name for name, p in check.p_values.items() if p <= ALPHA]
        for name in seen + ["all"] * check.unlike:
            rejected[name] = rejected.get(name, 0) + 1
    if view:
        assert rejected["all"] >= 18
        assert rejected[view] == max(rejected[name] for name in rejected if name != "all") >= 18
    else:
        assert rejected.get("all", 0) <= 3
