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

from mlpop.compute import draw_root_seed, make_backend
from mlpop.config.base import config_digest
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import TrackingError
from mlpop.experiment.infer.setup import InferJob, prepare
from mlpop.experiment.inputs.observed import observed_sample
from mlpop.experiment.logs import log_to
from mlpop.experiment.output_tree import OutputTree, create_output_tree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.datasets import dataset_files, joined, load_round_set, supply_test
from mlpop.experiment.rounds.evaluation import (
    CoverageReport,
    PosteriorReport,
    coverage_metrics,
    estimate_metrics,
    measure_coverage,
    sample_observed,
)
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.typicality import judge_observed
from mlpop.experiment.simulations.simulated_set import SuppliedSet, given_set
from mlpop.experiment.simulations.simulator import experiment_plan
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
    round_note,
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
                        work = _Work(job, root_seed, tree, profiler, run, stack)
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


class _Work:
    """Goes through the rounds; simulates only where a set is not given."""

    def __init__(
        self,
        job: InferJob,
        root_seed: int,
        tree: OutputTree,
        profiler: Profiler,
        run: TrackedRun,
        stack: ExitStack,
    ) -> None:
        self._job, self._root_seed, self._tree = job, root_seed, tree
        self._profiler, self._run = profiler, run
        self._sets: list[SuppliedSet] = []
        self._previous: RoundResult | None = None
        with profiler.section("Initialization"):
            self._launch = _launch(job, root_seed, tree, profiler, run, stack)
            self._observed = job.observed or observed_sample(
                job.config,
                job.trained.problem,
                job.x_shape,
                None,
                plan=None if self._launch is None else self._launch.plan,
                root_seed=root_seed,
                folder=tree.logs / "observed_sample",
            )
        observed = self._observed
        run.log_dataset("observed", observed.digest, str(observed.source), "observed")

    def round(self, number: int) -> RoundResult:
        """Sample one round at x_o, measure its coverage, and complete its MLflow run."""
        job, config = self._job, self._job.config
        posterior = job.trained.posteriors[number]
        folders = self._tree.round(number)
        tags = {"mlpop.round": number, "mlpop.state": "testing"}
        name = f"round_{number:02d}"
        with (
            self._profiler.section(f"TotalRound{number}"),
            open_run("round", name, self._run.run_id, tags=tags, store=self._run.store) as run,
        ):
            known = job.trained.typicality[number]
            likeness = judge_observed(known, posterior, self._observed, folders)
            report = sample_observed(
                posterior,
                self._observed,
                folders,
                num_samples=config.infer.num_posterior_samples,
                root_seed=self._root_seed,
                round_=number,
            )
            numbers = estimate_metrics(report.estimates) | dict(report.chains) | likeness.metrics
            coverage, test, files = None, None, dict(likeness.files)
            if config.infer.compute_coverage:
                test = self._test_set(number, run)
                run.log_dataset(
                    "test",
                    test.digest,
                    str(test.csv),
                    "testing",
                    {"num_rows": test.num_simulations},
                )
                self._sets.append(test)
                sets = self._sets if config.trainer.append_simulations else [test]
                with self._profiler.section(f"ComputingCoverage{number}"):
                    coverage = measure_coverage(
                        posterior,
                        joined([load_round_set(one.csv, job.trained.problem) for one in sets]),
                        folders,
                        root_seed=self._root_seed,
                        round_=number,
                        typicality=likeness.p_values,
                    )
                numbers = coverage_metrics(coverage.calibration) | numbers
                files |= coverage.files | dataset_files("test", test)
                run.set_tags({"mlpop.calibration": coverage.calibration.verdict})
            run.log_metrics(numbers, step=number)
            self._run.log_metrics(numbers, step=number)
            for logged in (self._run, run):
                logged.send_table(
                    "posterior_summary.json",
                    ("parameter", "median", "low_95", "high_95", "truth"),
                    [(e.label, e.median, e.low, e.high, e.truth) for e in report.estimates],
                )
            run.set_note(self._note(run, number, report, coverage))
            run.commit(report.files | files)
        calibration = None if coverage is None else coverage.calibration
        self._previous = RoundResult(
            number=number,
            run_id=run.run_id,
            problem=job.trained.problem,
            observed=self._observed,
            posterior=posterior,
            members=(),
            training=None,
            test=test,
            estimates=report.estimates,
            verdict=likeness.verdict if calibration is None else calibration.verdict,
            num_tests=0 if calibration is None else calibration.num_tests,
            numbers=numbers,
        )
        return self._previous

    def _test_set(self, number: int, run: TrackedRun) -> SuppliedSet:
        csv = self._job.tests[number]
        if csv is not None:
            return given_set(csv)
        assert self._launch is not None
        return supply_test(self._launch, number, run, self._previous)

    def _note(
        self,
        run: TrackedRun,
        number: int,
        report: PosteriorReport,
        coverage: CoverageReport | None,
    ) -> str:
        shown: dict[str, float | str | int | None] = {"draws": len(report.samples)}
        if coverage is not None:
            shown["tests"] = coverage.calibration.num_tests
            shown["calibration"] = coverage.calibration.verdict
            shown["coverage error"] = coverage.calibration.expected_calibration_error
        about = f"Round {number} of `{self._job.trained.source}`, nothing trained."
        return round_note(run.experiment_id, about, shown, report.estimates)


def _launch(
    job: InferJob,
    root_seed: int,
    tree: OutputTree,
    profiler: Profiler,
    run: TrackedRun,
    stack: ExitStack,
) -> Launch | None:
    """Return what simulations need, None where nothing is simulated."""
    if not job.simulates:
        return None
    config = job.config
    plan, stars = experiment_plan(config)
    backend = stack.enter_context(
        make_backend(
            n_processes=config.n_processes,
            enable_dask=config.enable_dask,
            workers_dask=config.workers_dask,
            compute=config.compute,
            logs=tree.logs,
        )
    )
    run.set_tags({"mlpop.backend": backend.name, "mlpop.workers": backend.workers})
    lineage = Lineage(run.store)
    return Launch(config, root_seed, backend, plan, stars, tree, profiler, run, lineage)


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
