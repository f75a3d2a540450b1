"""Single pulsars, observed beside predicted."""

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.plots.pulsars import predictive_pulsars


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
