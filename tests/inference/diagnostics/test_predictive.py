"""The predictive check rejects as often as it says if nothing is wrong, and sees what is."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import binom, chi2

from mlpop.errors import DataError
from mlpop.inference.diagnostics.predictive import (
    ALPHA,
    MIN_PREDICTIONS,
    map_shapes,
    predictive_check,
    strangeness,
    views,
)

CHANNELS = ("first", "second")
Draw = Callable[[Generator, int], NDArray[np.float64]]


def maps(rng: Generator, count: int, mean: float = 300.0, shift: float = 0.0) -> NDArray:
    """Histograms (count, 2, 12, 10) of some hundred stars in two clouds of unlike size."""
    return np.array(
        [
            [
                np.histogram2d(
                    *rng.normal((shift, 0.0), 1.0, (rng.poisson(number), 2)).T,
                    bins=(12, 10),
                    range=((-3, 3), (-3, 3)),
                )[0]
                for number in (mean, 100.0)
            ]
            for _ in range(count)
        ]
    )


def heavy(rng: Generator, count: int) -> NDArray[np.float64]:
    """Correlated vectors (count, 3) with tails as heavy as Cauchy's."""
    return rng.standard_cauchy((count, 3)) @ np.array([[1, 0.9, 0], [0, 0.1, 0], [0, 0, 1e-3]])


@pytest.mark.parametrize("draw", [maps, heavy])
def test_p_values_of_exchangeable_observations_are_uniform(draw: Draw) -> None:
    """Whatever the distribution is: all p-values below a limit come as often as it says."""
    rng, tests, n = np.random.default_rng(3), 200, 49
    channels = CHANNELS if draw is maps else ("a", "b", "c")
    checks = []
    for _ in range(tests):
        x = draw(rng, n + 1)
        checks.append(predictive_check(x[0], x[1:], channels))
    for name in (None, *checks[0].p_values):
        p = np.array([c.p_value if name is None else c.p_values[name] for c in checks])
        ranks = p * (n + 1)
        np.testing.assert_allclose(ranks, ranks.round(), atol=1e-9)
        for level in (ALPHA, 0.1, 0.5):
            rejected = int((p <= level + 1e-9).sum())
            low, high = binom.interval(0.9999, tests, level)
            assert low <= rejected <= high, (name, level, rejected)


def test_p_value_is_the_rank_among_all() -> None:
    x = np.linspace(-1, 1, 9)[:, None]
    at = {k: predictive_check(x[k], np.delete(x, k, 0), ("a",)).p_value for k in (0, 4, 7)}
    assert at == {0: pytest.approx(2 / 9), 4: 1.0, 7: pytest.approx(4 / 9)}


def test_strangeness_is_the_chance_of_a_gaussian_distance() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([[2.0, 0, 0], [1.9, 0.2, 0], [0, 0, 9.0]])
    features = rng.normal(size=(40_000, 3)) @ spread.T
    strange = strangeness(features)
    inverse = np.linalg.inv(np.cov(features.T))
    centred = features - features.mean(0)
    expected = -chi2.logsf(np.einsum("ni,ij,nj->n", centred, inverse, centred), 3)
    near = expected < 5
    np.testing.assert_allclose(strange[near], expected[near], atol=0.01)
    assert np.mean(np.exp(-strange)) == pytest.approx(0.5, abs=0.01)


def test_strangeness_needs_no_variance() -> None:
    constant = np.ones((20, 3))
    np.testing.assert_array_equal(strangeness(constant), 0)
    constant[0, 1] += 0.1
    assert np.argmax(strangeness(constant)) == 0


def test_more_features_than_observations() -> None:
    """What lies outside all directions of large variance is seen by what they leave over."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(101, 4)) @ rng.normal(size=(4, 300)) + 0.01 * rng.normal(size=(101, 300))
    usual = predictive_check(x[0], x[1:], tuple(map(str, range(300))))
    x[0] += 0.05 * rng.normal(size=300)
    odd = predictive_check(x[0], x[1:], tuple(map(str, range(300))))
    assert usual.p_value > 0.05
    assert (odd.p_value, odd.unlike) == (pytest.approx(1 / 101), True)


@pytest.mark.parametrize(
    ("changes", "view"),
    [({"mean": 390.0}, "totals"), ({"shift": 0.35}, "shapes"), ({"shift": 0.35}, "first")],
)
def test_other_maps_are_unlike_the_predictions(changes: dict[str, float], view: str) -> None:
    rng = np.random.default_rng(5)
    predicted = maps(rng, 100)
    checks = [predictive_check(maps(rng, 1, **changes)[0], predicted, CHANNELS) for _ in range(20)]
    assert sum(check.unlike for check in checks) >= 18
    assert sum(check.p_values[view] <= ALPHA for check in checks) >= 18


def test_views_of_maps_that_are_flat_or_empty() -> None:
    x = maps(np.random.default_rng(0), 30)
    x[3] = 0
    x[4] = 7
    seen = views(x, CHANNELS)
    assert {name: values.shape[1] for name, values in seen.items()} == {
        "totals": 2,
        "shapes": 12,
        "pixels": 128,
        "first": 7,
        "second": 7,
    }
    assert all(np.isfinite(values).all() for values in seen.values())


def test_shapes_are_level_centres_spreads_and_correlation() -> None:
    one = np.zeros((1, 1, 5, 3))
    one[0, 0, 4, 2], one[0, 0, 2, 0] = 3.0, 1.0
    np.testing.assert_allclose(
        map_shapes(one)[0, 0],
        [(9 + 1) / 4, 0.75, 0.5, np.sqrt(0.1875), np.sqrt(0.75), 1.0],
    )


def test_too_few_predictions_cannot_reject() -> None:
    x = np.random.default_rng(0).normal(size=(MIN_PREDICTIONS + 1, 2))
    x[0] = 100
    assert predictive_check(x[0], x[1:], ("a", "b")).unlike
    assert not predictive_check(x[0], x[1:-1], ("a", "b")).unlike


@pytest.mark.parametrize(
    ("observed", "predicted"), [((3,), (9, 2)), ((2,), (1, 2)), ((3,), (9, 3))]
)
def test_shapes_that_do_not_fit_are_refused(
    observed: tuple[int, ...], predicted: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match="at least 2 predictions"):
        predictive_check(np.zeros(observed), np.zeros(predicted), CHANNELS)
