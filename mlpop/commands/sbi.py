"""The main job: rounds of simulation-based inference, tracked from first draw to verdict."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from mlpop.compute import draw_root_seed
from mlpop.compute.backends.serial import SerialBackend
from mlpop.config.files.facts import ExperimentFacts
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.checks import check_classes, check_inputs
from mlpop.experiment.models.known_posterior import KnownPosterior
from mlpop.experiment.models.posterior_model import log_posterior_model
from mlpop.experiment.output_tree import CONFIG_FILE
from mlpop.experiment.parameters import experiment_parameters
from mlpop.experiment.profile import Profiler
from mlpop.experiment.report.html import REPORT, in_a_sentence, write_report
from mlpop.experiment.report.summary import describe, print_result
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.resume.start import (
    KIND,
    SIMULATOR,
    Beginning,
    recorded_launch,
    unfinished_launch,
)
from mlpop.experiment.rounds.complete_round import restore_round
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.run import run_round
from mlpop.experiment.rounds.run_page import send_summary
from mlpop.experiment.session import Session, session
from mlpop.experiment.simulations.ahead import Ahead
from mlpop.experiment.simulations.simulator import experiment_plan
from mlpop.io.records import BrokenRecord
from mlpop.tracking import Store, TrackedRun, connect, graceful_signals

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExperimentResult:
    """What a launch gave.

    Attributes:
        run_id: its MLflow run.
        rounds: result of every round.
    """

    run_id: str
    rounds: tuple[RoundResult, ...]

    @property
    def posterior(self) -> KnownPosterior:
        """The posterior of the last round, which knows its x_o."""
        last = self.rounds[-1]
        return KnownPosterior(last.posterior, last.observed.x, last.observed.truth)


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
    return _launch(Beginning(config, root_seed, Lineage(connect())))


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
        beginning = find(connect())
        check_classes(beginning.config)
        if beginning.lineage.round(0) is None:
            check_inputs(beginning.config)
        return _launch(beginning)


def _launch(beginning: Beginning) -> ExperimentResult:
    config, root_seed = beginning.config, beginning.root_seed
    with session(
        KIND,
        config.name,
        config.resolved(),
        config_file=CONFIG_FILE,
        save_dir=config.trainer.save_dir,
        root_seed=root_seed,
        params=experiment_parameters(config),
        tags=beginning.tags,
        store=beginning.lineage.store,
        resumed=beginning.run,
    ) as launch:
        run, tree, profiler = launch.run, launch.tree, launch.profiler(config)
        with profiler.section("TotalTraining"):
            rounds = _run_rounds(beginning.claimed(), launch, profiler)
            launch.files.update(
                write_report(run, config, root_seed, rounds, tree, profiler, launch.code)
            )
        _tell(config, run, rounds)
        last = rounds[-1]
        log_posterior_model(run, config.name, last)
        print_result(last, launch.files.get(REPORT))
        launch.compared["experiments"] = []
        launch.compared["rounds"] = [result.run_id for result in rounds]
        launch.compared["members"] = [
            member for result in rounds for member in result.member_runs.values()
        ]
        return ExperimentResult(run.run_id, tuple(rounds))


def _run_rounds(beginning: Beginning, launch: Session, profiler: Profiler) -> list[RoundResult]:
    config, lineage, run = beginning.config, beginning.lineage, launch.run
    number = config.trainer.num_rounds
    complete = lineage.complete_rounds(config)
    more = complete < number
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
                launch.backend(
                    config.n_processes if more else 1,
                    config.enable_dask and more,
                    config.workers_dask,
                    config.compute,
                )
            )
        # without workers nobody is idle
        serial = isinstance(backend, SerialBackend)
        shared = Launch(
            config,
            beginning.root_seed,
            backend,
            plan,
            stars,
            launch.tree,
            profiler,
            run,
            lineage,
            ahead=None if serial else stack.enter_context(Ahead(backend)),
        )
        rounds: list[RoundResult] = []
        for round_ in range(number):
            earlier = lineage.round(round_)
            if earlier is not None and round_ < complete:
                previous = rounds[-1] if rounds else None
                try:
                    result = restore_round(shared, earlier, previous, with_sets=more)
                except BrokenRecord as error:
                    logger.warning("%s is done again: %s", earlier.name, error)
                    lineage.distrusted.add(earlier.run_id)
                    break
                # an earlier launch may have ended before it said so; what is there is not repeated
                run.curves.extend(result.headline, step=round_)
                if round_ == number - 1:
                    send_summary(run, result.estimates)
                rounds.append(result)
                continue
            result = run_round(shared, round_, rounds, earlier)
            run.log_metrics(result.headline, step=round_)
            rounds.append(result)
            _tell(config, run, rounds)
        else:
            return rounds
    return _run_rounds(beginning, launch, profiler)


def _tell(config: SbiConfig, run: TrackedRun, rounds: list[RoundResult]) -> None:
    """Write the description of the experiment: its result, and links to its rounds."""
    shown = ("sim/trained_on", "proposal/acceptance", "val/best_loss", "coverage/ece")
    describe(run, in_a_sentence(config), rounds, shown)
