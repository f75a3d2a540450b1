"""The corner plot of where the next round simulates, over the prior."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from mlpop.plots.corner import BINS, corner
from mlpop.plots.style import SECOND, styled


def proposal_corner(
    samples: ArrayLike,
    labels: Sequence[str],
    low: ArrayLike,
    high: ArrayLike,
    *,
    truth: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Draw a proposal's marginals and pairs in panels that span the prior.

    An orange line in every marginal is the uniform prior with as many draws.

    Args:
        samples: (S, D) draws of the proposal itself, physical units.
        labels: D names.
        low, high: (D,) edges of the uniform prior.
        truth: (D,) true values, if known.
        title: above the figure.

    Raises:
        DataError: shapes that do not fit, fewer than two draws, or values that are not finite.
    """
    bounds = list(zip(np.asarray(low, float), np.asarray(high, float), strict=True))
    figure = corner(samples, labels, truth, bounds, title)
    size = len(labels)
    level = len(np.asarray(samples)) / BINS
    for axis in range(size):
        figure.axes[axis * (size + 1)].axhline(level, color=SECOND, lw=1.3, zorder=1)
    prior = Line2D([], [], color=SECOND, lw=1.3, label="prior")
    with styled():
        for legend in figure.legends[:]:
            handles = [handle for handle in legend.legend_handles if handle is not None]
            names = [text.get_text() for text in legend.get_texts()]
            legend.remove()
            figure.legend(
                [*handles, prior],
                [*names, "prior"],
                loc="upper right",
                bbox_to_anchor=(0.98, 0.93),
                fontsize=11,
            )
    return figure
