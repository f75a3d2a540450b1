"""Is the posterior as wide as it should be? Coverage, and ranks of the truth among the draws."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import DataError
from mlpop.inference.diagnostics.binomial import binomial_band
from mlpop.plots.style import BAND, MEDIAN, MUTED, SAMPLES, bare, panels, styled, symbol

BANDS = ((0.95, 0.4), (0.68, 0.8))
"""Level of a band, and how opaque it is."""
RANK_BINS = 30


def coverage(beta: ArrayLike, coverage: ArrayLike, n: int) -> Figure:
    """Draw the coverage probability against the credibility level.

    Below the diagonal the posterior is overconfident, above it conservative; the bands hold 68
    and 95 % of what a calibrated posterior gives with so few test samples.

    Args:
        beta: (K,) credibility levels.
        coverage: (K,) fraction of test samples whose truth lies within.
        n: number of test samples.

    Raises:
        DataError: the shapes differ, or there is no test sample.
    """
    levels, fraction = np.asarray(beta, np.float64), np.asarray(coverage, np.float64)
    if levels.shape != fraction.shape or levels.ndim != 1 or n < 1:
        raise DataError(
            f"a coverage plot needs levels and fractions of one shape and at least one test "
            f"sample, found {levels.shape}, {fraction.shape} and {n}"
        )
    fine = np.linspace(0, 1, 401)
    with styled():
        figure = Figure(figsize=(5.0, 5.0), layout="constrained")
        axes = figure.subplots()
        for level, alpha in BANDS:
            low, high = binomial_band(fine, n, level)
            name = f"{level:.0%} of calibrated posteriors".replace("%", " %")
            axes.fill_between(fine, low, high, color=BAND, alpha=alpha, lw=0, label=name)
        axes.plot([0, 1], [0, 1], color=MUTED, ls="--", lw=1.2, label="calibrated")
        axes.plot(levels, fraction, color=SAMPLES, marker="o", ms=4, lw=1.6, label="measured")
        axes.text(0.03, 0.97, "conservative", color=MUTED, va="top", style="italic")
        axes.text(0.97, 0.03, "overconfident", color=MUTED, ha="right", style="italic")
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xlabel=r"Credibility level $1-\alpha$",
            ylabel="Coverage probability",
            title=f"Expected coverage, {n} test samples",
        )
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(0.0, 0.93))
    return figure


def ranks(ranks: ArrayLike, labels: Sequence[str], num_draws: int) -> Figure:
    """Draw a histogram of the ranks of each label's truth; calibrated posteriors give flat ones.

    A hump in the middle is a posterior too wide, two horns one too narrow, a slope a bias. The
    bands hold 68 and 95 % of the counts of a calibrated posterior.

    Args:
        ranks: (N, D) number of draws below the truth, 0 to `num_draws`.
        labels: D names.
        num_draws: draws a test sample.

    Raises:
        DataError: shapes that do not fit, or a rank out of range.
    """
    values = _checked(ranks, labels, num_draws)
    edges = rank_edges(len(values), num_draws)
    share = np.diff(edges) / (num_draws + 1)
    with styled():
        figure, grid = _panels(len(labels))
        for k, (axes, label) in enumerate(zip(grid, labels, strict=True)):
            counts, _ = np.histogram(values[:, k], bins=edges)
            for level, alpha in BANDS:
                low, high = (
                    band * len(values) for band in binomial_band(share, len(values), level)
                )
                axes.stairs(high, edges, baseline=low, fill=True, color=BAND, alpha=alpha, lw=0)
            axes.stairs(share * len(values), edges, color=MUTED, ls="--", lw=1.0)
            axes.stairs(counts, edges, color=SAMPLES, lw=1.5)
            axes.set(
                xlim=(edges[0], edges[-1]),
                xlabel=f"rank of {symbol(label)}",
                ylabel="test samples" if axes.get_subplotspec().is_first_col() else "",
            )
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            bare(axes)
    return figure


def ranks_cumulative(ranks: ArrayLike, labels: Sequence[str], num_draws: int) -> Figure:
    """Draw how far the cumulative distribution of the ranks is from uniform, label by label.

    Args:
        ranks: (N, D) number of draws below the truth, 0 to `num_draws`.
        labels: D names.
        num_draws: draws a test sample.

    Raises:
        DataError: shapes that do not fit, or a rank out of range.
    """
    values = _checked(ranks, labels, num_draws)
    rank = np.arange(num_draws + 1)
    expected = (rank + 1) / (num_draws + 1)
    fine = np.linspace(0, 1, 201)
    with styled():
        figure, grid = _panels(len(labels))
        for k, (axes, label) in enumerate(zip(grid, labels, strict=True)):
            measured = np.searchsorted(np.sort(values[:, k]), rank, side="right") / len(values)
            for level, alpha in BANDS:
                low, high = binomial_band(fine, len(values), level)
                axes.fill_between(fine, low - fine, high - fine, color=BAND, alpha=alpha, lw=0)
            axes.axhline(0, color=MUTED, ls="--", lw=1.0)
            axes.plot(expected, measured - expected, color=SAMPLES, lw=1.5)
            axes.set(
                xlim=(0, 1),
                xlabel=f"normalized rank of {symbol(label)}",
                ylabel="ECDF $-$ uniform" if axes.get_subplotspec().is_first_col() else "",
            )
            bare(axes)
    return figure


def verdict_statistics(
    names: Sequence[str], values: ArrayLike, critical: float, deciding: str
) -> Figure:
    """Draw the statistics that a verdict rests on, and what they may be by chance.

    Args:
        names: n of them, from the largest to the smallest.
        values: (n,) in standard deviations.
        critical: which the largest one of a calibrated posterior rarely exceeds.
        deciding: the name of the one that gave the verdict its name; red, if it is beyond that.

    Raises:
        DataError: shapes that do not fit.
    """
    sizes = np.asarray(values, dtype=np.float64)
    if sizes.shape != (len(names),) or not names:
        raise DataError(f"{len(names)} statistics need as many values, found {sizes.shape}")
    beyond = np.abs(sizes) >= critical
    red = [name == deciding and bool(far) for name, far in zip(names, beyond, strict=True)]
    colours = [MEDIAN if chosen else SAMPLES for chosen in red]
    with styled():
        figure = Figure(figsize=(7.0, 1.2 + 0.26 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvspan(-critical, critical, color=BAND, alpha=0.4, lw=0)
        axes.axvline(0, color=MUTED, lw=1.0)
        bars = axes.barh(range(len(names)), sizes, color=colours, height=0.7)
        for bar, significant in zip(bars, beyond, strict=True):
            bar.set_alpha(1.0 if significant else 0.55)
        axes.set_yticks(range(len(names)), [_plain(name) for name in names])
        axes.invert_yaxis()
        limit = 1.1 * max(critical, float(np.abs(sizes).max()))
        axes.set(
            xlim=(-limit, limit),
            xlabel="standard deviations; band: calibrated in 95 of 100 cases",
        )
        bare(axes)
    return figure


def _plain(name: str) -> str:
    return name.replace("$", r"\$")


def rank_edges(num_samples: int, num_draws: int) -> NDArray[np.float64]:
    """Return edges of bins that hold whole ranks: 30, or fewer where there are few samples."""
    bins = max(2, min(RANK_BINS, num_draws + 1, num_samples // 10))
    return np.unique(np.round(np.linspace(0, num_draws + 1, bins + 1))) - 0.5


def _panels(count: int) -> tuple[Figure, list]:
    return panels(count, 2 if count in (2, 4) else min(count, 3), (3.1, 2.4), (0.5, 0.3))


def _checked(ranks: ArrayLike, labels: Sequence[str], num_draws: int) -> NDArray[np.float64]:
    values = np.asarray(ranks, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(labels) or len(values) < 1:
        raise DataError(
            f"ranks of {len(labels)} labels need shape (N, {len(labels)}), found {values.shape}"
        )
    if not ((values >= 0) & (values <= num_draws)).all():
        raise DataError(
            f"ranks must be from 0 to {num_draws}, "
            f"found {np.nanmin(values):g} to {np.nanmax(values):g}"
        )
    return values
