"""What a comparison says: its files, its numbers in MLflow, and a table for people."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mlpop.experiment.compare.predictions import Predictions
from mlpop.experiment.compare.setup import CompareJob
from mlpop.experiment.diagnostics.predictive import limits_of, views_of
from mlpop.inference.diagnostics.predictive import PredictiveCheck, predictive_check
from mlpop.inference.diagnostics.skies import COUNT, NULL, QUANTITIES, Comparison, Row
from mlpop.io.digits import interval_texts
from mlpop.io.files import write_json
from mlpop.plots import predictive, predictive_counts, predictive_pulsars
from mlpop.tracking import save_figure
from mlpop.tracking.pages.description import markdown_table

REPORT = "compare.json"
MAPS, PULSARS, COUNTS = "compare_maps.pdf", "compare_pulsars.pdf", "compare_counts.pdf"

HEAD = ("survey", "quantity", "pulsars", "observed", "predicted", "95 %", "KS", "p")
"""Of the table of a comparison."""

UNITS = {"P": "s", "P_dot": "s/s", "DM": "pc/cm3", "abs_b": "deg", "S1400": "Jy"}


def write_comparison(
    job: CompareJob, predictions: Predictions, comparison: Comparison, folder: Path
) -> tuple[PredictiveCheck | None, list[Path]]:
    """Write `compare.json` and the figures into a folder.

    Returns:
        The predictive check of maps and pulsars, as in the report of an experiment, None where
        the sky has no map of P and P_dot; and the files.
    """
    limits = limits_of(job.generator)
    p_values = {(row.survey, row.quantity): row.p_value for row in comparison.rows}
    files: list[Path] = []
    check = None
    names = [name for name in predictions.maps.channels if name in job.observed.channels]
    if names:
        x_o = np.stack([job.observed.x[job.observed.channels.index(name)] for name in names])
        x = predictions.maps.x[:, [predictions.maps.channels.index(name) for name in names]]
        others = views_of(predictions.observed_tables, predictions.tables)
        check = predictive_check(x_o, x, names, others)
        files += save_figure(predictive(x_o, x, names, *limits), folder / MAPS)
    figure = predictive_pulsars(
        predictions.observed_tables,
        predictions.tables,
        *limits,
        quantities=tuple(QUANTITIES),
        p_values=p_values,
    )
    files += save_figure(figure, folder / PULSARS)
    figure = predictive_counts(predictions.observed_counts, predictions.counts, p_values)
    files += save_figure(figure, folder / COUNTS)
    report = folder / REPORT
    write_json(report, report_values(job, predictions, comparison, check))
    return check, [report, *files]


def report_values(
    job: CompareJob,
    predictions: Predictions,
    comparison: Comparison,
    check: PredictiveCheck | None,
) -> dict[str, Any]:
    """Return what `compare.json` holds."""
    rows: dict[str, dict[str, Any]] = {}
    for row in comparison.rows:
        values = asdict(row)
        rows.setdefault(values.pop("survey"), {})[values.pop("quantity")] = values
    raw = {s: np.quantile(n, [0.025, 0.5, 0.975]).tolist() for s, n in predictions.counts.items()}
    return {
        "observed": str(job.observed.source),
        "source": job.source,
        "theta": None if job.config.theta is None else dict(job.config.theta),
        "num_simulations": predictions.made.num_simulations,
        "num_predicted": comparison.num_predictions,
        "status": dict(predictions.made.counts),
        "null": NULL,
        "smallest_p": 1 / (comparison.num_predictions + 1),
        "p_value": comparison.p_value,
        "surveys": rows,
        "detected_95": raw,
        "units": UNITS,
        "left_out": list(comparison.left_out),
        "maps_and_pulsars": None
        if check is None
        else {"p_value": check.p_value, "p_values": dict(check.p_values)},
    }


def numbers(comparison: Comparison, check: PredictiveCheck | None) -> dict[str, float]:
    """Return name in MLflow -> value."""
    found = {"compare/p": comparison.p_value}
    for row in comparison.rows:
        place = f"{row.survey}/{row.quantity}"
        found[f"compare/distance/{place}"] = row.distance
        if row.p_value is not None:
            found[f"compare/p/{place}"] = row.p_value
    if check is not None:
        found["compare/p_maps_and_pulsars"] = check.p_value
    return found


def table(comparison: Comparison) -> list[str]:
    """Return the comparison as lines in aligned columns."""
    cells = [HEAD, *map(_cells, comparison.rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(HEAD))]
    right = {2, 3, 4, 6, 7}
    return [
        "  ".join(
            text.rjust(width) if k in right else text.ljust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def note(about: str, comparison: Comparison, sentences: Sequence[str]) -> str:
    """Return the description of the run in Markdown: what came out first, then the table."""
    rows = [_cells(row) for row in comparison.rows]
    return "\n\n".join([*sentences, about, markdown_table(HEAD, rows)])


def _cells(row: Row) -> tuple[str, ...]:
    unit = UNITS.get(row.quantity)
    low, median, high = interval_texts(row.low, row.median, row.high)
    return (
        row.survey,
        row.quantity if unit is None else f"{row.quantity} [{unit}]",
        str(row.pulsars),
        f"{row.observed:.4g}",
        median,
        f"[{low}, {high}]",
        "" if row.quantity == COUNT else f"{row.distance:.3f}",
        "" if row.p_value is None else f"{row.p_value:.2g}",
    )
