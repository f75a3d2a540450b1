"""Figures of a study: those of Optuna, in the style of all others."""

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from optuna.exceptions import ExperimentalWarning
from optuna.importance import BaseImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import matplotlib as draw

from mlpop.plots.style import MEDIAN, MUTED, RC, SAMPLES, bare

LOSS = "validation loss (negative log-probability)"
SHORT_LOSS = "validation loss"
OBJECTIVES = {"seconds": "training time [s]", "parameters": "weights"}
COLUMNS = 3
WHITE = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
HOUSE = RC | {"axes.grid": True, "grid.color": "#e6eaee", "figure.constrained_layout.use": True}


def study_figures(
    trials: Sequence[FrozenTrial],
    importances: Mapping[str, Mapping[str, float]],
    second: str | None,
) -> dict[str, Figure]:
    """Draw what a study found.

    Args:
        trials: that ended, in their places; the first is the experiment as it was. One at least
            is complete.
        importances: group of trials -> field -> its share of the loss's variation.
        second: the second objective, if there is one.

    Returns:
        Name of the file without suffix -> figure.
    """
    study = _study(trials, objectives=1)
    losses = [trial.value for trial in study.trials if trial.state == TrialState.COMPLETE]
    limits = _limits([loss for loss in losses if loss is not None])
    figures = {
        "optimization_history": _history(study, limits),
        "slices": _slices(study, limits),
        "parallel_coordinates": _parallel_coordinates(study, limits),
    }
    for number, (group, shares) in enumerate(importances.items()):
        suffix, title = ("", "") if group == "all" else (f"_{number}", f"where {group}")
        figures[f"importances{suffix}"] = _importances(study, shares, title)
    if second is not None:
        figures["pareto_front"] = _pareto_front(_study(trials, objectives=2), limits, second)
    return figures


def _study(trials: Sequence[FrozenTrial], *, objectives: int) -> optuna.Study:
    """Return a study in memory whose trials have the numbers of their places.

    Those of the study itself are larger where trials had to start again after an interruption.
    """
    study = optuna.create_study(directions=["minimize"] * objectives)
    for trial in trials:
        complete = trial.state == TrialState.COMPLETE
        study.add_trial(
            create_trial(
                state=trial.state,
                values=trial.values[:objectives] if complete else None,
                params=trial.params,
                distributions=trial.distributions,
            )
        )
    return study


def _history(study: optuna.Study, limits: tuple[float, float]) -> Figure:
    with _house_style(6.8, 4.2):
        figure = _drawn(draw.plot_optimization_history, study, target_name=SHORT_LOSS)
        (axes,) = figure.axes
        axes.collections[0].set_color(SAMPLES)
        axes.lines[0].set(color=MEDIAN, alpha=1, drawstyle="steps-post", label="best so far")
        if (own := study.trials[0].value) is not None:
            axes.axhline(own, color=MUTED, ls="--", lw=1, label="the experiment as it was")
        axes.set(title="", ylim=limits, ylabel=LOSS)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
        bare(axes)
    return figure


def _slices(study: optuna.Study, limits: tuple[float, float]) -> Figure:
    """Draw the loss against every field by itself, in rows of three."""
    with _house_style(7, 2.9):
        figure = _drawn(draw.plot_slice, study, target_name=SHORT_LOSS)
        *panels, bar = figure.axes
        rows = math.ceil(len(panels) / COLUMNS)
        last = max(len(study.trials) - 1, 1)
        figure.suptitle("")
        figure.set_size_inches(3.4 * min(len(panels), COLUMNS) + 0.8, 2.9 * rows)
        grid = figure.add_gridspec(rows, min(len(panels), COLUMNS))
        for number, axes in enumerate(panels):
            axes.set_subplotspec(grid[divmod(number, COLUMNS)])
            # one scale for all panels, from a blue on that can be seen on white
            axes.collections[0].set_clim(-0.4 * last, last)
            first = number % COLUMNS == 0
            axes.tick_params(labelleft=first)
            axes.set(title="", ylabel=SHORT_LOSS if first else "", ylim=limits)
            axes.xaxis.label.set_fontsize(9)
            _plain_powers(axes.xaxis)
            _name_choices(axes)
            bare(axes)
        bar.grid(visible=False)
        bar.set_ylim(0, last)
        bar.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _parallel_coordinates(study: optuna.Study, limits: tuple[float, float]) -> Figure:
    """Draw every complete trial as a line from its loss over all fields, the best ones darkest."""
    # Optuna's order; it cuts the names
    fields = sorted({name for trial in study.trials for name in trial.params})
    with _house_style(1.5 * len(fields) + 2.5, 4.6):
        figure = _drawn(
            draw.plot_parallel_coordinate,
            study,
            target=lambda trial: min(trial.value, limits[1]),
            target_name=SHORT_LOSS,
        )
        axes, bar, *others = figure.axes
        low, high = axes.get_ylim()
        axes.collections[0].set_clim(low, high + 0.4 * (high - low))
        bar.set_ylim(low, high)
        names = map(_two_lines, [SHORT_LOSS, *fields])
        axes.set_xticks(range(len(fields) + 1), names, rotation=0, fontsize=8)
        axes.set_title("")
        for other in (axes, bar, *others):
            other.grid(visible=False)
        for other in others:
            _plain_powers(other.yaxis)
            for label in other.get_yticklabels():
                label.set(fontsize=7.5, bbox=WHITE)
    return figure


class _Known(BaseImportanceEvaluator):
    """Importances that were computed before."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = shares

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        return dict(self.shares)


def _importances(study: optuna.Study, shares: Mapping[str, float], title: str) -> Figure:
    with _house_style(6.8, 1.2 + 0.42 * len(shares)):
        options = {"evaluator": _Known(shares), "params": list(shares)}
        figure = _drawn(draw.plot_param_importances, study, **options)
        (axes,) = figure.axes
        plt.setp(axes.patches, color=SAMPLES, height=0.62)
        axes.grid(visible=False, axis="y")
        axes.set_title("", loc="left")
        axes.set(title=title, xlabel="importance", ylabel="")
        axes.legend().remove()
        for label in axes.texts:
            label.set(text=f" {label.get_text()}", fontsize=9)
        bare(axes)
    return figure


def _pareto_front(study: optuna.Study, limits: tuple[float, float], second: str) -> Figure:
    with _house_style(6.4, 4.4):
        names = [LOSS, OBJECTIVES[second]]
        figure = _drawn(draw.plot_pareto_front, study, target_names=names)
        (axes,) = figure.axes
        axes.collections[0].set_color(SAMPLES)
        axes.collections[-1].set_color(MEDIAN)
        axes.set(title="", xlim=limits, yscale="log")
        axes.legend(["trial", "on the Pareto front"][-len(axes.collections) :])
        for trial in study.best_trials:
            axes.annotate(
                str(trial.number),
                (trial.values[0], trial.values[1]),
                textcoords="offset points",
                xytext=(5, 5),
                fontsize=8,
            )
        bare(axes)
    return figure


@contextmanager
def _house_style(width: float, height: float) -> Iterator[None]:
    """Let Optuna's functions draw in mlpop's style on a figure of this size [inch].

    They draw with pyplot in the style `ggplot`, which is mlpop's own in this block. Whatever
    pyplot's window system is, it is not needed; a notebook's backend stays, since IPython shows
    no figure any more after a change to another and back.
    """
    backend, ggplot = mpl.get_backend(auto_select=False), style.library["ggplot"]
    windows = backend is None or backend.lower() in backend_registry.list_builtin(
        BackendFilter.INTERACTIVE
    )
    if windows:
        plt.switch_backend("agg")
    size = {"figure.figsize": (width, height)}
    style.library["ggplot"] = mpl.RcParams(HOUSE | size)
    try:
        with mpl.rc_context(HOUSE | size):
            yield
    finally:
        style.library["ggplot"] = ggplot
        if windows and backend is not None:
            with suppress(ImportError):
                plt.switch_backend(backend)


def _drawn(function: Callable[..., Any], study: optuna.Study, **options: Any) -> Figure:
    """Return the figure that a function of Optuna draws, taken out of pyplot's list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # a field that has one value in all trials
        warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)
        axes = function(study, **options)
    figure: Figure = np.ravel(axes)[0].figure
    plt.close(figure)
    return figure


def _limits(values: Collection[float]) -> tuple[float, float]:
    """Return limits in which single values that are far off do not squeeze all others."""
    low, high = min(values), max(values)
    first, third = np.quantile(list(values), [0.25, 0.75])
    high = min(high, third + 3 * (third - low)) if third > low else high
    margin = 0.07 * (high - low) or 0.1
    return float(low - margin), float(high + margin)


def _plain_powers(axis: Axis) -> None:
    """Write 0.001 and 0.003 on a logarithmic axis."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _name_choices(axes: Axes) -> None:
    """Write choices without quotes, in small letters where they would run into each other."""
    if not axes.xaxis.have_units():
        return
    names = [label.get_text().strip("'") for label in axes.get_xticklabels()]
    axes.set_xticks(range(len(names)), names, fontsize=7 if sum(map(len, names)) > 24 else 9)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _two_lines(name: str) -> str:
    block, _, last = name.rpartition(".")
    return f"{last}\n{block}"
