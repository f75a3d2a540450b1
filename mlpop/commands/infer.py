"""`mlpop infer`: posterior and coverage of trained rounds, at an x_o and on test sets of choice.

Nothing is trained and no training set is loaded: prior, scaling and compression are part of the
trained posterior.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlpop.compute import draw_root_seed
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.infer.rounds import infer_rounds
from mlpop.experiment.infer.setup import prepare
from mlpop.experiment.output_tree import CONFIG_FILE
from mlpop.experiment.parameters import experiment_parameters
from mlpop.experiment.report.summary import describe, print_result
from mlpop.experiment.resume.attempts import recorded_seed
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.session import session
from mlpop.tracking import connect

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
    store = connect()
    origin = job.trained.origin(store)
    root_seed = config.root_seed
    if root_seed is None:
        root_seed = draw_root_seed() if origin is None else recorded_seed(origin)
    with session(
        KIND,
        config.name,
        config.resolved(),
        config_file=CONFIG_FILE,
        save_dir=job.save_dir,
        models=False,
        root_seed=root_seed,
        params=experiment_parameters(config) | {"infer.load_dir": job.trained.source},
        tags={"mlpop.trained_run": None if origin is None else origin.run_id},
        store=store,
    ) as launch:
        run, tree, profiler = launch.run, launch.tree, launch.profiler(config)
        logger.info("rounds of %s", job.trained.source)
        with profiler.section("TotalInference"):
            rounds = infer_rounds(job, root_seed, tree, profiler, run)
        about = f"Inference with {len(rounds)} trained round(s) of `{job.trained.source}`."
        describe(run, about, rounds, ("coverage/ece", "coverage/tests"))
        print_result(rounds[-1])
        return InferResult(run.run_id, tree.logs, tuple(rounds))
