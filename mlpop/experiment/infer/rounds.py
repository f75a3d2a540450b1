"""What `mlpop infer` does with every trained round: its posterior at x_o, and its coverage."""

from collections.abc import Sequence
from contextlib import ExitStack

from mlpop.compute import make_backend
from mlpop.experiment.infer.setup import InferJob
from mlpop.experiment.inputs.observed import ObservedSample, observed_sample
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.parameters import round_parameters
from mlpop.experiment.profile import Profiler
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.context import Launch, OpenRound
from mlpop.experiment.rounds.datasets import TEST, dataset_files, load_sets, supply
from mlpop.experiment.rounds.evaluation import evaluate
from mlpop.experiment.rounds.proposals import round_support
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.round_tests import RoundTests, round_tests
from mlpop.experiment.rounds.run_page import log_test_set, send_findings, send_summary
from mlpop.experiment.simulations.simulated_set import SuppliedSet, given_set
from mlpop.experiment.simulations.simulator import experiment_plan
from mlpop.tracking import TrackedRun, open_run
from mlpop.tracking.pages.description import Number


def infer_rounds(
    job: InferJob, root_seed: int, tree: OutputTree, profiler: Profiler, run: TrackedRun
) -> list[RoundResult]:
    """Go through the rounds; simulate only where a set is not given."""
    config, simulates = job.config, job.simulates
    with ExitStack() as stack:
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
            lineage = Lineage(run.store)
            launch = Launch(config, root_seed, backend, plan, stars, tree, profiler, run, lineage)
            observed = job.observed or observed_sample(
                config,
                job.trained.problem,
                job.x_shape,
                None,
                plan=plan,
                root_seed=root_seed,
                folder=tree.logs / "observed_sample",
            )
        run.log_dataset("observed", observed.digest, str(observed.source), "observed")
        rounds: list[RoundResult] = []
        for _ in range(config.trainer.num_rounds):
            rounds.append(_infer_round(job, launch, observed, rounds))
        return rounds


def _infer_round(
    job: InferJob, launch: Launch, observed: ObservedSample, past: Sequence[RoundResult]
) -> RoundResult:
    """Sample the next round at x_o, measure its coverage, and complete its MLflow run."""
    config, trained, number = job.config, job.trained, len(past)
    posterior = trained.posteriors[number].to(launch.device)
    tags = {"mlpop.round": number, "mlpop.state": "testing"}
    name = f"round_{number:02d}"
    with (
        launch.profiler.section(f"TotalRound{number}"),
        open_run(
            "round",
            name,
            launch.run.run_id,
            tags=tags,
            params=round_parameters(config, number, launch.root_seed),
            store=launch.run.store,
        ) as run,
    ):
        current = OpenRound(launch, number, run, past)
        elsewhere = _elsewhere(job, observed, number)
        support = round_support(
            launch, current.previous, trained.proposals[number], trained.observed
        )
        within = None if elsewhere or not config.trainer.learns_inside(number) else support
        sets: dict[str, SuppliedSet] = {}

        def tests() -> RoundTests | None:
            """Return the tests of the round, given or simulated; None without coverage."""
            if not config.infer.compute_coverage:
                return None
            csv = job.tests[number]
            sets.update({TEST.use: given_set(csv)} if csv else supply(current, (TEST,))[0])
            log_test_set(run, sets[TEST.use])
            return round_tests(
                current,
                trained.problem.prior,
                load_sets(current, TEST, sets, trained.problem),
                within,
                # sets that were read are those of the training
                (trained.observed or observed) if csv else observed,
                foreign=csv is not None,
            )

        evaluation = evaluate(
            current,
            posterior,
            observed,
            trained.learned[number],
            tests,
            trained.problem,
            sets,
            num_samples=config.infer.num_posterior_samples,
            num_predictive=config.infer.num_predictive,
            section="ComputingCoverage",
            elsewhere=elsewhere,
        )
        estimates, numbers = evaluation.estimates, evaluation.numbers
        result = RoundResult(
            number=number,
            run_id=run.run_id,
            problem=trained.problem,
            observed=observed,
            posterior=posterior,
            members=(),
            sets=sets,
            estimates=estimates,
            findings=evaluation.findings,
            numbers=numbers,
            support=support,
        )
        for logged in (launch.run, run):
            logged.log_metrics(numbers, step=number)
            send_summary(logged, estimates)
        shown: dict[str, Number] = {"draws": config.infer.num_posterior_samples}
        shown |= {"tests": result.num_tests} if TEST.use in sets else {}
        about = f"Round {number} of `{trained.source}`, nothing trained."
        send_findings(run, result, about, shown)
        run.commit(evaluation.files | dataset_files(sets))
    return result


def _elsewhere(job: InferJob, observed: ObservedSample, number: int) -> bool:
    """Tell whether a round learned from simulations for another x_o than the one asked for.

    Round 0 knows no x_o. Where the training has not kept its own, nobody can tell.
    """
    trained = job.trained.observed
    return number > 0 and trained is not None and trained.digest != observed.digest
