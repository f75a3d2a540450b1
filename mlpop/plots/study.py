"""Figures of a hyperparameter study: history, importances, slices, parallel coordinates, front."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mlpop.errors import DataError
from mlpop.plots.style import MEDIAN, MUTED, SAMPLES, SECOND, bare, styled

Trials = Sequence[Mapping[str, Any]]
"""Of every trial `slot`, `state`, `value` (None without one), `losses`, `point`."""

COLOURS = {"complete": SAMPLES, "pruned": SECOND, "failed": MUTED}
MAP = "viridis_r"
COLUMNS = 3
GRID = "#e6eaee"


def study_history(trials: Trials, objective: str) -> Figure:
    """Draw every trial's value in order, and the best so far.

    Pruned trials stand at the lowest loss that they reached, failed ones at the bottom edge.

    Raises:
        DataError: no trial is complete.
    """
    complete = _complete(trials)
    with styled():
        figure = Figure(figsize=(6.8, 4.2), layout="constrained")
        axes = figure.subplots()
        low, high = _limits([t["value"] for t in complete])
        # what is far above stands at the edge
        edge = high - 0.02 * (high - low)
        for state, colour in COLOURS.items():
            shown = [t for t in trials if t["state"] == state]
            if not shown:
                continue
            values = [low if (v := _reached(t)) is None else min(v, edge) for t in shown]
            axes.scatter(
                [t["slot"] for t in shown],
                values,
                s=34,
                marker="x" if state == "failed" else "o",
                facecolors="none" if state == "pruned" else colour,
                edgecolors=None if state == "failed" else colour,
                label=f"{state} ({len(shown)})",
                zorder=3,
            )
        slots = [t["slot"] for t in complete]
        running = np.minimum.accumulate([t["value"] for t in complete])
        axes.step(
            [*slots, max(t["slot"] for t in trials)],
            [*running, running[-1]],
            where="post",
            color=MEDIAN,
            lw=1.4,
            label="best so far",
        )
        if complete[0]["slot"] == 0:
            axes.axhline(complete[0]["value"], color=MUTED, ls="--", lw=1, label="the user's own")
        axes.set_ylim(low, high)
        axes.set_xlabel("Trial")
        axes.set_ylabel(objective)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=GRID, lw=0.7)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, columnspacing=1.2)
        bare(axes)
    return figure


def study_importances(importances: Mapping[str, float], title: str = "") -> Figure:
    """Draw how much of the variation of the objective each field explains.

    Raises:
        DataError: there are none.
    """
    if not importances:
        raise DataError("no importances to draw")
    items = sorted(importances.items(), key=lambda item: item[1])
    with styled():
        figure = Figure(figsize=(6.8, 1.2 + 0.42 * len(items)), layout="constrained")
        axes = figure.subplots()
        names = [name for name, _ in items]
        bars = axes.barh(names, [value for _, value in items], color=SAMPLES, height=0.62)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
        axes.set_xlim(0, max(value for _, value in items) * 1.15 or 1.0)
        axes.set_xlabel("Importance")
        axes.set_title(title)
        bare(axes)
    return figure


def study_slices(
    trials: Trials, objective: str, fields: Sequence[str], log: Sequence[str] = ()
) -> Figure:
    """Draw the objective against every field by itself, coloured by the order of the trials.

    Args:
        trials: of which the complete ones are drawn.
        objective: name of the value.
        fields: to draw, in this order; those of no trial are left out.
        log: fields with a logarithmic axis.

    Raises:
        DataError: no trial is complete.
    """
    complete = _complete(trials)
    fields = _fields(complete, fields)
    rows = math.ceil(len(fields) / COLUMNS)
    low, high = _limits([t["value"] for t in complete])
    with styled():
        figure = Figure(figsize=(3.4 * COLUMNS, 2.9 * rows), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        last = float(max(t["slot"] for t in complete) or 1)
        # from a light blue on, that can be seen on white
        shades = Normalize(-0.4 * last, last)
        for axes, name in zip(grid.flat, fields, strict=False):
            shown = [t for t in complete if name in t["point"]]
            place, labels = _places([t["point"][name] for t in shown])
            axes.scatter(
                place,
                [min(t["value"], high) for t in shown],
                c=[t["slot"] for t in shown],
                cmap="Blues",
                norm=shades,
                edgecolors="#3c4650",
                linewidths=0.5,
                s=32,
            )
            _field_axis(axes, labels, name in log)
            axes.set_xlabel(name, fontsize=9)
            axes.set_ylim(low, high)
            axes.grid(color=GRID, lw=0.7)
            bare(axes)
        for axes in grid[:, 0]:
            axes.set_ylabel(objective)
        for axes in grid.flat[len(fields) :]:
            axes.set_visible(False)
        mappable = ScalarMappable(shades, "Blues")
        bar = figure.colorbar(mappable, ax=grid, label="Trial", shrink=0.8)
        bar.ax.set_ylim(0, last)
    return figure


def study_coordinates(
    trials: Trials, objective: str, fields: Sequence[str], log: Sequence[str] = ()
) -> Figure:
    """Draw every complete trial as a line over all fields to its value.

    A field that means nothing in a trial is passed below its axis, at `none`.

    Args:
        trials, objective, fields, log: as for `study_slices`.

    Raises:
        DataError: no trial is complete.
    """
    complete = sorted(_complete(trials), key=lambda t: -t["value"])
    fields = _fields(complete, fields)
    low = min(t["value"] for t in complete)
    _, high = _limits([t["value"] for t in complete])
    colour = Normalize(low, high)
    with styled():
        figure = Figure(figsize=(1.55 * (len(fields) + 1) + 1.6, 4.6), layout="constrained")
        axes = figure.subplots()
        heights = {name: _heights(complete, name, name in log) for name in fields}
        scale = (high - low) or 1.0
        last = [(min(t["value"], high) - low) / scale for t in complete]
        for i, trial in enumerate(complete):
            line = [*(heights[name][0][i] for name in fields), last[i]]
            best = i == len(complete) - 1
            axes.plot(
                range(len(line)),
                line,
                color=MEDIAN if best else colormaps[MAP](1 - colour(min(trial["value"], high))),
                lw=2.4 if best else 1.1,
                alpha=1.0 if best else 0.75,
                zorder=4 if best else 2,
            )
        for x, name in enumerate(fields):
            _coordinate(axes, x, heights[name][1])
        values = [(f"{low + part * scale:.3g}", part) for part in (0, 0.25, 0.5, 0.75, 1)]
        _coordinate(axes, len(fields), values)
        axes.set_xticks(range(len(fields) + 1), [*map(_two_lines, fields), objective], fontsize=8)
        axes.set_xlim(-0.25, len(fields) + 0.55)
        axes.set_ylim(-0.2, 1.06)
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(axis="x", length=0)
        axes.legend(
            handles=[Line2D([], [], color=MEDIAN, lw=2.4, label="best trial")],
            loc="lower right",
            bbox_to_anchor=(1, 1),
        )
    return figure


def study_front(
    trials: Trials, front: Sequence[int], objectives: tuple[str, str], log: bool = False
) -> Figure:
    """Draw two objectives against each other, and the front that nothing beats.

    Args:
        trials: with `values` of both objectives where they are complete.
        front: slots of the trials on it.
        objectives: their names.
        log: whether the second is drawn on a logarithmic axis.

    Raises:
        DataError: no trial is complete.
    """
    complete = _complete(trials)
    with styled():
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        _, high = _limits([t["value"] for t in complete])
        rest = [t for t in complete if t["slot"] not in front and t["value"] <= high]
        axes.scatter(
            [t["values"][1] for t in rest], [t["value"] for t in rest], color=SAMPLES, s=30
        )
        shown = sorted(
            (t for t in complete if t["slot"] in front), key=lambda t: float(t["values"][1])
        )
        axes.plot(
            [t["values"][1] for t in shown],
            [t["value"] for t in shown],
            "o-",
            color=MEDIAN,
            label="Pareto front",
        )
        for t in shown:
            axes.annotate(
                str(t["slot"]),
                (t["values"][1], t["value"]),
                textcoords="offset points",
                xytext=(5, 5),
                fontsize=8,
            )
        if log:
            axes.set_xscale("log")
        axes.set_xlabel(objectives[1])
        axes.set_ylabel(objectives[0])
        axes.grid(color=GRID, lw=0.7)
        axes.legend()
        bare(axes)
    return figure


def _complete(trials: Trials) -> list[Mapping[str, Any]]:
    complete = sorted((t for t in trials if t["state"] == "complete"), key=lambda t: t["slot"])
    if not complete:
        raise DataError("a study needs a complete trial to be drawn")
    return complete


def _reached(trial: Mapping[str, Any]) -> float | None:
    """Return the value of a trial, or the lowest loss of one that was pruned."""
    if trial["value"] is not None:
        return float(trial["value"])
    return min(trial["losses"].values(), default=None) if trial["state"] == "pruned" else None


def _fields(trials: Trials, fields: Sequence[str]) -> list[str]:
    return [name for name in fields if any(name in t["point"] for t in trials)]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return limits in which single values that are far off do not squeeze all others."""
    low, high = min(values), max(values)
    first, third = np.quantile(values, [0.25, 0.75])
    high = min(high, third + 3 * (third - low)) if third > low else high
    margin = 0.07 * (high - low) or 0.1
    return float(low - margin), float(high + margin)


def _places(values: Sequence[Any]) -> tuple[list[float], list[str] | None]:
    """Return where values lie on an axis, and their names if they are no numbers."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return [float(v) for v in values], None
    names = sorted({str(v) for v in values})
    return [float(names.index(str(v))) for v in values], names


def _field_axis(axes: Axes, names: list[str] | None, log: bool) -> None:
    if names is not None:
        small = 7 if sum(map(len, names)) > 24 else 9
        axes.set_xticks(range(len(names)), names, fontsize=small)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _heights(trials: Trials, name: str, log: bool) -> tuple[list[float], list[tuple[str, float]]]:
    """Return the height of every trial on the axis of a field, and its ticks."""
    values = [t["point"][name] for t in trials if name in t["point"]]
    place, names = _places(values)
    missing = len(values) < len(trials)
    if names is not None:
        of = {n: (i / (len(names) - 1) if len(names) > 1 else 0.5) for i, n in enumerate(names)}
        heights = [of[str(t["point"][name])] if name in t["point"] else -0.12 for t in trials]
        ticks = list(of.items())
    else:
        scale = np.log10 if log else np.asarray
        low, high = float(scale(min(place))), float(scale(max(place)))
        width = (high - low) or 1.0
        heights = [
            (float(scale(t["point"][name])) - low) / width if name in t["point"] else -0.12
            for t in trials
        ]
        parts = (0, 0.25, 0.5, 0.75, 1) if high > low else (0,)
        at = [low + part * width for part in parts]
        ticks = [(f"{10**v if log else v:.3g}", part) for v, part in zip(at, parts, strict=True)]
    return heights, [*ticks, *([("none", -0.12)] if missing else [])]


def _coordinate(axes: Axes, x: float, ticks: Sequence[tuple[str, float]]) -> None:
    axes.plot([x, x], [0, 1], color="#3c4650", lw=1, zorder=3)
    for text, height in ticks:
        axes.plot([x - 0.03, x], [height, height], color="#3c4650", lw=0.8, zorder=3)
        axes.text(
            x + 0.04,
            height,
            text.removeprefix("ModelConv"),
            fontsize=7.5,
            va="center",
            zorder=6,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
        )


def _two_lines(name: str) -> str:
    block, _, last = name.rpartition(".")
    return f"{last}\n{block}"
