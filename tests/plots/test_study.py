"""Figures of a study: what they show, and trials with fields of their own."""

from typing import Any

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.plots.study import (
    study_coordinates,
    study_front,
    study_history,
    study_importances,
    study_slices,
)

FIELDS = ["model", "lr", "parts"]


def trial(slot: int, value: float | None, state: str = "complete", **point: Any) -> dict[str, Any]:
    values = None if value is None else (value, 10.0 * slot + 10)
    return {
        "slot": slot,
        "state": state,
        "value": value,
        "values": values,
        "losses": {1: 3.0, 2: 2.5},
        "point": point,
    }


TRIALS = [
    trial(0, 2.0, model="mdn", lr=1e-3, parts=4),
    trial(1, 1.0, model="maf", lr=1e-2),
    trial(2, None, "pruned", model="maf", lr=1e-4),
    trial(3, None, "failed", model="mdn", lr=1e-1, parts=9),
    trial(4, 1.5, model="mdn", lr=5e-3, parts=2),
]


def test_history_shows_every_trial_and_the_best_so_far() -> None:
    (axes,) = study_history(TRIALS, "loss").axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == [
        "complete (3)",
        "pruned (1)",
        "failed (1)",
        "best so far",
        "the user's own",
    ]
    best = next(line for line in axes.lines if line.get_label() == "best so far")
    np.testing.assert_array_equal(best.get_ydata(), [2.0, 1.0, 1.0, 1.0])


def test_slices_have_one_panel_a_field_with_the_trials_that_have_it() -> None:
    panels = [
        axes
        for axes in study_slices(TRIALS, "loss", FIELDS, ["lr"]).axes
        if axes.lines or axes.collections
    ]
    by_name = {axes.get_xlabel(): axes for axes in panels if axes.get_xlabel()}
    assert list(by_name) == FIELDS
    counts = [len(by_name[name].collections[0].get_offsets()) for name in FIELDS]
    assert counts == [3, 3, 2]
    assert by_name["lr"].get_xscale() == "log"


def test_coordinates_draw_one_line_a_complete_trial() -> None:
    (axes,) = study_coordinates(TRIALS, "loss", FIELDS, ["lr"]).axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 3
    texts = {text.get_text() for text in axes.texts}
    assert {"mdn", "maf", "none"} <= texts
    best = lines[-1].get_ydata()
    assert (best[1], best[2], best[3]) == pytest.approx((1, -0.12, 0))


def test_importances_are_sorted() -> None:
    (axes,) = study_importances({"a": 0.2, "b": 0.7}).axes
    assert [bar.get_width() for bar in axes.patches] == [0.2, 0.7]
    with pytest.raises(DataError, match="no importances"):
        study_importances({})


def test_front_joins_its_trials() -> None:
    (axes,) = study_front(TRIALS, [0, 1], ("loss", "weights"), log=True).axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [10, 20])
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("draw", [study_history, lambda t, o: study_slices(t, o, FIELDS)])
def test_study_without_a_complete_trial_cannot_be_drawn(draw: Any) -> None:
    with pytest.raises(DataError, match="needs a complete trial"):
        draw(TRIALS[2:4], "loss")
