"""Figures drawn without pyplot: functions from arrays to a matplotlib Figure, and their style."""

from mlpop.plots.corner import corner, decimals, intervals
from mlpop.plots.coverage import coverage, ranks, ranks_cumulative
from mlpop.plots.curves import training_curves
from mlpop.plots.population import population, predictive
from mlpop.plots.proposal import proposal_corner
from mlpop.plots.style import axis_label, write

__all__ = [
    "axis_label",
    "corner",
    "coverage",
    "decimals",
    "intervals",
    "population",
    "predictive",
    "proposal_corner",
    "ranks",
    "ranks_cumulative",
    "training_curves",
    "write",
]
