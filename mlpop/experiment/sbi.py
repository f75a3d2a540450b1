"""The main job: rounds of simulation-based inference, tracked from first draw to verdict."""

import hashlib
import json
import logging
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpop.compute import draw_root_seed, make_backend
from mlpop.config.available import require_available
from mlpop.config.sbi import SbiConfig
from mlpop.errors import TrackingError
from mlpop.experiment.folders import OutputTree, create_output_tree
from mlpop.experiment.launch import Launch
from mlpop.experiment.logfile import log_to
from mlpop.experiment.plan import simulator_plan, stars_for
from mlpop.experiment.preflight import check_inputs
from mlpop.experiment.profile import Profiler
from mlpop.experiment.round import RoundResult, run_round
from mlpop.experiment.supply import SimulatorPlan
from mlpop.maps.files import write_atomically
from mlpop.population.stars import StellarDatabase
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
    select,
    where_to_look,
)

logger = logging.getLogger(__name__)

COMPARED = (
    "trainer.type",
    "trainer.num_rounds",
    "trainer.batch_size",
    "trainer.lr",
    "density_estimator.type",
    "density_estimator.args.hidden_features",
    "density_estimator.args.num_components",
    "density_estimator.args.num_transforms",
    "arch.type",
    "arch.args.len_output_layer",
    "training_data_loader.num_sim",
    "simulator.type",
)
"""Fields by which experiments are compared in MLflow's table; the rest is in config_sbi.json."""


@dataclass(frozen=True)
class ExperimentResult:
    """What a launch gave.

    Attributes:
        run_id: its MLflow run.
        rounds: result of every round.
    """

    run_id: str
    rounds: tuple[RoundResult, ...]


def run_experiment(config: SbiConfig) -> ExperimentResult:
    """Run an experiment from its configuration to its posterior.

    Args:
        config: what to do.

    Raises:
        ConfigError: the configuration asks for something that is not available or contradicts
            the data. Nothing is written if that can be seen from the files that are given.
        MlpopError: a step failed; the MLflow run ends FAILED and says why.
    """
    require_available(config)
    check_inputs(config)
    root_seed = config.root_seed if config.root_seed is not None else draw_root_seed()
    with graceful_signals():
        store = connect()
        replay(store.client, store.spill_folder)
        resolved = config.resolved()
        tags = {
            "mlpop.root_seed": root_seed,
            "mlpop.config_digest": config_digest(resolved),
            "mlpop.state": "starting",
        }
        without_effect = {"mdn": "num_transforms", "maf": "num_components"}
        ignored = without_effect[config.density_estimator.type]
        params = select(resolved, [path for path in COMPARED if not path.endswith(ignored)]) | {
            "members": config.trainer.members,
            "root_seed": root_seed,
        }
        with open_run("experiment", config.name, tags=tags, params=params, store=store) as run:
            check_artifacts(store, run.experiment_id)
            tree = create_output_tree(config.trainer.save_dir, config.name)
            profiler = Profiler(
                tree.logs,
                json_name=config.profile_json,
                log_name=config.profile_log,
                show=config.show_profiling,
            )
            with log_to(tree.log_file), profiler.section("TotalTraining"):
                logger.info("root seed %d", root_seed)
                logger.info("%s", where_to_look(store, run.experiment_id, run.run_id))
                run.set_tags({"mlpop.save_dir": tree.models, "mlpop.log_dir": tree.logs})
                write_atomically(tree.config_file, json.dumps(resolved, indent=2) + "\n")
                run.send(tree.config_file)
                record_provenance(run)
                run.set_state("running")
                try:
                    rounds = _run_rounds(config, root_seed, run, tree, profiler)
                except BaseException:
                    # what went before helps to see why; the error itself must not be hidden
                    with suppress(TrackingError):
                        run.send(tree.log_file)
                    raise
            _finish(config, run, rounds)
            run.commit(
                {
                    "log.txt": tree.log_file,
                    config.profile_json: tree.logs / config.profile_json,
                    config.profile_log: tree.logs / config.profile_log,
                }
            )
            _say(run, rounds, tree.models or tree.logs)
            return ExperimentResult(run.run_id, tuple(rounds))


def config_digest(resolved: dict[str, Any]) -> str:
    """Return the SHA-256 of a resolved configuration."""
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()


def _run_rounds(
    config: SbiConfig, root_seed: int, run: TrackedRun, tree: OutputTree, profiler: Profiler
) -> list[RoundResult]:
    with ExitStack() as stack:
        with profiler.section("Initialization"):
            plan, stars = _plan(config)
        starting = "InitializingDask" if config.enable_dask else "InitializingWorkers"
        with profiler.section(starting):
            backend = stack.enter_context(
                make_backend(
                    n_processes=config.n_processes,
                    enable_dask=config.enable_dask,
                    workers_dask=config.workers_dask,
                    compute=config.compute,
                )
            )
        run.set_tags({"mlpop.backend": backend.name, "mlpop.workers": backend.workers})
        launch = Launch(config, root_seed, backend, plan, stars, tree, profiler, run)
        rounds = []
        for round_ in range(config.trainer.num_rounds):
            result = run_round(launch, round_)
            run.log_metrics(result.headline, step=round_)
            rounds.append(result)
        return rounds


def _plan(config: SbiConfig) -> tuple[SimulatorPlan | None, StellarDatabase | None]:
    simulates = (
        config.training_data_loader.simulate
        or (config.test_data_loader.testing and config.test_data_loader.simulate)
        or config.observed_sample.synthetic is not None
    )
    if not simulates:
        return None, None
    labels = config.prior_ranges.labels
    stars = stars_for(config.simulator, labels, config.dyn_data_loader)
    plan = simulator_plan(config.simulator, labels, config.map_generator, stars)
    return plan, stars if isinstance(stars, StellarDatabase) else None


def _finish(config: SbiConfig, run: TrackedRun, rounds: list[RoundResult]) -> None:
    """Write the description of the experiment: its result, and links to its rounds."""
    last = rounds[-1]
    shown = ("sim/count", "val/best_loss", "coverage/ece")
    lines = [
        RoundLine(
            number,
            result.run_id,
            "complete",
            {name: result.numbers[name] for name in shown if name in result.numbers},
        )
        for number, result in enumerate(rounds)
    ]
    verdict = last.coverage.calibration.verdict if last.coverage else ""
    about = (
        f"{config.trainer.type} with {config.trainer.members} network(s) on "
        f"{config.training_data_loader.num_sim} simulations of `{config.simulator.type}`."
    )
    run.set_note(experiment_note(run.experiment_id, about, lines, last.report.estimates, verdict))
    if verdict:
        run.set_tags({"mlpop.calibration": verdict})


def _say(run: TrackedRun, rounds: list[RoundResult], folder: Path) -> None:
    """Print the result and where to look."""
    last = rounds[-1]
    for estimate in last.report.estimates:
        truth = "" if estimate.truth is None else f"   truth {estimate.truth:g}"
        logger.info(
            "%-28s %9.4f  95 %% [%.4f, %.4f]%s",
            estimate.label,
            estimate.median,
            estimate.low,
            estimate.high,
            truth,
        )
    if last.coverage:
        calibration = last.coverage.calibration
        logger.info("calibration: %s (%d tests)", calibration.verdict, calibration.num_tests)
    logger.info("files: %s", folder)
    members = list(last.member_runs.values())
    logger.info("%s", where_to_look(run.store, run.experiment_id, run.run_id, members))
