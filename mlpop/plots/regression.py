"""Point estimates: predicted against true values, residuals, losses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mlpop.errors import DataError
from mlpop.plots.style import (
    BAND,
    MEDIAN,
    MUTED,
    SAMPLES,
    SECOND,
    axis_label,
    bare,
    panels,
    styled,
    symbol,
)

BINS = 10
FEWEST_IN_BIN = 3
MANY = 400
"""Samples from which points are drawn smaller and fainter."""

FEW_EPOCHS = 30
"""Fewer are marked one by one; a line through one epoch is nothing to see."""

Array = NDArray[np.float64]


def predicted_against_true(
    labels: Sequence[str],
    truth: Array,
    predicted: Array,
    sigma: Array | None = None,
    title: str = "",
) -> Figure:
    """Draw predicted against true values, one panel a label, with the line of equality.

    Args:
        labels: D names.
        truth: (n, D) true values.
        predicted: (n, D) predictions.
        sigma: (n, D) predicted standard deviations, drawn as bars.
        title: above all panels.

    Raises:
        DataError: the arrays do not fit together.
    """
    _check(labels, truth, predicted)
    with styled():
        figure, grid = _panels(len(labels), 4.0)
        for d, (axes, label) in enumerate(zip(grid, labels, strict=True)):
            t, p = truth[:, d], predicted[:, d]
            low, high = _range(np.concatenate([t, p]))
            axes.plot([low, high], [low, high], color=MUTED, lw=1.0, zorder=1)
            if sigma is not None:
                axes.errorbar(t, p, sigma[:, d], fmt="none", ecolor=BAND, lw=0.7, zorder=2)
            _points(axes, t, p)
            rmse, std = float(np.sqrt(np.mean((p - t) ** 2))), float(np.std(t))
            text = f"RMSE {rmse:.3g}"
            if std > 0:
                text += f"\n{rmse / std:.3g} of the spread"
            axes.text(0.05, 0.95, text, transform=axes.transAxes, va="top")
            axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
            axes.set_xlabel(f"true {axis_label(label)}")
            axes.set_ylabel(f"predicted {axis_label(label)}")
        if title:
            figure.suptitle(title)
    return figure


def residuals(labels: Sequence[str], truth: Array, predicted: Array, title: str = "") -> Figure:
    """Draw predicted minus true values against the true ones, with mean and RMSE in bins.

    Args:
        labels: D names.
        truth: (n, D) true values.
        predicted: (n, D) predictions.
        title: above all panels.

    Raises:
        DataError: the arrays do not fit together.
    """
    _check(labels, truth, predicted)
    with styled():
        figure, grid = _panels(len(labels), 3.4)
        for d, (axes, label) in enumerate(zip(grid, labels, strict=True)):
            t, r = truth[:, d], predicted[:, d] - truth[:, d]
            axes.axhline(0, color=MUTED, lw=1.0, zorder=1)
            _points(axes, t, r)
            centre, mean, rmse = binned(t, r)
            if len(centre):
                axes.plot(centre, mean, "o-", color=MEDIAN, ms=4, lw=1.2, label="mean in bin")
                axes.plot(centre, rmse, "--", color=SECOND, lw=1.3, label="RMSE in bin")
                axes.legend(loc="best")
            largest = 1.08 * float(np.max(np.abs(r))) or 1.0
            axes.set(ylim=(-largest, largest))
            axes.set_xlabel(f"true {axis_label(label)}")
            axes.set_ylabel("predicted - true")
            bare(axes)
        if title:
            figure.suptitle(title)
    return figure


def loss_curves(
    evaluated: Mapping[str, Mapping[str, Mapping[str, Any]]], labels: Sequence[str]
) -> Figure:
    """Draw the losses of the labels and their sum against the epoch, physical units.

    Args:
        evaluated: name of a set -> content of its results file.
        labels: D names.

    Raises:
        DataError: a file has no epochs.
    """
    names = ["loss", *labels]
    colours = dict(zip(evaluated, (SAMPLES, SECOND), strict=False))
    with styled():
        figure, grid = _panels(len(names), 3.2)
        for axes, name in zip(grid, names, strict=True):
            for key, epochs in evaluated.items():
                values = np.array(
                    [np.nan if e[name] is None else e[name] for e in epochs.values()], dtype=float
                )
                if not len(values):
                    raise DataError(f"the results of the {key} set have no epochs")
                step = np.array([int(epoch) for epoch in epochs])
                marker = "." if len(step) < FEW_EPOCHS else ""
                axes.plot(step, values, color=colours[key], lw=1.3, marker=marker, label=key)
                if np.all(values[np.isfinite(values)] > 0):
                    axes.set_yscale("log")
            axes.set_xlabel("Epoch")
            axes.set_ylabel("total loss" if name == "loss" else f"loss of {symbol(name)}")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(color="#e6eaee", lw=0.7)
            bare(axes)
        grid[0].legend(loc="upper right")
    return figure


def binned(truth: Array, residual: Array, bins: int = BINS) -> tuple[Array, Array, Array]:
    """Return centre, mean residual and RMSE of bins (low, high] of the truth.

    The first edge lies below the smallest value, so that every sample is in a bin; bins with
    fewer than three samples are left out.

    Args:
        truth: (n,) true values.
        residual: (n,) predicted minus true.
        bins: number of bins of equal width.
    """
    edges = np.linspace(truth.min(), truth.max(), bins + 1)
    which = np.clip(np.searchsorted(edges, truth, side="left") - 1, 0, bins - 1)
    filled = [b for b in range(bins) if np.sum(which == b) >= FEWEST_IN_BIN]
    centre = np.array([(edges[b] + edges[b + 1]) / 2 for b in filled])
    mean = np.array([residual[which == b].mean() for b in filled])
    rmse = np.array([np.sqrt(np.mean(residual[which == b] ** 2)) for b in filled])
    return centre, mean, rmse


def _panels(count: int, side: float) -> tuple[Figure, list[Axes]]:
    return panels(count, min(count, 3), (1.1 * side, side))


def _points(axes: Axes, x: Array, y: Array) -> None:
    size, alpha = (9, 0.45) if len(x) > MANY else (16, 0.7)
    axes.scatter(x, y, s=size, color=SAMPLES, alpha=alpha, lw=0, zorder=3)


def _range(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _check(labels: Sequence[str], truth: Array, predicted: Array) -> None:
    shape = (len(truth), len(labels))
    if truth.shape != shape or predicted.shape != shape or not len(truth):
        raise DataError(
            f"expected (n, {len(labels)}) true and predicted values, found shapes "
            f"{truth.shape} and {predicted.shape}"
        )
