"""Whether simulations at the posterior look like x_o: if not, the simulator lacks something."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlpop.compute import Purpose
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.datasets.dataset import read_generator
from mlpop.datasets.details import load_details
from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics.diagnostic import (
    Diagnostic,
    Evidence,
    Finding,
    Grade,
    Plot,
    Verdict,
)
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.inference.diagnostics.predictive import (
    ALPHA,
    MIN_PREDICTIONS,
    PredictiveCheck,
    predictive_check,
)
from mlpop.inference.diagnostics.pulsars import pulsar_views
from mlpop.io.files import read_json_object, write_json
from mlpop.maps.pulsars import PREFIX
from mlpop.plots import predictive, predictive_pulsars
from mlpop.plots.population import P_LIMITS, PDOT_LIMITS
from mlpop.tracking import save_figure

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

REPORT = "predictive.json"
USE = "predictive"

PLOT = Plot(
    "Observed and predicted",
    "The observed sample beside simulations at draws of its posterior. Residuals far beyond 3, or "
    "of one sign over many neighbours, are what the simulator cannot make.",
    "predictive.pdf",
)


PULSARS_PLOT = Plot(
    "Observed and predicted pulsars",
    "Single pulsars of the observed sample and of simulations at draws of its posterior: periods "
    "and their derivatives, dispersion measures, Galactic latitudes, fluxes. Bands hold 95 % of "
    "the predictions.",
    "predictive_pulsars.pdf",
)

NOT_COMPARED = (
    "The predictive check compared maps alone: the observed sample or the simulations have no "
    "tables of single pulsars, by whose distances, places and fluxes it sees more."
)


class PredictiveDiagnostic(Diagnostic):
    """Compares x_o with simulations at draws of its posterior."""

    name = USE
    headline = ("predictive/p",)
    legend = (
        "Predictive p-value: part of the simulations at the posterior that are as strange among "
        "them as the observed sample; too large rather than too small, as the posterior has seen "
        "that sample."
    )

    def examine_posterior(self, evidence: Evidence, theta: NDArray[np.float64]) -> Sequence[Path]:
        """Simulate at draws of the posterior, write the p-values and a figure; warn if unlike."""
        if evidence.simulate is None or not evidence.num_predictive:
            return ()
        order = torch.randperm(len(theta), generator=evidence.generator(Purpose.DIAGNOSTICS, 0))
        chosen = theta[order[: evidence.num_predictive].numpy()]
        predicted = evidence.simulate(USE, Purpose.SIMULATION_PREDICTIVE, chosen)
        path, observed = evidence.folder / REPORT, evidence.observed
        values: dict[str, Any] = {"num_simulations": len(chosen), "num_predicted": len(predicted)}
        if len(predicted) < 2:
            write_json(path, values)
            return (path,)
        observed_tables, tables = tables_of(observed, predicted)
        others = views_of(observed_tables, tables)
        check = predictive_check(observed.x, predicted.x, observed.channels, others)
        if check.unlike:
            logger.warning("%s", _reason(check.p_value, check.p_values))
        generator = read_generator(predicted.source.parent)
        if generator is not None:
            values["pulsars"] = list(tables)
        write_json(path, values | _values(check))
        planes = None if generator is None else generator.planes(observed.channels)
        limits = limits_of(generator)
        figure = predictive(observed.x, predicted.x, observed.channels, *limits, planes)
        files = [path, *save_figure(figure, evidence.folder / PLOT.file)]
        if tables:
            figure = predictive_pulsars(observed_tables, tables, *limits)
            files += save_figure(figure, evidence.folder / PULSARS_PLOT.file)
        return files

    def finding(self, folder: Path) -> Finding:
        """Read the p-values; only an x_o unlike its predictions is a verdict."""
        path = folder / REPORT
        values = read_json_object(path) if path.is_file() else {}
        p_value, p_values = values.get("p_value"), values.get("p_values", {})
        if p_value is None:
            return Finding(warnings=_warnings(values))
        verdict = None
        if values["misspecified"]:
            verdict = Verdict(
                "misspecified",
                Grade.BAD,
                "simulations at the posterior do not look like the observed sample: the simulator "
                "lacks something that the sky has, and the posterior answers for it",
                _reason(p_value, p_values),
                "to look where observed and predicted maps differ; other physics or selection, or "
                "a label that is free instead of fixed",
            )
        of_views = {f"predictive/p_{view}": p for view, p in p_values.items()}
        return Finding(
            numbers={"predictive/p": p_value, **of_views},
            warnings=_warnings(values),
            verdict=verdict,
            rows={"predictive p-value of the observed sample": p_value},
            sentences=[NOT_COMPARED] if values.get("pulsars") == [] else [],
            plots=[PLOT, PULSARS_PLOT] if values.get("pulsars") else [PLOT],
            calibration={"predictive": {"p_value": p_value, **p_values}},
        )


def tables_of(
    observed: ObservedSample, predicted: Dataset
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return survey -> table (n, 6) of x_o, and tables (m, n, 6) of its m predictions.

    Only surveys of which both have tables.
    """
    generator = read_generator(predicted.source.parent)
    if generator is None or not observed.details:
        return {}, {}
    details = load_details(predicted.source, generator.survey_channels)
    names = [
        name
        for name, table in observed.details.items()
        if name.startswith(PREFIX)
        and name in details
        and details[name].shape == (len(predicted), *table.shape)
    ]
    surveys = {name: name.removeprefix(PREFIX) for name in names}
    return (
        {surveys[name]: observed.details[name].astype(np.float64) for name in names},
        {surveys[name]: details[name].astype(np.float64) for name in names},
    )


def views_of(observed: Mapping[str, Array], predicted: Mapping[str, Array]) -> dict[str, Array]:
    """Return view -> features (1 + m, f) of what `tables_of` gives, first those of x_o."""
    if not predicted:
        return {}
    pooled = {s: np.concatenate([observed[s][None], tables]) for s, tables in predicted.items()}
    return pulsar_views(pooled)


def _values(check: PredictiveCheck) -> dict[str, Any]:
    return {
        "p_value": check.p_value,
        "p_values": dict(check.p_values),
        "limit": ALPHA,
        "misspecified": check.unlike,
    }


def limits_of(
    generator: GeneratorConfig | None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges of period [s] and its derivative [s/s] of the maps that it makes."""
    if generator is None:
        return P_LIMITS, PDOT_LIMITS
    return generator.p_limits, generator.pdot_limits


def _reason(p_value: float, p_values: Mapping[str, float]) -> str:
    views = [view for view, p in p_values.items() if p == min(p_values.values())]
    return (
        f"the observed sample is unlike simulations at its own posterior (p = {p_value:.2g}, "
        f"limit {ALPHA:g}), most of all in {', '.join(views)}"
    )


def _warnings(values: Mapping[str, Any]) -> Sequence[str]:
    if not values:
        return ()
    asked, number = values["num_simulations"], values["num_predicted"]
    warnings = []
    if number < asked:
        warnings.append(f"{asked - number} of {asked} simulations at the posterior failed.")
    needed = MIN_PREDICTIONS if not values.get("pulsars") else 2 * MIN_PREDICTIONS + 1
    if number < needed:
        warnings.append(
            f"{number} simulations at the posterior are too few for the predictive check to "
            f"reject: it needs {needed}, see num_predictive."
        )
    return warnings
