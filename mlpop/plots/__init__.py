"""Figures drawn without pyplot: functions from arrays to a matplotlib Figure, and their style."""

from mlpop.plots.corner import corner, intervals
from mlpop.plots.coverage import coverage, ranks, ranks_cumulative, verdict_statistics
from mlpop.plots.curves import training_curves
from mlpop.plots.population import population
from mlpop.plots.predictive import predictive
from mlpop.plots.pulsars import predictive_counts, predictive_pulsars

__all__ = [
    "corner",
    "coverage",
    "intervals",
    "population",
    "predictive",
    "predictive_counts",
    "predictive_pulsars",
    "ranks",
    "ranks_cumulative",
    "training_curves",
    "verdict_statistics",
]
