import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.plots.regression import binned, loss_curves, predicted_against_true, residuals

RNG = np.random.default_rng(0)
LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
TRUTH = RNG.uniform(0, 1, (60, 2))
PREDICTED = TRUTH + RNG.normal(0, 0.1, (60, 2))


def test_every_sample_is_a_point_and_the_panel_is_square():
    figure = predicted_against_true(LABELS, TRUTH, PREDICTED, title="test set")
    assert len(figure.axes) == 2
    for d, axes in enumerate(figure.axes):
        offsets = axes.collections[0].get_offsets()
        np.testing.assert_allclose(offsets, np.stack([TRUTH[:, d], PREDICTED[:, d]], 1))
        assert axes.get_xlim() == axes.get_ylim()
        rmse = np.sqrt(np.mean((PREDICTED - TRUTH)[:, d] ** 2))
        assert f"RMSE {rmse:.3g}" in axes.texts[0].get_text()


def test_residuals_are_predicted_minus_true():
    figure = residuals(LABELS, TRUTH, PREDICTED)
    offsets = figure.axes[1].collections[0].get_offsets()
    np.testing.assert_allclose(offsets[:, 1], (PREDICTED - TRUTH)[:, 1])
    low, high = figure.axes[0].get_ylim()
    assert low == -high


def test_bins_hold_every_sample_once():
    truth = np.array([0.0, 0.1, 0.2, 0.5, 0.5, 0.6, 1.0, 0.9, 0.8])
    residual = np.arange(9.0)
    centre, mean, rmse = binned(truth, residual, bins=2)
    # bins (low, high]: 0.5 belongs to the first
    np.testing.assert_allclose(centre, [0.25, 0.75])
    np.testing.assert_allclose(mean, [np.mean([0, 1, 2, 3, 4]), np.mean([5, 6, 7, 8])])
    assert rmse[0] == pytest.approx(np.sqrt(np.mean([0, 1, 4, 9, 16])))
    assert len(binned(truth[:2], residual[:2])[0]) == 0


def test_losses_of_every_label_and_their_sum():
    records = {
        f"{e:05d}": {LABELS[0]: 1 / e, LABELS[1]: None if e == 2 else 2 / e, "loss": 3 / e}
        for e in (1, 2, 3)
    }
    figure = loss_curves({"training": records, "validation": records}, LABELS)
    assert len(figure.axes) == 3
    line = figure.axes[2].lines[0]
    assert list(line.get_xdata()) == [1, 2, 3]
    assert np.isnan(line.get_ydata()[1])
    assert figure.axes[0].get_yscale() == "log"
    with pytest.raises(DataError, match="have no epochs"):
        loss_curves({"training": {}}, LABELS)


def test_losses_of_a_single_epoch_are_seen():
    figure = loss_curves(
        {"training": {"00001": {LABELS[0]: 1.0, LABELS[1]: 2.0, "loss": 3.0}}}, LABELS
    )
    figure.canvas.draw()
    for axes in figure.axes:
        assert axes.lines[0].get_marker() == "."
        inside = [t for t in axes.get_xticks() if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
        assert inside == [1]


def test_arrays_must_fit():
    for truth, predicted in ((TRUTH[:5], PREDICTED), (TRUTH[:, :1], PREDICTED[:, :1])):
        with pytest.raises(DataError, match="found shapes"):
            predicted_against_true(LABELS, truth, predicted)
