"""Training curves: both log probabilities, and the best epoch."""

from typing import Any

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.plots import training_curves


def statistics(training: list[float], validation: list[float]) -> dict[str, Any]:
    return {
        f"{name}_log_probs": {"step": list(range(1, len(v) + 1)), "value": v, "wall_time": v}
        for name, v in (("training", training), ("validation", validation))
    }


def test_curves_and_best_epoch_B14() -> None:
    figure = training_curves(statistics([-3.0, -1.0, 0.5], [-2.0, -0.5, -0.9]))
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epoch", "Log probability")
    lines = {str(line.get_label()): line for line in axes.lines}
    assert np.array_equal(lines["training"].get_xydata(), [[1, -3], [2, -1], [3, 0.5]])
    assert np.array_equal(lines["validation"].get_xydata(), [[1, -2], [2, -0.5], [3, -0.9]])
    assert np.array_equal(lines["best: -0.500 in epoch 2"].get_xydata(), [[2, -0.5]])


def test_epochs_of_a_later_round_begin_with_1() -> None:
    records = statistics([-3.0, -1.0], [-2.0, -0.5])
    for curve in records.values():
        curve["step"] = [40, 41]
    lines = {str(line.get_label()): line for line in training_curves(records).axes[0].lines}
    assert np.array_equal(lines["training"].get_xydata(), [[1, -3], [2, -1]])
    assert "best: -0.500 in epoch 2" in lines


def test_a_bad_start_does_not_flatten_the_rest() -> None:
    curve = [-500.0] + [float(v) for v in np.linspace(-1, 0, 40)]
    low, high = training_curves(statistics(curve, curve)).axes[0].get_ylim()
    assert -1.5 < low < -0.8
    assert 0 < high < 0.2


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ({"training_log_probs": {"step": [1], "value": [0.0]}}, "'validation_log_probs'"),
        (statistics([float("nan")], [0.0]), "0 finite of 1 values"),
        (statistics([], []), "0 steps"),
    ],
)
def test_missing_curves_are_refused(records: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        training_curves(records)
