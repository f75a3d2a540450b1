"""Single pulsars: what was observed beside what its posterior predicts."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import DataError
from mlpop.inference.diagnostics.skies import COUNT, QUANTITIES, to_observed_total
from mlpop.maps.pulsars import known
from mlpop.plots.population import P_LIMITS, PDOT_LIMITS
from mlpop.plots.style import BAND, MEDIAN, MUTED, bare, panels, styled

SHOWN = 3
"""Predictions whose pulsars are drawn one by one."""

BINS = 24
BAND_LEVEL = 0.95

HISTOGRAMS = {
    "P": (r"$\log_{10} P$ [s]", np.log10),
    "P_dot": (r"$\log_{10} \dot{P}$ [s/s]", np.log10),
    "DM": (r"$\log_{10}$ DM [pc cm$^{-3}$]", np.log10),
    "abs_b": (r"$|b|$ [deg]", np.abs),
    "S1400": (r"$\log_{10} S_{1400}$ [Jy]", np.log10),
}
"""Quantity -> name and scale of its histogram."""

BESIDE = ("DM", "abs_b", "S1400")
"""What maps of P and P_dot do not show."""

PValues = Mapping[tuple[str, str], float | None]
"""Survey and quantity -> p-value; None where there is none."""


def predictive_pulsars(
    observed: Mapping[str, ArrayLike],
    predicted: Mapping[str, ArrayLike],
    p_limits: tuple[float, float] = P_LIMITS,
    pdot_limits: tuple[float, float] = PDOT_LIMITS,
    *,
    quantities: Sequence[str] = BESIDE,
    p_values: PValues | None = None,
) -> Figure:
    """Draw a row a survey: P and P_dot of single pulsars, and histograms of what else is known.

    Histograms are fractions of the pulsars; bands hold 95 % of the predictions.

    Args:
        observed: survey -> table (n, 6), columns as in `mlpop.maps.pulsars`, 0 where not known.
        predicted: survey -> tables (m, n, 6).
        p_limits: of the period axis [s].
        pdot_limits: of the period-derivative axis [s/s].
        quantities: the histograms, keys of `HISTOGRAMS`.
        p_values: written above them.

    Raises:
        DataError: there is no survey, or one has no prediction or tables of other columns.
    """
    surveys = {s: (np.asarray(observed[s]), np.asarray(predicted[s])) for s in observed}
    fits = [x.ndim == 3 and len(x) > 0 and x.shape[1:] == x_o.shape for x_o, x in surveys.values()]
    if not surveys or not all(fits):
        raise DataError("tables of predicted pulsars must have the shape of the observed ones")
    with styled():
        columns = 1 + len(quantities)
        figure, grid = panels(columns * len(surveys), columns, (3.2, 2.8))
        for row, (survey, (x_o, x)) in enumerate(surveys.items()):
            axes = grid[columns * row : columns * (row + 1)]
            _points(axes[0], x_o, x[:SHOWN])
            axes[0].set(title=survey, xlim=p_limits, ylim=pdot_limits)
            for place, quantity in zip(axes[1:], quantities, strict=True):
                name, scale = HISTOGRAMS[quantity]
                column = QUANTITIES[quantity]
                _histogram(place, [scale(known(table, column)) for table in (x_o, *x)])
                place.set(xlabel=name, ylabel="fraction of the pulsars")
                place.set_title(_p_text(p_values, survey, quantity), fontsize=10)
                bare(place)
        # below all panels: the pulsars of a sky may lie anywhere in them
        dots, bands = (grid[k].get_legend_handles_labels() for k in (0, columns - 1))
        handles, names = dots[0] + bands[0], dots[1] + bands[1]
        figure.legend(handles, names, loc="outside lower center", ncols=4, markerscale=4)
    return figure


def predictive_counts(
    observed: Mapping[str, int],
    predicted: Mapping[str, ArrayLike],
    p_values: PValues | None = None,
) -> Figure:
    """Draw a panel a survey: how many pulsars it finds, observed and in each prediction.

    Predictions are scaled to the observed number of all surveys, as that is how they are compared:
    a simulation goes on until the last survey has as many as observed.

    Args:
        observed: survey -> number.
        predicted: survey -> numbers (m,).
        p_values: of the quantity `count`.

    Raises:
        DataError: there is no survey, or one has no prediction.
    """
    numbers = {survey: np.asarray(predicted.get(survey, ())) for survey in observed}
    if not numbers or not all(values.size for values in numbers.values()):
        raise DataError("every survey must have numbers of predicted pulsars")
    total = sum(observed.values())
    with styled():
        figure, grid = panels(len(numbers), len(numbers), (3.4, 2.8))
        scaled = to_observed_total(observed, numbers)
        for axes, (survey, values) in zip(grid, scaled.items(), strict=True):
            low, high = float(values.min()), float(values.max())
            # numbers are whole: no bin is narrower than 1
            bins = max(1, min(BINS, round(high - low)))
            edges = np.linspace(low - 0.5, high + 0.5, bins + 1)
            axes.hist(values, edges.tolist(), color=BAND, label="predictions")
            axes.axvline(observed[survey], color=MEDIAN, label="observed")
            text = _p_text(p_values, survey, COUNT)
            axes.set(xlabel=f"detected pulsars, of {total} in all", ylabel="simulations")
            axes.set_title(f"{survey}: {text}" if text else survey)
            bare(axes)
        # beside the bars: the sky may lie among them, or far off
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _p_text(p_values: PValues | None, survey: str, quantity: str) -> str:
    p_value = None if p_values is None else p_values.get((survey, quantity))
    return "" if p_value is None else f"p = {p_value:.2g}"


def _points(axes: Axes, observed: NDArray, predicted: NDArray) -> None:
    dots = {"ls": "", "marker": ".", "ms": 2.0, "mew": 0, "rasterized": True}
    stars = predicted[predicted[..., 0] > 0]
    name = f"{len(predicted)} predictions"
    axes.loglog(stars[:, 0], stars[:, 1], color=MUTED, alpha=0.5, label=name, **dots)
    seen = observed[observed[:, 0] > 0]
    axes.loglog(seen[:, 0], seen[:, 1], color=MEDIAN, label="observed", **dots)
    axes.set(xlabel="$P$ [s]", ylabel=r"$\dot{P}$ [s/s]")


def _histogram(axes: Axes, values: list[NDArray]) -> None:
    """Draw the first of lists of values as a line, and the others as a band."""
    edges = np.histogram_bin_edges(np.concatenate(values), BINS)
    heights = np.array([np.histogram(v, edges)[0] / max(len(v), 1) for v in values])
    tail = (1 - BAND_LEVEL) / 2
    low, middle, high = np.quantile(heights[1:], [tail, 0.5, 1 - tail], 0)
    name = f"{BAND_LEVEL:.0%} of the predictions".replace("%", " %")
    axes.stairs(high, edges, baseline=low, fill=True, color=BAND, label=name)
    axes.stairs(middle, edges, color=MUTED)
    axes.stairs(heights[0], edges, color=MEDIAN, label="observed")
