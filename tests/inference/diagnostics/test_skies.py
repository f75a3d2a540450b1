"""A sky beside predictions of it: distances, exact p-values, and what they see."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from mlpop.errors import DataError
from mlpop.inference.diagnostics.skies import QUANTITIES, compare_skies, ks_distances, ranks

Array = NDArray[np.float64]


@pytest.mark.parametrize("decimals", [1, 12], ids=["ties", "no ties"])
def test_distances_are_those_of_scipy_from_all_others(decimals: int) -> None:
    rng = np.random.default_rng(0)
    samples = [np.round(rng.normal(0.2 * n, 1, 5 + 9 * n), decimals) for n in range(5)]
    for k, found in enumerate(ks_distances(samples)):
        others = np.concatenate(samples[:k] + samples[k + 1 :])
        assert found == pytest.approx(ks_2samp(samples[k], others).statistic, abs=1e-12)


def test_empty_samples_are_as_far_as_can_be() -> None:
    np.testing.assert_array_equal(ks_distances([[], [1.0], [1.0]]), [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(ks_distances([[], []]), [0.0, 0.0])
    np.testing.assert_array_equal(ks_distances([[2.0], []]), [1.0, 1.0])


def test_ranks_count_ties() -> None:
    np.testing.assert_allclose(ranks([3.0, 1.0, 2.0, 1.0]), [0.25, 1.0, 0.5, 1.0])
    np.testing.assert_allclose(ranks([-1 / 3, -1 / 3 * (1 + 1e-14)]), [1.0, 1.0])


def skies(number: int, rng: np.random.Generator, shift: float = 0.0, rows: int = 60) -> Array:
    """Tables (number, 80, 6) whose mean logs differ from sky to sky, as with draws of theta."""
    made = np.zeros((number, 80, 6))
    means = rng.normal([-0.3, -15, 1, 0, 2, -3], 0.1, (number, 1, 6))
    means[..., 1] += shift
    made[:, :rows] = 10 ** rng.normal(means, 0.3, (number, rows, 6))
    return made


def compared(sky: Array, tables: Array, count: int = 60, counts: Array | None = None):
    numbers = np.full(len(tables), 60.0) if counts is None else counts
    other = np.full(len(tables), 60.0)
    return compare_skies(
        {"PMPS": sky, "SMPS": sky},
        {"PMPS": tables, "SMPS": tables},
        {"PMPS": count, "SMPS": 60},
        {"PMPS": numbers, "SMPS": other},
    )


def test_rows_hold_medians_of_what_is_known() -> None:
    rng = np.random.default_rng(1)
    sky, tables = skies(1, rng)[0], skies(30, rng)
    sky[:10, 5] = 0
    sky[:60, 3] *= -1
    found = {(row.survey, row.quantity): row for row in compared(sky, tables).rows}
    assert list(found)[:6] == [("PMPS", name) for name in ("count", *QUANTITIES)]
    flux, latitude, period = (found["PMPS", name] for name in ("S1400", "abs_b", "P"))
    assert (flux.pulsars, period.pulsars) == (50, 60)
    assert flux.observed == np.median(sky[10:60, 5])
    assert latitude.observed == np.median(np.abs(sky[:60, 3]))
    medians = np.median(tables[:, :60, 0], axis=1)
    expected = np.quantile(medians, [0.025, 0.5, 0.975])
    np.testing.assert_allclose([period.low, period.median, period.high], expected)


def test_what_nobody_knows_is_left_out() -> None:
    rng = np.random.default_rng(2)
    sky, tables = skies(1, rng)[0], skies(20, rng)
    sky[:, 4] = 0
    found = compared(sky, tables)
    assert found.left_out == ["PMPS DM", "SMPS DM"]
    assert not [row for row in found.rows if row.quantity == "DM"]
    tables[:, :, 5] = 0
    assert compared(sky, tables).left_out == [
        f"{survey} {quantity}" for survey in ("PMPS", "SMPS") for quantity in ("DM", "S1400")
    ]


def test_a_shift_beyond_the_scatter_of_theta_is_seen() -> None:
    rng = np.random.default_rng(3)
    tables = skies(99, rng)
    for shift, seen in ((0.0, False), (-0.6, True)):
        found = compared(skies(1, np.random.default_rng(5), shift)[0], tables)
        p_value = {(r.survey, r.quantity): r.p_value for r in found.rows}["PMPS", "P_dot"]
        assert (p_value == pytest.approx(0.01)) is seen
        assert (found.p_value <= 0.05) is seen


def test_the_asymptotic_formula_calls_right_predictions_wrong() -> None:
    """It knows no scatter of theta: hence the null from the predictions themselves."""
    rng = np.random.default_rng(8)
    everything = skies(60, rng)[:, :60, 0]
    rejected = [
        ks_2samp(own, np.delete(everything, k, axis=0).ravel()).pvalue <= 0.05
        for k, own in enumerate(everything)
    ]
    assert np.mean(rejected) > 0.3
    exact = ranks(ks_distances(list(everything)))
    assert np.mean(exact <= 0.05) == 0.05


def test_p_values_of_right_predictions_are_uniform() -> None:
    """Of skies of the predictions' own kind a tenth is among the oddest tenth, in all rows too."""
    rng = np.random.default_rng(4)
    together, single = [], []
    for _ in range(200):
        everything = skies(20, rng, rows=30)
        found = compared(everything[0], everything[1:])
        together.append(found.p_value)
        single.append(found.rows[2].p_value)
    for values in (together, single):
        held = np.mean(np.array(values) <= 0.1)
        assert abs(held - 0.1) < 3.5 * np.sqrt(0.1 * 0.9 / 200)


def test_counts_are_compared_as_shares() -> None:
    """How long a simulation goes on changes all counts alike, and means nothing."""
    rng = np.random.default_rng(6)
    sky, tables = skies(1, rng)[0], skies(39, rng)
    counts = rng.poisson(60, 39).astype(float)
    row = compared(sky, tables, 600, counts).rows[0]
    assert (row.quantity, row.observed) == ("count", 600)
    assert row.p_value == pytest.approx(1 / 40)
    scale = 660 / (counts + 60)
    assert row.median == pytest.approx(np.median(counts * scale))
    alike = compare_skies(
        {"a": sky, "b": sky},
        {"a": tables, "b": tables},
        {"a": 30, "b": 60},
        {"a": 10 * np.arange(1, 40), "b": 20 * np.arange(1, 40)},
    )
    assert alike.rows[0].p_value == 1.0
    alone = compare_skies({"a": sky}, {"a": tables}, {"a": 600}, {"a": counts})
    assert alone.rows[0].p_value is None


@pytest.mark.parametrize("number", [1, 0])
def test_too_few_predictions_are_refused(number: int) -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(DataError, match="at least 2 predictions"):
        compared(skies(1, rng)[0], skies(number, rng))
    with pytest.raises(DataError, match="at least 2"):
        compare_skies({}, {}, {}, {})
