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
        config, simulates = job.config, job.simulates
        with profiler.section("Initialization"):
            plan, stars = experiment_plan(config) if simulates else (None, None)
            # workers are started only where something is simulated
            backend = stack.enter_context(
                make_backend(
                    n_processes=config.n_processes if simulates else 1,
                    enable_dask=config.enable_dask and simulates,
                    workers_dask=config.workers_dask,
                    compute=config.compute,
                    logs=tree.logs,
                )
            )
            if simulates:
                run.set_tags({"mlpop.backend": backend.name, "mlpop.workers": backend.workers})
            self._launch = Launch(
                config, root_seed, backend, plan, stars, tree, profiler, run, Lineage(run.store)
            )
            self._observed = job.observed or observed_sample(
                config,
                job.trained.problem,
                job.x_shape,
                None,
                plan=plan,
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
            folder, learned = launch.tree.round(number).models, job.trained.learned[number]
            evaluation = evaluate(
                launch,
                Evidence(posterior, self._observed, learned, folder, launch.root_seed, number),
                lambda: self._tests(number, run),
                num_samples=job.config.infer.num_posterior_samples,
                section="ComputingCoverage",
            )
            estimates, numbers = evaluation.estimates, evaluation.numbers
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
            shown: dict[str, Number] = {"draws": len(evaluation.samples)}
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
        return joined([load_round_set(dataset.csv, job.trained.problem) for dataset in sets])
