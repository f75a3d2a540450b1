"""Observed beside predicted: panels, common colours, residuals in standard deviations."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlpop.errors import DataError
from mlpop.plots.predictive import predictive, residual

CHANNELS = ("survey_PMPS_ppdot_map", "survey_HTRU_position_map_radec", "my_map")


def panels(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_title()]


def test_maps_are_drawn_observed_mean_one_and_residual() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.poisson(4.0, (50, 3, 8, 6)).astype(float)
    observed = predicted[0] + 40.0
    figure = predictive(observed, predicted, CHANNELS)
    titles = [axes.get_title() for axes in panels(figure)]
    assert len(titles) == 12
    assert titles[:4] == [
        "PMPS: observed",
        "PMPS: mean of the predictions",
        "PMPS: one prediction",
        "PMPS: observed - mean",
    ]
    assert titles[8] == "my_map: observed"
    for row in range(3):
        meshes = [axes.collections[0] for axes in panels(figure)[4 * row : 4 * row + 4]]
        shown = [np.asarray(mesh.get_array()).reshape(6, 8).T for mesh in meshes]
        expected = (observed[row], predicted[:, row].mean(0), predicted[0, row])
        for values, wanted in zip(shown, expected, strict=False):
            np.testing.assert_allclose(values, wanted)
        assert len({mesh.get_clim() for mesh in meshes[:3]}) == 1
        assert meshes[3].get_clim() == (-4, 4)
        np.testing.assert_allclose(shown[3], residual(observed[row], predicted[:, row]))


def test_residual_is_in_standard_deviations_and_calm_where_nothing_varies() -> None:
    predicted = np.zeros((4000, 2, 2))
    predicted[:, 0, 0] = np.random.default_rng(1).normal(10, 2, 4000)
    observed = np.array([[16.0, 1.0], [0.0, 0.0]])
    values = residual(observed, predicted)
    assert values[0, 0] == pytest.approx(3, abs=0.15)
    assert values[0, 1] == pytest.approx(1 / (0.1 * np.sqrt(4 / 4)), abs=0.5)
    assert (values[1] == 0).all()
    np.testing.assert_array_equal(residual(np.ones((2, 2)), np.ones((9, 2, 2))), 0)


def test_components_of_a_vector_are_drawn_with_the_bands_of_their_predictions() -> None:
    rng = np.random.default_rng(2)
    predicted = rng.normal([5.0, -3.0], [2.0, 0.1], (5000, 2))
    (axes,) = predictive([9.0, -3.3], predicted, ("a", "b")).axes
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [2.0, -3.0], atol=0.15)
    wide, narrow = axes.containers
    for bars, half in ((wide, 1.96), (narrow, 1.0)):
        for bar in bars:
            assert bar.get_y() == pytest.approx(-half, abs=0.1)
            assert bar.get_height() == pytest.approx(2 * half, abs=0.15)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="the observation's shape"):
        predictive(np.zeros((1, 3, 3)), np.zeros((5, 1, 3, 4)), ("a",))
