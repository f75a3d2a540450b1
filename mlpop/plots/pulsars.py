"""Single pulsars: what was observed beside what its posterior predicts."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import DataError
from mlpop.plots.population import P_LIMITS, PDOT_LIMITS
from mlpop.plots.style import BAND, MEDIAN, MUTED, bare, panels, styled

SHOWN = 3
"""Predictions whose pulsars are drawn one by one."""

BINS = 24
BAND_LEVEL = 0.95

HISTOGRAMS = {
    4: (r"$\log_{10}$ DM [pc cm$^{-3}$]", np.log10),
    3: (r"$|b|$ [deg]", np.abs),
    5: (r"$\log_{10} S_{1400}$ [Jy]", np.log10),
}
"""Column of a table -> name and scale of its histogram."""


def predictive_pulsars(
    observed: Mapping[str, ArrayLike],
    predicted: Mapping[str, ArrayLike],
    p_limits: tuple[float, float] = P_LIMITS,
    pdot_limits: tuple[float, float] = PDOT_LIMITS,
) -> Figure:
    """Draw a row a survey: P and P_dot of single pulsars, and histograms of what else is known.

    Histograms are fractions of the pulsars; bands hold 95 % of the predictions.

    Args:
        observed: survey -> table (n, 6), columns as in `mlpop.maps.pulsars`, 0 where not known.
        predicted: survey -> tables (m, n, 6).
        p_limits: of the period axis [s].
        pdot_limits: of the period-derivative axis [s/s].

    Raises:
        DataError: there is no survey, or one has no prediction or tables of other columns.
    """
    surveys = {s: (np.asarray(observed[s]), np.asarray(predicted[s])) for s in observed}
    fits = [x.ndim == 3 and len(x) > 0 and x.shape[1:] == x_o.shape for x_o, x in surveys.values()]
    if not surveys or not all(fits):
        raise DataError("tables of predicted pulsars must have the shape of the observed ones")
    with styled():
        columns = 1 + len(HISTOGRAMS)
        figure, grid = panels(columns * len(surveys), columns, (3.2, 2.8))
        for row, (survey, (x_o, x)) in enumerate(surveys.items()):
            axes = grid[columns * row : columns * (row + 1)]
            _points(axes[0], x_o, x[:SHOWN])
            axes[0].set(title=survey, xlim=p_limits, ylim=pdot_limits)
            for place, (column, (name, scale)) in zip(axes[1:], HISTOGRAMS.items(), strict=True):
                values = [scale(_known(table, column)) for table in (x_o, *x)]
                _histogram(place, values)
                place.set(xlabel=name, ylabel="fraction of the pulsars")
                bare(place)
        grid[0].legend(loc="lower right", markerscale=2)
        grid[columns - 1].legend(loc="upper right")
    return figure


def _known(table: NDArray, column: int) -> NDArray:
    """Return what is known of a column of a table (n, 6); a latitude of 0 is one."""
    there = (table[:, 0] > 0) & ((column == 3) | (table[:, column] > 0))
    return np.asarray(table[there, column])


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
