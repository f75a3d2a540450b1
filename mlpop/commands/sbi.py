"""The main job: rounds of simulation-based inference, tracked from first draw to verdict."""

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mlpop.compute import draw_root_seed, make_backend
from mlpop.config.base import config_digest
from mlpop.config.files.checks import ExperimentFacts
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.methods import NETWORKS
from mlpop.experiment.inputs.checks import check_inputs
from mlpop.experiment.logs import log_to
from mlpop.experiment.models.posterior_model import log_posterior_model
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.report.html import in_a_sentence, write_report
from mlpop.experiment.resume.attempts import note_attempt
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.resume.start import (
    SIMULATOR,
    Beginning,
    output_tree,
    recorded_launch,
    unfinished_launch,
)
from mlpop.experiment.rounds.complete_round import restore_round
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.run import run_round
from mlpop.experiment.rounds.run_page import send_summary
from mlpop.experiment.simulations.simulator import experiment_plan
from mlpop.io.files import write_atomically
from mlpop.tracking import (
    RoundLine,
    Store,
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
from mlpop.tracking.outages import resumable

logger = logging.getLogger(__name__)

COMPARED = (
    "trainer.type",
    "trainer.num_rounds",
    "trainer.batch_size",
    "trainer.lr",
    "density_estimator.type",
    "density_estimator.classifier_nre",
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

    With `resume_training.resume` it goes on with the launch whose folders that block names.

    Args:
        config: what to do.

    Raises:
        ConfigError: the configuration asks for something that is not available or contradicts
            the data. Nothing is written if that can be seen from the files that are given.
        MlpopError: a step failed; the MLflow run ends FAILED and says why.
    """
    if config.resume_training.resume:
        return _continue(lambda store: recorded_launch(store, config))
    check_inputs(config)
    root_seed = config.root_seed if config.root_seed is not None else draw_root_seed()
    with graceful_signals():
        store = connect()
        replay(store.client, store.spill_folder)
        return _launch(Beginning(config, root_seed, Lineage(store)), store)


def resume_experiment(which: str, config: SbiConfig | None = None) -> ExperimentResult:
    """Continue an interrupted experiment from its run tree: what is complete there is kept.

    The result is the same, bit for bit, as if the experiment had never been interrupted.

    Args:
        which: a run id, or `last` for the newest that is neither complete nor alive.
        config: must give the same results as that of the run, apart from more rounds; by default
            it is that of the run.

    Raises:
        ConfigError: the configuration has changed; every field that differs is named.
        TrackingError: there is no such run, it is complete, or a living process works on it.
        MlpopError: a step failed; the MLflow run ends FAILED and says why.
    """
    return _continue(lambda store: unfinished_launch(store, which, config))


def _continue(find: Callable[[Store], Beginning]) -> ExperimentResult:
    with graceful_signals():
        store = connect()
        beginning = find(store)
        if beginning.lineage.round(0) is None:
            check_inputs(beginning.config)
        replay(store.client, store.spill_folder)
        if beginning.run is not None:
            note_attempt(store, beginning.run)
        return _launch(beginning, store)


def _launch(beginning: Beginning, store: Store) -> ExperimentResult:
    config, root_seed, root = beginning.config, beginning.root_seed, beginning.run
    resolved = config.resolved()
    tags = {
        **beginning.tags,
        "mlpop.root_seed": root_seed,
        "mlpop.config_digest": config_digest(resolved),
        "mlpop.state": "starting",
    }
    params = select(resolved, compared(config)) | {
        "members": config.trainer.members,
        "root_seed": root_seed,
    }
    again = None if root is None else root.run_id
    with (
        open_run(
            "experiment", config.name, tags=tags, params=params, store=store, run_id=again
        ) as run,
        resumable(),
    ):
        check_artifacts(store, run.experiment_id)
        beginning = beginning.claimed()
        tree = output_tree(config, root)
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
            code = record_provenance(run)
            run.set_state("running")
            try:
                rounds = _run_rounds(beginning, run, tree, profiler)
            except BaseException:
                # what went before helps to see why
                if run.answers():
                    run.spare(tree.log_file, tree.log_file.name)
                raise
            report = write_report(run, config, root_seed, rounds, tree, profiler, code)
        _tell(config, run, rounds)
        last = rounds[-1]
        log_posterior_model(run, config.name, last, tree.round(last.number).models)
        run.commit(
            {
                "log.txt": tree.log_file,
                config.profile_json: tree.logs / config.profile_json,
                config.profile_log: tree.logs / config.profile_log,
            }
            | report
        )
        _say(run, rounds, tree.models or tree.logs)
        return ExperimentResult(run.run_id, tuple(rounds))


def compared(config: SbiConfig) -> list[str]:
    """Return the fields by which this experiment is compared, without those it ignores."""
    ignored = {f"density_estimator.args.{name}" for name in config.density_estimator.unused}
    used = config.trainer.method.network
    ignored |= {f"density_estimator.{field}" for field in NETWORKS if field != used}
    return [path for path in COMPARED if path not in ignored]


def _run_rounds(
    beginning: Beginning, run: TrackedRun, tree: OutputTree, profiler: Profiler
) -> list[RoundResult]:
    config, lineage = beginning.config, beginning.lineage
    number = config.trainer.num_rounds
    kept = lineage.complete_rounds(config)
    more = kept < number
    with ExitStack() as stack:
        with profiler.section("Initialization"):
            simulates = more and ExperimentFacts(config).simulates
            plan, stars = experiment_plan(config) if simulates else (None, None)
            if plan is not None:
                beginning.check_simulator(plan.identity)
                run.set_tags({SIMULATOR: plan.identity})
        starting = "InitializingDask" if config.enable_dask else "InitializingWorkers"
        with profiler.section(starting):
            backend = stack.enter_context(
                make_backend(
                    n_processes=config.n_processes if more else 1,
                    enable_dask=config.enable_dask and more,
                    workers_dask=config.workers_dask,
                    compute=config.compute,
                    logs=tree.logs,
                )
            )
        run.set_tags(
            {
                "mlpop.backend": backend.name,
                "mlpop.workers": backend.workers,
                "mlpop.dask_dashboard": getattr(backend, "dashboard_link", None),
            }
        )
        launch = Launch(
            config, beginning.root_seed, backend, plan, stars, tree, profiler, run, lineage
        )
        rounds: list[RoundResult] = []
        for round_ in range(number):
            begun = lineage.round(round_)
            if begun is not None and round_ < kept:
                previous = rounds[-1] if rounds else None
                result = restore_round(launch, begun, previous, with_sets=more)
                # an earlier launch may have ended before it said so; what is there is not repeated
                run.curves.extend(result.headline, step=round_)
                if round_ == number - 1:
                    send_summary(run, result.estimates)
                rounds.append(result)
                continue
            result = run_round(launch, round_, rounds, begun)
            run.log_metrics(result.headline, step=round_)
            rounds.append(result)
            _tell(config, run, rounds)
        return rounds


def _tell(config: SbiConfig, run: TrackedRun, rounds: list[RoundResult]) -> None:
    """Write the description of the experiment: its result, and links to its rounds."""
    last = rounds[-1]
    shown = ("sim/trained_on", "proposal/acceptance", "val/best_loss", "coverage/ece")
    lines = [
        RoundLine(
            result.number,
            result.run_id,
            "complete",
            {name: result.numbers[name] for name in shown if name in result.numbers},
        )
        for result in rounds
    ]
    about = in_a_sentence(config)
    run.set_note(experiment_note(run.experiment_id, about, lines, last.estimates, last.verdict))
    if last.verdict:
        run.set_tags({"mlpop.calibration": last.verdict})


def _say(run: TrackedRun, rounds: list[RoundResult], folder: Path) -> None:
    """Print the result and where to look."""
    last = rounds[-1]
    for estimate in last.estimates:
        truth = "" if estimate.truth is None else f"   truth {estimate.truth:g}"
        logger.info(
            "%-28s %9.4f  95 %% [%.4f, %.4f]%s",
            estimate.label,
            estimate.median,
            estimate.low,
            estimate.high,
            truth,
        )
    if last.verdict:
        logger.info("calibration: %s (%d tests)", last.verdict, last.num_tests)
    logger.info("files: %s", folder)
    members = list(last.member_runs.values())
    logger.info("%s", where_to_look(run.store, run.experiment_id, run.run_id, members))
