"""What `mlpop infer` does with every trained round: its posterior at x_o, and its coverage."""

from contextlib import ExitStack

from mlpop.compute import make_backend
from mlpop.experiment.infer.setup import InferJob
from mlpop.experiment.inputs.observed import observed_sample
from mlpop.experiment.output_tree import OutputTree
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
from mlpop.tracking import TrackedRun, open_run, round_note


class InferRounds:
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
