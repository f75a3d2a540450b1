"""The corner plot of posterior draws: marginals, pairs, medians, intervals and the truth."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from mlpop.errors import DataError
from mlpop.io.digits import decimals, takes_powers
from mlpop.plots.style import MEDIAN, SAMPLES, SECOND, TRUTH, axis_label, styled, symbol

BINS = 32
"""Bins of a marginal over its panel, and of a pair over the extent of its draws."""

QUANTILES = (0.025, 0.5, 0.975)

MASSES = tuple(1 - np.exp(-0.5 * sigma**2) for sigma in (1, 2, 3))
"""Enclosed by the contours: 1, 2 and 3 sigma of a two-dimensional Gaussian."""

CONTOUR_DRAWS = 100
"""Fewest draws of which contours are drawn; fewer are drawn as points."""

PANEL = 2.1
"""Side of one panel [inch]."""


def intervals(samples: ArrayLike) -> NDArray[np.float64]:
    """Return the 2.5, 50 and 97.5 percentiles (D, 3) of draws (S, D)."""
    return np.quantile(np.asarray(samples, dtype=np.float64), QUANTILES, axis=0).T


def interval_text(low: float, median: float, high: float) -> str:
    """Write a median with its 95 % interval, to two digits of the narrower side."""
    down, up = median - low, high - median
    if takes_powers(low, median, high):
        power = int(np.floor(np.log10(max(abs(low), abs(median), abs(high)))))
        # in two steps: ten to a power below -307 has no reciprocal
        parts = ((value * 10.0 ** (-power // 2)) for value in (low, median, high))
        inner = interval_text(*(value * 10.0 ** (-power - -power // 2) for value in parts))
        return f"$({inner[1:-1]})\\times 10^{{{power}}}$"
    digits = decimals(low, median, high)
    return f"${median:.{digits}f}_{{-{down:.{digits}f}}}^{{+{up:.{digits}f}}}$"


def density(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the density of draws on a grid that fits them, however narrow they are.

    Args:
        x, y: (S,) draws.
        x_range, y_range: edges of the panel, where the density ends.

    Returns:
        Nodes of x and of y, each (B + 2,), and the counts there (B + 2, B + 2), first axis x,
        smoothed by one bin. Nodes are the bin centres and, level with them, the outer edges.
    """
    edges = [_grid(values, extent) for values, extent in ((x, x_range), (y, y_range))]
    counts, _, _ = np.histogram2d(x, y, bins=edges)
    nodes = [np.r_[edge[0], (edge[:-1] + edge[1:]) / 2, edge[-1]] for edge in edges]
    return nodes[0], nodes[1], np.pad(gaussian_filter(counts, 1.0, mode="nearest"), 1, mode="edge")


def contour_levels(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    grid: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the heights, rising, whose contours enclose `MASSES` of the draws.

    The heights are quantiles of the gridded density at the draws themselves, so that a contour
    encloses its share whatever bins and smoothing do to the density.

    Args:
        x, y: (S,) draws.
        grid: nodes and counts of `density`.
    """
    heights = interpolate(x, y, grid)
    return np.quantile(heights, [1 - mass for mass in reversed(MASSES)])


def interpolate(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    grid: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the gridded density (S,) at points, bilinear, level beyond the outer nodes."""
    nodes_x, nodes_y, counts = grid
    i, u = _cell(x, nodes_x)
    j, v = _cell(y, nodes_y)
    low = (1 - v) * counts[i, j] + v * counts[i, j + 1]
    high = (1 - v) * counts[i + 1, j] + v * counts[i + 1, j + 1]
    return (1 - u) * low + u * high


def corner(
    samples: ArrayLike,
    labels: Sequence[str],
    truth: ArrayLike | None = None,
    bounds: Sequence[tuple[float, float]] | None = None,
    title: str = "",
    *,
    prior: Sequence[Callable[[NDArray[np.float64]], NDArray[np.float64]]] | None = None,
) -> Figure:
    """Draw marginals on the diagonal and pairs below it.

    Dashed lines mark the 2.5 and 97.5 percentiles, red lines and squares the median, black stars
    the truth; contours enclose 39.3, 86.5 and 98.9 % of the draws.

    Args:
        samples: (S, D) draws, physical units.
        labels: D names.
        truth: (D,) true values, if known.
        bounds: (low, high) of every panel, usually the prior; by default the extent of draws and
            truth.
        title: above the figure.
        prior: distribution function of every label's prior, which is then an orange line in
            every marginal, of as many draws.

    Raises:
        DataError: shapes that do not fit, fewer than two draws, or values that are not finite.
    """
    draws = _checked(samples, labels, truth, bounds)
    size = len(labels)
    true = None if truth is None else np.asarray(truth, dtype=np.float64)
    seen = draws if true is None else np.vstack([draws, true])
    panels = [_extent(values) for values in seen.T] if bounds is None else list(bounds)
    summary = intervals(draws)
    with styled():
        side = PANEL * size + 0.9
        figure = Figure(figsize=(side, side))
        figure.subplots_adjust(
            left=0.8 / side,
            bottom=0.75 / side,
            right=1 - 0.15 / side,
            top=1 - 0.5 / side,
            wspace=0.07,
            hspace=0.07,
        )
        axes = figure.subplots(size, size, squeeze=False)
        for row in range(size):
            for column in range(size):
                panel = axes[row, column]
                if column > row:
                    panel.set_axis_off()
                    continue
                if row == column:
                    width = _marginal(panel, draws[:, row], panels[row], summary[row])
                    if prior is not None:
                        edges = np.linspace(*panels[row], BINS + 1)
                        counts = len(draws) * np.diff(prior[row](edges))
                        counts *= width / np.diff(edges)
                        panel.stairs(counts, edges, baseline=None, color=SECOND, lw=1.3, zorder=1)
                    panel.set_title(
                        f"{symbol(labels[row])} = {interval_text(*summary[row])}", fontsize=12
                    )
                else:
                    _pair(panel, draws[:, column], draws[:, row], panels[column], panels[row])
                    panel.axvline(summary[column, 1], color=MEDIAN, lw=0.9)
                    panel.axhline(summary[row, 1], color=MEDIAN, lw=0.9)
                    panel.plot(summary[column, 1], summary[row, 1], "s", color=MEDIAN, ms=4)
                if true is not None:
                    _mark_truth(panel, true[column], None if row == column else true[row])
                _ticks(panel, row, column, labels)
        _legend(figure, size, with_truth=true is not None, with_prior=prior is not None)
        if title:
            figure.suptitle(title, x=0.99, y=0.995, ha="right", va="top", fontsize=12)
    return figure


def _marginal(
    axes: Axes, values: NDArray[np.float64], panel: tuple[float, float], summary: ArrayLike
) -> float:
    """Draw a histogram whose bins fit the draws, however narrow they are; return their width."""
    counts, edges = np.histogram(values, bins=_grid(values, panel))
    axes.stairs(counts, edges, fill=True, color=SAMPLES, alpha=0.25)
    axes.stairs(counts, edges, color=SAMPLES, lw=1.3)
    low, median, high = np.asarray(summary)
    for edge in (low, high):
        axes.axvline(edge, color=SAMPLES, lw=0.9, ls="--")
    axes.axvline(median, color=MEDIAN, lw=1.2)
    axes.set_xlim(panel)
    axes.set_ylim(0, max(1, counts.max()) * 1.12)
    return float(edges[1] - edges[0])


def _pair(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_panel: tuple[float, float],
    y_panel: tuple[float, float],
) -> None:
    axes.set_xlim(x_panel)
    axes.set_ylim(y_panel)
    grid = density(x, y, x_panel, y_panel)
    levels = contour_levels(x, y, grid)
    if len(x) < CONTOUR_DRAWS or levels[0] <= 0 or np.any(np.diff(levels) <= 0):
        axes.plot(x, y, ".", color=SAMPLES, ms=2, alpha=0.5, rasterized=True)
        return
    nodes_x, nodes_y, counts = grid
    fills = [(*_rgb(SAMPLES), alpha) for alpha in (0.14, 0.32, 0.55)]
    edges = [*levels, max(counts.max(), levels[-1]) * 1.01]
    axes.contourf(nodes_x, nodes_y, counts.T, levels=edges, colors=fills)
    axes.contour(nodes_x, nodes_y, counts.T, levels=levels, colors=SAMPLES, linewidths=0.9)


def _mark_truth(axes: Axes, x: float, y: float | None) -> None:
    axes.axvline(x, color=TRUTH, lw=1.0, ls=":")
    if y is not None:
        axes.axhline(y, color=TRUTH, lw=1.0, ls=":")
        axes.plot(x, y, "*", color=TRUTH, ms=9, mec="white", mew=0.6, zorder=5)


def _ticks(axes: Axes, row: int, column: int, labels: Sequence[str]) -> None:
    last = row == len(labels) - 1
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
    axes.tick_params(direction="in", labelbottom=last, labelleft=0 < row != column and column == 0)
    axes.tick_params(axis="x", labelrotation=40)
    if row == column:
        axes.set_yticks([])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
    if last:
        axes.set_xlabel(axis_label(labels[column]))
    if column == 0 and row > 0:
        axes.set_ylabel(axis_label(labels[row]))
    axes.xaxis.set_label_coords(0.5, -0.27)
    axes.yaxis.set_label_coords(-0.27, 0.5)


def _legend(figure: Figure, size: int, *, with_truth: bool, with_prior: bool) -> None:
    if size < 2:
        return
    handles = [
        Line2D([], [], color=MEDIAN, marker="s", ms=4, lw=1.2, label="median"),
        Line2D([], [], color=SAMPLES, ls="--", lw=0.9, label="95 % interval"),
    ]
    if with_truth:
        handles.append(
            Line2D([], [], color=TRUTH, marker="*", ms=9, ls=":", lw=1.0, label="truth")
        )
    if with_prior:
        handles.append(Line2D([], [], color=SECOND, lw=1.3, label="prior"))
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.98, 0.93), fontsize=11)


def _checked(
    samples: ArrayLike,
    labels: Sequence[str],
    truth: ArrayLike | None,
    bounds: Sequence[tuple[float, float]] | None,
) -> NDArray[np.float64]:
    draws = np.asarray(samples, dtype=np.float64)
    if draws.ndim != 2 or draws.shape[1] != len(labels) or len(draws) < 2:
        raise DataError(
            f"a corner plot of {len(labels)} labels needs at least two draws of shape "
            f"(S, {len(labels)}), found {draws.shape}"
        )
    if not np.isfinite(draws).all():
        raise DataError("a corner plot needs finite draws, found NaN or infinity")
    for name, values in (("truth", truth), ("bounds", bounds)):
        if values is not None and len(np.asarray(values)) != len(labels):
            raise DataError(
                f"{name} must have one entry a label ({len(labels)}), "
                f"found {len(np.asarray(values))}"
            )
    return draws


def _extent(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _grid(values: NDArray[np.float64], panel: tuple[float, float]) -> NDArray[np.float64]:
    """Edges that cover all but the furthest draws with a margin, within the panel."""
    low, high = np.quantile(values, (0.001, 0.999))
    margin = 0.25 * (high - low)
    low, high = max(panel[0], low - margin), min(panel[1], high + margin)
    if not low < high:
        low, high = panel
    return np.linspace(low, high, BINS + 1)


def _cell(
    values: NDArray[np.float64], nodes: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    place = np.interp(values, nodes, np.arange(len(nodes), dtype=np.float64))
    index = np.minimum(place.astype(np.intp), len(nodes) - 2)
    return index, place - index


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
