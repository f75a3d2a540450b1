"""Single pulsars, observed beside predicted."""

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.plots.pulsars import predictive_counts, predictive_pulsars


def tables(count: int, rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = np.zeros((count, 50, 6))
    made[:, :rows] = 10 ** rng.normal([-0.3, -15, 1, 0, 2, -3], 0.3, (count, rows, 6))
    return made


def test_points_are_the_pulsars_and_bands_the_predictions() -> None:
    observed, predicted = tables(1, 30)[0], tables(40, 20, 1)
    observed[3, 5] = 0
    figure = predictive_pulsars({"PMPS": observed}, {"PMPS": predicted}, (1e-3, 1e2))
    points, dispersion, latitude, flux = figure.axes
    assert points.get_title() == "PMPS"
    assert points.get_xlim() == (1e-3, 1e2)
    assert [text.get_text() for text in figure.legends[0].texts] == [
        *("3 predictions", "observed", "95 % of the predictions", "observed"),
    ]
    assert not any(axes.get_legend() for axes in figure.axes)
    others, seen = points.lines
    np.testing.assert_array_equal(seen.get_xydata(), observed[:30, :2])
    np.testing.assert_array_equal(others.get_xydata(), predicted[:3, :20, :2].reshape(-1, 2))
    for axes, column, number in ((dispersion, 4, 30), (latitude, 3, 30), (flux, 5, 29)):
        heights, edges, _ = axes.patches[2].get_data()
        values = observed[:30, column]
        values = values if column == 3 else np.log10(values[values > 0])
        np.testing.assert_allclose(heights, np.histogram(values, edges)[0] / number)
        low, high = axes.patches[0].get_data().baseline, axes.patches[0].get_data().values
        assert (low <= high).all()
        assert high.max() > 0


def test_surveys_without_pulsars_are_drawn() -> None:
    figure = predictive_pulsars({"a": tables(1, 0)[0]}, {"a": tables(5, 0)})
    assert len(figure.axes) == 4


def test_other_shapes_are_refused() -> None:
    for observed, predicted in (({}, {}), ({"a": np.zeros((4, 6))}, {"a": np.zeros((2, 5, 6))})):
        with pytest.raises(DataError, match="the shape of the observed"):
            predictive_pulsars(observed, predicted)


def test_chosen_quantities_have_their_p_values_above_them() -> None:
    observed, predicted = tables(1, 30)[0], tables(9, 20, 1)
    figure = predictive_pulsars(
        {"PMPS": observed},
        {"PMPS": predicted},
        quantities=("P", "P_dot"),
        p_values={("PMPS", "P"): 0.0123, ("PMPS", "P_dot"): None},
    )
    _, period, derivative = figure.axes
    assert [period.get_title(), derivative.get_title()] == ["p = 0.012", ""]
    for axes, column in ((period, 0), (derivative, 1)):
        heights, edges, _ = axes.patches[2].get_data()
        expected = np.histogram(np.log10(observed[:30, column]), edges)[0] / 30
        np.testing.assert_allclose(heights, expected)


def test_counts_are_drawn_with_the_observed_number() -> None:
    figure = predictive_counts(
        {"PMPS": 7, "SMPS": 3}, {"PMPS": [5, 6, 6], "SMPS": [3, 3, 4]}, {("PMPS", "count"): 0.25}
    )
    first, second = figure.axes
    assert [first.get_title(), second.get_title()] == ["PMPS: p = 0.25", "SMPS"]
    assert list(first.lines[0].get_xdata()) == [7, 7]
    assert sum(bar.get_height() for bar in first.patches) == 3
    edges = [bar.get_x() for bar in first.patches]
    # 10 observed pulsars in all; of 8, 9 and 10 the first survey has 5, 6 and 6
    assert min(edges) == pytest.approx(6.0 - 0.5)
    assert max(edges) + first.patches[-1].get_width() == pytest.approx(60 / 9 + 0.5)
    assert first.get_xlabel() == "detected pulsars, of 10 in all"
    # no legend may lie over the bars
    assert first.get_legend() is None
    assert len(figure.legends) == 1
    for observed, predicted in (({}, {}), ({"a": 1}, {}), ({"a": 1}, {"a": []})):
        with pytest.raises(DataError, match="numbers of predicted"):
            predictive_counts(observed, predicted)
