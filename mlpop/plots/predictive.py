"""What was observed beside what its posterior predicts."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mlpop.config.blocks.generator import is_count
from mlpop.errors import DataError
from mlpop.plots.population import (
    P_LIMITS,
    PDOT_LIMITS,
    Planes,
    draw_map,
    is_survey_map,
    kind_of,
    map_norm,
    map_title,
)
from mlpop.plots.style import BAND, COUNTS, MEDIAN, MUTED, axis_label, panels, styled

RESIDUALS = "RdBu_r"
LARGEST_RESIDUAL = 4.0
COLUMNS = ("observed", "mean of the predictions", "one prediction", "observed - mean")
LEVELS = ((0.95, 0.4), (0.68, 0.8))
"""Part of the predictions that a band holds, and how opaque it is."""


def predictive(
    observed: ArrayLike,
    predicted: ArrayLike,
    channels: Sequence[str],
    p_limits: tuple[float, float] = P_LIMITS,
    pdot_limits: tuple[float, float] = PDOT_LIMITS,
    planes: Planes | None = None,
) -> Figure:
    """Draw an observation beside predictions of it.

    Of maps each row shows one: observed, the mean of the predictions, one of them, and what the
    observation has more than the mean, in standard deviations of the predictions; counts beside
    the maps have a histogram of the predictions. Of a vector
    every component is drawn in standard deviations from the mean of its predictions.

    Args:
        observed: (*x_shape), maps (C, H, W) or a vector (C,).
        predicted: (n, *x_shape).
        channels: C names.
        p_limits: of the maps' period axis [s].
        pdot_limits: of the maps' period-derivative axis [s/s].
        planes: those of sky maps among the channels.

    Raises:
        DataError: the shapes differ.
    """
    x_o, x = np.asarray(observed, np.float64), np.asarray(predicted, np.float64)
    if x.shape[1:] != x_o.shape or x_o.shape[:1] != (len(channels),) or len(x) < 2:
        raise DataError(
            f"predictions of {len(channels)} channels have the observation's shape, found "
            f"{x.shape} for {x_o.shape}"
        )
    with styled():
        if x_o.ndim == 3:
            return _maps(x_o, x, channels, p_limits, pdot_limits, planes)
        return _components(x_o.ravel(), x.reshape(len(x), -1), channels)


def residual(observed: NDArray, predicted: NDArray) -> NDArray[np.float64]:
    """Return (observed - mean) in standard deviations of predictions (n, H, W) of a map (H, W).

    Pixels that hardly vary get a tenth of the map's mean deviation, for those that are empty in
    nearly all predictions.
    """
    variance = predicted.var(0, ddof=1)
    deviation = np.sqrt(variance + 0.01 * variance.mean())
    difference = observed - predicted.mean(0)
    return np.where(deviation > 0, difference / np.where(deviation > 0, deviation, 1), 0.0)


def _maps(
    observed: NDArray,
    predicted: NDArray,
    channels: Sequence[str],
    p_limits: tuple[float, float],
    pdot_limits: tuple[float, float],
    planes: Planes | None,
) -> Figure:
    def draw(axes: Axes, name: str, values: NDArray, norm: Normalize, colours: str) -> QuadMesh:
        if is_survey_map(name, planes):
            return draw_map(axes, name, values, norm, p_limits, pdot_limits, colours, planes)
        return axes.pcolormesh(values.T, norm=norm, cmap=colours, rasterized=True)

    figure, grid = panels(len(COLUMNS) * len(channels), len(COLUMNS), (3.4, 2.8), (0.6, 0.3))
    for row, name in enumerate(channels):
        axes = grid[len(COLUMNS) * row :]
        if is_count(name):
            _count(axes, observed[row], predicted[:, row], map_title(name))
            continue
        shown = np.stack([observed[row], predicted[:, row].mean(0), predicted[0, row]])
        survey = is_survey_map(name, planes)
        norm = map_norm(name, shown)
        colours = kind_of(name, planes).colours if survey else COUNTS
        for place, values in zip(axes, shown, strict=False):
            image = draw(place, name, values, norm, colours)
        value = kind_of(name, planes).value if survey else ""
        figure.colorbar(image, ax=axes[2], label=value, pad=0.02)
        limits = Normalize(-LARGEST_RESIDUAL, LARGEST_RESIDUAL)
        image = draw(axes[3], name, residual(observed[row], predicted[:, row]), limits, RESIDUALS)
        figure.colorbar(image, ax=axes[3], label="standard deviations", pad=0.02)
        title = map_title(name) if survey else name
        for place, column in zip(axes, COLUMNS, strict=False):
            place.set_title(f"{title}: {column}", fontsize=10)
    return figure


def _count(axes: Sequence[Axes], observed: NDArray, predicted: NDArray, title: str) -> None:
    """Draw one number, which fills its channel, beside its predictions (n, H, W)."""
    axes[0].hist(predicted[:, 0, 0], bins="auto", color=BAND, label="predictions")
    axes[0].axvline(observed[0, 0], color=MEDIAN, label="observed")
    axes[0].set(xlabel="detected pulsars", ylabel="simulations")
    axes[0].set_title(f"{title}: observed {observed[0, 0]:g}", fontsize=10)
    axes[0].legend()
    for place in axes[1 : len(COLUMNS)]:
        place.set_axis_off()


def _components(observed: NDArray, predicted: NDArray, channels: Sequence[str]) -> Figure:
    deviation = predicted.std(0, ddof=1)
    deviation = np.where(deviation > 0, deviation, 1.0)
    mean = predicted.mean(0)
    figure, (axes,) = panels(1, 1, (min(14.0, 3.0 + 0.5 * len(channels)), 4.0))
    places = np.arange(len(channels))
    for level, alpha in LEVELS:
        low, high = np.quantile(
            (predicted - mean) / deviation, [(1 - level) / 2, (1 + level) / 2], 0
        )
        name = f"{level:.0%} of the predictions".replace("%", " %")
        axes.bar(places, high - low, 0.6, bottom=low, color=BAND, alpha=alpha, label=name)
    axes.use_sticky_edges = False
    axes.axhline(0, color=MUTED, lw=0.8)
    axes.plot(places, (observed - mean) / deviation, "o", color=MEDIAN, label="observed")
    axes.set_xticks(places, [axis_label(name) for name in channels])
    axes.tick_params(axis="x", rotation=45 if len(channels) > 6 else 0)
    axes.set(
        ylabel="standard deviations from the mean", title="The observation and its predictions"
    )
    figure.legend(loc="outside lower center")
    return figure
