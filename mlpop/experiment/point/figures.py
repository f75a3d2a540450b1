"""The figures of point estimates, beside the logs and in MLflow."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.experiment.output_tree import OutputTree
from mlpop.plots.regression import loss_curves, predicted_against_true, residuals
from mlpop.regression.prediction import Predictions
from mlpop.regression.records import TRAIN_EVAL, VALID, read_records
from mlpop.tracking import TrackedRun, save_figure


def log_figures(
    run: TrackedRun,
    tree: OutputTree,
    found: Predictions,
    truth: NDArray[np.float64],
    name: str,
    trial: int | None = None,
) -> None:
    """Draw predictions against truth, residuals and, of a training, its losses.

    Args:
        run: to log them to, as PDF and PNG.
        tree: `logs` gets them too.
        found: predictions of n samples.
        truth: (n, D) labels.
        name: of the set, for the titles.
        trial: whose losses to draw, None for none.
    """
    title = f"{name} set, {len(truth)} samples"
    figures = {
        "predicted_against_true": predicted_against_true(
            found.labels, truth, found.predicted, found.sigma, title
        ),
        "residuals": residuals(found.labels, truth, found.predicted, title),
    }
    if trial is not None:
        folder = tree.logs / f"trial_{trial}"
        evaluated = {"training": read_records(folder, TRAIN_EVAL)}
        if (folder / VALID).is_file():
            evaluated["validation"] = read_records(folder, VALID)
        figures["losses"] = loss_curves(evaluated, found.labels)
    for stem, figure in figures.items():
        for path in save_figure(figure, Path(tree.logs, f"{stem}.pdf")):
            run.send(path, f"plots/{path.name}")
