"""`mlpop compare`: an observed sky beside predictions of it, with p-values."""

import logging
from dataclasses import dataclass
from pathlib import Path

from mlpop.compute import draw_root_seed
from mlpop.config.files.compare import CompareConfig
from mlpop.datasets.layout import THETA
from mlpop.experiment.compare.predictions import predict
from mlpop.experiment.compare.report import REPORT, note, numbers, table, write_comparison
from mlpop.experiment.compare.setup import prepare
from mlpop.experiment.session import session
from mlpop.inference.diagnostics.predictive import PredictiveCheck
from mlpop.inference.diagnostics.skies import Comparison, compare_skies
from mlpop.tracking import connect

logger = logging.getLogger(__name__)

KIND = "compare"
CONFIG_FILE = "config_compare.json"


@dataclass(frozen=True)
class CompareResult:
    """What a comparison gave.

    Attributes:
        run_id: its MLflow run.
        folder: `<save_dir>/logs/<name>/<stamp>`, with `compare.json` and the figures.
        comparison: every quantity of every survey, and one p-value of all.
        check: maps and single pulsars together, as in the report of an experiment; None where
            the sky has no maps of P and P_dot.
    """

    run_id: str
    folder: Path
    comparison: Comparison
    check: PredictiveCheck | None


def compare(config: CompareConfig) -> CompareResult:
    """Simulate at draws of a posterior, or at one theta, and compare with an observed sky.

    Raises:
        ConfigError: the configuration names what does not exist, or no pulsars are simulated.
            Nothing is written then.
        MlpopError: a step failed; the MLflow run ends FAILED and says why.
    """
    job = prepare(config)
    store = connect()
    origin = None if job.trained is None else job.trained.origin(store)
    root_seed = draw_root_seed() if config.seed is None else config.seed
    with session(
        KIND,
        config.name,
        config.model_dump(mode="json"),
        config_file=CONFIG_FILE,
        save_dir=config.save_dir,
        models=False,
        root_seed=root_seed,
        tags={"mlpop.trained_run": None if origin is None else origin.run_id},
        store=store,
    ) as launch:
        run, folder = launch.run, launch.tree.logs
        logger.info("observed: %s; simulated as in %s", job.observed.source, job.source)
        run.log_dataset("observed", job.observed.digest, str(job.observed.source), "observed")
        compute = config.compute
        with launch.backend(
            compute.n_processes, compute.enable_dask, compute.workers_dask, compute
        ) as backend:
            predictions = predict(job, run, backend, root_seed)
        made = predictions.made
        run.log_dataset("predictive", made.digest, str(made.csv), "predictive")
        comparison = compare_skies(
            predictions.observed_tables,
            predictions.tables,
            predictions.observed_counts,
            predictions.counts,
        )
        check, files = write_comparison(job, predictions, comparison, folder)
        run.log_metrics(numbers(comparison, check))
        sentences = _sentences(comparison, check, made.num_simulations)
        for line in (*table(comparison), *sentences):
            logger.info("%s", line)
        about = f"{job.observed.source} beside simulations as in `{job.source}`."
        run.set_note(note(about, comparison, sentences))
        launch.files.update({path.name: path for path in files})
        launch.files[THETA] = made.csv.parent / THETA
        logger.info("numbers: %s", folder / REPORT)
        return CompareResult(run.run_id, folder, comparison, check)


def _sentences(comparison: Comparison, check: PredictiveCheck | None, asked: int) -> list[str]:
    """Return what stands below the table."""
    number = comparison.num_predictions
    lines = [
        f"all of these together: p = {comparison.p_value:.2g}; p-values are multiples of "
        f"1/{number + 1}, the part of {number} predictions and the sky that lie as far from the "
        "others"
    ]
    if check is not None:
        lines.append(f"maps and single pulsars together: p = {check.p_value:.2g}")
    if comparison.left_out:
        lines.append(f"not known, so not compared: {', '.join(comparison.left_out)}")
    if number < asked:
        lines.append(f"{asked - number} of {asked} simulations failed")
    return lines
