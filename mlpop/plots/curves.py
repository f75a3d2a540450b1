"""Training curves: log probability of training and validation set, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlpop.errors import DataError
from mlpop.plots.style import MEDIAN, MUTED, SAMPLES, SECOND, bare, styled

Statistics = Mapping[str, Mapping[str, Sequence[Any]]]
"""Content of `training_statistics.json`: tag -> step, value, wall_time."""

TRAINING = "training_log_probs"
VALIDATION = "validation_log_probs"


def training_curves(records: Statistics, title: str = "") -> Figure:
    """Draw both log probabilities against the epoch, from 1 on, and mark the best epoch.

    Args:
        records: content of a `training_statistics.json`.
        title: above the axes.

    Raises:
        DataError: a curve is missing, or has no values.
    """
    curves = {tag: _curve(records, tag) for tag in (TRAINING, VALIDATION)}
    with styled():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for (tag, (step, value)), colour in zip(curves.items(), (SAMPLES, SECOND), strict=True):
            name = tag.removesuffix("_log_probs")
            marker = "." if len(step) < 30 else ""
            axes.plot(step, value, color=colour, lw=1.5, marker=marker, label=name)
        step, value = curves[VALIDATION]
        best = int(np.nanargmax(value))
        axes.axvline(step[best], color=MUTED, lw=0.9, ls="--", zorder=0)
        axes.plot(
            step[best],
            value[best],
            "o",
            color=MEDIAN,
            ms=5,
            label=f"best: {value[best]:.3f} in epoch {step[best]:.0f}",
        )
        axes.set_ylim(*_limits(curves))
        axes.set_xlabel("Epoch")
        axes.set_ylabel("Log probability")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e6eaee", lw=0.7)
        axes.legend(loc="lower right")
        bare(axes)
        if title:
            axes.set_title(title)
    return figure


def _curve(records: Statistics, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs, counted from 1 whatever steps came before, and the values."""
    if tag not in records:
        raise DataError(f"training curves need '{tag}', found {', '.join(sorted(records))}")
    step = np.asarray(records[tag]["step"], dtype=np.float64)
    value = np.asarray(records[tag]["value"], dtype=np.float64)
    if len(step) != len(value) or not np.isfinite(value).any():
        raise DataError(
            f"'{tag}' needs one finite value a step, found {len(step)} steps and "
            f"{np.isfinite(value).sum()} finite of {len(value)} values"
        )
    return step - step[0] + 1, value


def _limits(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Show the last nine tenths of every curve; the first epochs may fall far below."""
    tails = [value[len(value) // 10 :] for _, value in curves.values()]
    shown = np.concatenate(tails)
    low, high = np.nanmin(shown), np.nanmax(np.concatenate([v for _, v in curves.values()]))
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
