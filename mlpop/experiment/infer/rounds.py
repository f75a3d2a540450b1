"""What `mlpop infer` does with every trained round: its posterior at x_o, and its coverage."""

from contextlib import ExitStack

from mlpop.compute import make_backend
from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics.diagnostic import Evidence
from mlpop.experiment.infer.setup import InferJob
from mlpop.experiment.inputs.observed import observed_sample
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.datasets import dataset_files, joined, load_round_set, supply_test
from mlpop.experiment.rounds.evaluation import evaluate
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.run_page import (
    findings_note,
    log_test_set,
    send_summary,
    verdict_tag,
)
from mlpop.experiment.simulations.simulated_set import SuppliedSet, given_set
from mlpop.experiment.simulations.simulator import experiment_plan
from mlpop.tracking import TrackedRun, open_run, round_note
from mlpop.tracking.description import Number


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
        self._job = job
        self._sets: list[SuppliedSet] = []
        self._previous: RoundResult | None = None
        with profiler.section("Initialization"):
            self._launch = _launch(job, root_seed, tree, profiler, run, stack)
            self._observed = job.observed or observed_sample(
                job.config,
                job.trained.problem,
                job.x_shape,
                None,
                plan=self._launch.plan,
                root_seed=root_seed,
                folder=tree.logs / "observed_sample",
            )
        observed = self._observed
        run.log_dataset("observed", observed.digest, str(observed.source), "observed")

    def round(self, number: int) -> RoundResult:
        """Sample one round at x_o, measure its coverage, and complete its MLflow run."""
        job, launch = self._job, self._launch
        posterior = job.trained.posteriors[number]
        tags = {"mlpop.round": number, "mlpop.state": "testing"}
        name = f"round_{number:02d}"
        with (
            launch.profiler.section(f"TotalRound{number}"),
            open_run("round", name, launch.run.run_id, tags=tags, store=launch.run.store) as run,
        ):
            evidence = Evidence(
                posterior,
                self._observed,
                job.trained.learned[number],
                launch.tree.round(number).models,
                launch.root_seed,
                number,
            )
            evaluation = evaluate(
                launch,
                evidence,
                lambda: self._tests(number, run),
                num_samples=job.config.infer.num_posterior_samples,
                section="ComputingCoverage",
            )
            estimates, numbers = evaluation.posterior.estimates, evaluation.numbers
            self._previous = result = RoundResult(
                number=number,
                run_id=run.run_id,
                problem=job.trained.problem,
                observed=self._observed,
                posterior=posterior,
                members=(),
                sets={},
                estimates=estimates,
                findings=evaluation.findings,
                numbers=numbers,
            )
            for logged in (launch.run, run):
                logged.log_metrics(numbers, step=number)
                send_summary(logged, estimates)
            run.set_tags(verdict_tag(result))
            shown: dict[str, Number] = {"draws": len(evaluation.posterior.samples)}
            shown |= {"tests": result.num_tests} if self._sets else {}
            shown |= findings_note(result)
            about = f"Round {number} of `{job.trained.source}`, nothing trained."
            about = " ".join([about, *result.sentences])
            run.set_note(round_note(run.experiment_id, about, shown, estimates))
            tests = dataset_files("test", self._sets[-1]) if self._sets else {}
            run.commit(evaluation.files | tests)
        return result

    def _tests(self, number: int, run: TrackedRun) -> Dataset | None:
        """Return the tests of a round, given or simulated; None without coverage."""
        job = self._job
        if not job.config.infer.compute_coverage:
            return None
        csv = job.tests[number]
        if csv is None:
            test = supply_test(self._launch, number, run, self._previous)
        else:
            test = given_set(csv)
        log_test_set(run, test)
        self._sets.append(test)
        sets = self._sets if job.config.trainer.append_simulations else [test]
        return joined([load_round_set(one.csv, job.trained.problem) for one in sets])


def _launch(
    job: InferJob,
    root_seed: int,
    tree: OutputTree,
    profiler: Profiler,
    run: TrackedRun,
    stack: ExitStack,
) -> Launch:
    """Return what all rounds share; workers are started only where something is simulated."""
    config = job.config
    plan, stars = experiment_plan(config) if job.simulates else (None, None)
    backend = stack.enter_context(
        make_backend(
            n_processes=config.n_processes if job.simulates else 1,
            enable_dask=config.enable_dask and job.simulates,
            workers_dask=config.workers_dask,
            compute=config.compute,
            logs=tree.logs,
        )
    )
    if job.simulates:
        run.set_tags({"mlpop.backend": backend.name, "mlpop.workers": backend.workers})
    lineage = Lineage(run.store)
    return Launch(config, root_seed, backend, plan, stars, tree, profiler, run, lineage)
