"""Figures of a study: what they show, and that pyplot is afterwards as it was."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
import pytest
from matplotlib import pyplot as plt
from matplotlib import style
from matplotlib.axes import Axes
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from mlpop.plots.style import write
from mlpop.study import figures
from mlpop.study.figures import study_figures

FIELDS: dict[str, BaseDistribution] = {
    "density_estimator.args.num_components": IntDistribution(1, 20),
    "density_estimator.type": CategoricalDistribution(("mdn", "maf")),
    "trainer.lr": FloatDistribution(1e-4, 1e-1, log=True),
}


def trial(
    losses: tuple[float, ...], state: TrialState = TrialState.COMPLETE, **point: Any
) -> FrozenTrial:
    params = {
        field: point[name] for field in FIELDS if (name := field.rpartition(".")[2]) in point
    }
    return create_trial(
        state=state,
        values=losses or None,
        params=params,
        distributions={field: FIELDS[field] for field in params},
    )


TRIALS = [
    trial((2.0, 10.0), type="mdn", lr=1e-3, num_components=4),
    trial((1.0, 20.0), type="maf", lr=1e-2),
    trial((), TrialState.PRUNED, type="maf", lr=1e-4),
    trial((), TrialState.FAIL, type="mdn", lr=1e-1, num_components=9),
    trial((1.5, 30.0), type="mdn", lr=5e-3, num_components=2),
]
IMPORTANCES = {"all": {"trainer.lr": 0.8, "density_estimator.type": 0.2}}


@pytest.fixture(autouse=True)
def quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def panels(name: str, second: str | None = None) -> list[Axes]:
    return study_figures(TRIALS, IMPORTANCES, second)[name].axes


def test_history_shows_the_complete_trials_in_their_places_and_the_best_so_far() -> None:
    (axes,) = panels("optimization_history")
    np.testing.assert_array_equal(
        axes.collections[0].get_offsets(), [(0, 2.0), (1, 1.0), (4, 1.5)]
    )
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["validation loss", "best so far", "the experiment as it was"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2.0, 1.0, 1.0, 1.0, 1.0])


def test_slices_have_one_panel_a_field_with_the_trials_that_have_it() -> None:
    *fields, bar = panels("slices")
    by_name = {axes.get_xlabel(): axes for axes in fields}
    assert list(by_name) == list(FIELDS)
    counts = [len(axes.collections[0].get_offsets()) for axes in fields]
    assert counts == [2, 3, 3]
    assert by_name["trainer.lr"].get_xscale() == "log"
    choices = by_name["density_estimator.type"].get_xticklabels()
    assert [label.get_text() for label in choices] == ["mdn", "maf"]
    # the same colour is the same trial in all panels
    assert len({axes.collections[0].get_clim() for axes in fields}) == 1
    assert bar.get_ylim() == (0, 4)


def test_coordinates_draw_one_line_a_complete_trial() -> None:
    axes = panels("parallel_coordinates")[0]
    (lines,) = axes.collections
    assert sorted(line[0][1] for line in lines.get_segments()) == [1.0, 1.5, 2.0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names[1:] == [
        "num_components\ndensity_estimator.args",
        "type\ndensity_estimator",
        "lr\ntrainer",
    ]


def test_importances_are_those_given_the_largest_on_top() -> None:
    groups = IMPORTANCES | {"type = mdn": {"num_components": 0.7, "trainer.lr": 0.3}}
    figures = study_figures(TRIALS, groups, None)
    bars = [bar.get_width() for bar in figures["importances"].axes[0].patches]
    assert bars == pytest.approx([0.2, 0.8])
    assert figures["importances_1"].axes[0].get_title() == "where type = mdn"


def test_front_names_its_trials() -> None:
    (axes,) = panels("pareto_front", "parameters")
    assert {text.get_text() for text in axes.texts} == {"0", "1"}
    assert (axes.get_ylabel(), axes.get_yscale()) == ("weights", "log")


def test_loss_that_is_far_off_does_not_squeeze_the_others() -> None:
    worst = trial((1e6,), type="maf", lr=1e-4)
    one = [trial(t.values[:1] if t.values else (), t.state) for t in TRIALS]
    figures = study_figures([TRIALS[0], *one, worst], {}, None)
    assert figures["optimization_history"].axes[0].get_ylim()[1] < 10
    assert figures["parallel_coordinates"].axes[0].get_ylim()[1] < 10


def test_study_of_one_trial_is_drawn(tmp_path: Path) -> None:
    for name, figure in study_figures(TRIALS[:1], {}, "parameters").items():
        for path in write(figure, tmp_path / name):
            assert path.stat().st_size > 1000


def test_pyplot_is_afterwards_as_it_was() -> None:
    before = dict(mpl.rcParams), dict(style.library["ggplot"]), plt.get_fignums()
    study_figures(TRIALS, IMPORTANCES, "seconds")
    assert (dict(mpl.rcParams), dict(style.library["ggplot"]), plt.get_fignums()) == before


def test_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        figures = study_figures(TRIALS, IMPORTANCES, "seconds")
        paths = [path for name, f in figures.items() for path in write(f, folder / name)]
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("backend", "changes"),
    [("module://matplotlib_inline.backend_inline", []), ("tkagg", ["agg", "tkagg"])],
)
def test_a_notebook_keeps_its_backend(
    backend: str, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(mpl, "get_backend", lambda auto_select: backend)
    monkeypatch.setattr(plt, "switch_backend", asked.append)
    with figures._house_style(4, 3):
        pass
    assert asked == changes
