"""`mlpop infer`: posterior and coverage of trained rounds, at an x_o and on test sets of choice.

Nothing is trained and no training set is loaded: prior, scaling and compression are part of the
trained posterior.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from mlpop.compute import draw_root_seed
from mlpop.config.base import config_digest
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import TrackingError
from mlpop.experiment.infer.rounds import InferRounds
from mlpop.experiment.infer.setup import InferJob, prepare
from mlpop.experiment.logs import log_to
from mlpop.experiment.output_tree import create_output_tree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.rounds.result import RoundResult
from mlpop.io.files import write_atomically
from mlpop.tracking import (
    RoundLine,
    TrackedRun,
    check_artifacts,
    connect,
    experiment_note,
    graceful_signals,
    open_run,
    record_provenance,
    replay,
    where_to_look,
)

logger = logging.getLogger(__name__)

KIND = "infer"


@dataclass(frozen=True)
class InferResult:
    """What an inference gave.

    Attributes:
        run_id: its MLflow run.
        folder: `<infer.save_dir>/logs/<name>/<stamp>`.
        rounds: of the training, in order, as their posteriors were found now.
    """

    run_id: str
    folder: Path
    rounds: Sequence[RoundResult]


def infer(config: SbiConfig) -> InferResult:
    """Sample the posterior of every trained round at x_o, and measure its coverage.

    Args:
        config: that of the training, with its `infer` block, and x_o and test sets of choice.

    Raises:
        ConfigError: the configuration contradicts the training, or names what does not exist.
            Nothing is written if that can be seen from the files that are given.
        MlpopError: a step failed; the MLflow run ends FAILED and says why.
    """
    job = prepare(config)
    with graceful_signals():
        store = connect()
        replay(store.client, store.spill_folder)
        origin = job.trained.origin(store)
        root_seed = config.root_seed
        if root_seed is None and origin is not None:
            root_seed = int(origin.tags["mlpop.root_seed"])
        if root_seed is None:
            root_seed = draw_root_seed()
        resolved = config.resolved()
        params = {
            "trainer.type": config.trainer.type,
            "trainer.num_rounds": config.trainer.num_rounds,
            "infer.load_dir": job.trained.source,
            "infer.compute_coverage": config.infer.compute_coverage,
            "infer.sim_dataset": config.infer.sim_dataset,
            "root_seed": root_seed,
        }
        tags = {
            "mlpop.root_seed": root_seed,
            "mlpop.config_digest": config_digest(resolved),
            "mlpop.trained_run": None if origin is None else origin.run_id,
            "mlpop.state": "starting",
        }
        with open_run(KIND, config.name, tags=tags, params=params, store=store) as run:
            check_artifacts(store, run.experiment_id)
            tree = create_output_tree(job.save_dir, config.name, models=False)
            profiler = Profiler(
                tree.logs,
                json_name=config.profile_json,
                log_name=config.profile_log,
                show=config.show_profiling,
            )
            with log_to(tree.log_file), profiler.section("TotalInference"):
                logger.info("rounds of %s; root seed %d", job.trained.source, root_seed)
                logger.info("%s", where_to_look(store, run.experiment_id, run.run_id))
                run.set_tags({"mlpop.log_dir": tree.logs})
                write_atomically(tree.config_file, json.dumps(resolved, indent=2) + "\n")
                run.send(tree.config_file)
                record_provenance(run)
                run.set_state("running")
                try:
                    with ExitStack() as stack:
                        work = InferRounds(job, root_seed, tree, profiler, run, stack)
                        rounds = [work.round(i) for i in range(config.trainer.num_rounds)]
                except BaseException:
                    # what went before helps to see why; the error itself must not be hidden
                    with suppress(TrackingError):
                        run.send(tree.log_file)
                    raise
                _tell(job, run, rounds)
            run.commit(
                {
                    "log.txt": tree.log_file,
                    config.profile_json: tree.logs / config.profile_json,
                    config.profile_log: tree.logs / config.profile_log,
                }
            )
            logger.info("files: %s", tree.logs)
            logger.info("%s", where_to_look(store, run.experiment_id, run.run_id))
            return InferResult(run.run_id, tree.logs, tuple(rounds))


def _tell(job: InferJob, run: TrackedRun, rounds: Sequence[RoundResult]) -> None:
    """Describe the result on the run's page and on the terminal."""
    shown = ("coverage/ece", "coverage/tests")
    lines = [
        RoundLine(
            this.number,
            this.run_id,
            "complete",
            {name: this.numbers[name] for name in shown if name in this.numbers},
        )
        for this in rounds
    ]
    last = rounds[-1]
    about = f"Inference with {len(rounds)} trained round(s) of `{job.trained.source}`."
    run.set_note(experiment_note(run.experiment_id, about, lines, last.estimates, last.verdict))
    if last.verdict:
        run.set_tags({"mlpop.calibration": last.verdict})
    for e in last.estimates:
        truth = "" if e.truth is None else f"   truth {e.truth:g}"
        logger.info("%-28s %9.4f  95 %% [%.4f, %.4f]%s", e.label, e.median, e.low, e.high, truth)
    if last.verdict:
        logger.info("calibration: %s (%d tests)", last.verdict, last.num_tests)
