"""One round: simulations, training, posterior at x_o, tests; each step told to its MLflow run."""

from collections.abc import Sequence
from dataclasses import replace

from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics import table
from mlpop.experiment.diagnostics.diagnostic import Simulations
from mlpop.experiment.diagnostics.theta import warn_of_training_set
from mlpop.experiment.inputs.observed import ObservedSample, copy_observed, observed_sample
from mlpop.experiment.inputs.problem import (
    PROBLEM,
    LearningProblem,
    learning_problem,
    load_training_set,
    save_problem,
    write_training_arrays,
)
from mlpop.experiment.output_tree import PROPOSAL_JSON
from mlpop.experiment.parameters import round_parameters, supply_parameters
from mlpop.experiment.rounds.compressor import compressor_files, compressor_for
from mlpop.experiment.rounds.context import Launch, OpenRound
from mlpop.experiment.rounds.datasets import (
    TEST,
    TRAINING,
    dataset_files,
    joined,
    load_sets,
    set_kinds,
    simulate_ahead,
    supply,
)
from mlpop.experiment.rounds.ensemble import (
    Ensemble,
    make_posterior,
    train_ensemble,
    validation_rows,
)
from mlpop.experiment.rounds.evaluation import evaluate, plot_next_proposal
from mlpop.experiment.rounds.learned_region import LearnedSets, in_prior, inside
from mlpop.experiment.rounds.proposals import proposed, round_support
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.round_tests import round_tests
from mlpop.experiment.rounds.run_page import (
    describe_round,
    log_inputs,
    observed_figure,
    round_numbers,
    send_summary,
    source_of,
)
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.inference.posteriors.store import POSTERIOR_FILE, save_posterior
from mlpop.inference.proposals.truncation import Support
from mlpop.io.files import write_json
from mlpop.tracking import Node, open_run
from mlpop.tracking.artifacts import MANIFEST
from mlpop.tracking.run import STAGE_TAG

NUM_PROPOSAL_SAMPLES = 5_000
"""Draws of the next proposal that are saved and plotted, as documented."""


def run_round(
    launch: Launch, round_: int, past: Sequence[RoundResult], earlier: Node | None = None
) -> RoundResult:
    """Run one round and complete its MLflow run.

    The run of this round that an earlier launch left unfinished, `earlier`, is opened again; for
    other arguments see `OpenRound`.

    Raises:
        MlpopError: a step failed; the runs say which and why.
    """
    config, folders = launch.config, launch.tree.round(round_)
    previous = past[-1] if past else None
    tags = {"mlpop.round": round_, "mlpop.state": "simulating", STAGE_TAG: "simulating"}
    with (
        launch.profiler.section(f"TotalRound{round_}"),
        open_run(
            "round",
            f"round_{round_:02d}",
            launch.run.run_id,
            tags=tags,
            params=round_parameters(config, round_, launch.root_seed),
            store=launch.run.store,
            run_id=None if earlier is None else earlier.run_id,
        ) as run,
    ):
        current = OpenRound(launch, round_, run, past, earlier)
        sets, proposal = supply(current, set_kinds(config))
        training = sets[TRAINING.use]
        if proposal:
            write_json(folders.models / PROPOSAL_JSON, proposal)
        if previous is None:
            given = load_training_set(config, training.csv)
            problem, observed = _pose(current, given, training)
            data = {round_: in_prior(problem.prior, given)}
        else:
            problem, observed = previous.problem, previous.observed
            data = load_sets(current, TRAINING, sets, problem)
            given = data[round_]
        support = round_support(launch, previous, proposal, observed)
        within = support if config.trainer.learns_inside(round_) else None
        learned_from = inside(within, problem.prior, data)
        run.log_params(
            supply_parameters(
                proposal,
                source_of(training, proposal),
                support,
                problem.prior,
                training.num_simulations,
                learned_from.count,
            )
        )
        for logged in (launch.run, run):
            log_inputs(logged, sets, observed, launch.stars, len(data[round_]))

        # a broken test set is to be known before hours of training
        test_sets = load_sets(current, TEST, sets, problem)
        run.set_state("training")
        with launch.profiler.section(f"TrainingRound{round_}"):
            ensemble = _train(current, problem, learned_from, within)

        run.set_state("testing")
        posterior = make_posterior(launch, ensemble.folders, problem)
        save_posterior(folders.models / POSTERIOR_FILE, posterior, ensemble.folders)
        trained = RoundResult(
            number=round_,
            run_id=run.run_id,
            problem=problem,
            observed=observed,
            posterior=posterior,
            members=ensemble.folders,
            sets=sets,
            estimates=(),
            findings={},
            numbers={},
            member_runs=ensemble.run_ids,
            support=support,
        )
        simulate_ahead(launch, trained)
        own = {round_: learned_from.used[round_]}
        learned = table.learn(
            Simulations(
                posterior,
                given,
                learned_from.sets[round_],
                validation_rows(config, own, launch.root_seed),
                test_sets.get(round_),
                folders.models,
                from_prior=previous is None,
            )
        )
        evaluation = evaluate(
            current,
            posterior,
            observed,
            learned,
            lambda: round_tests(
                current,
                problem.prior,
                test_sets,
                within,
                observed,
            ),
            problem,
            sets,
            num_samples=config.trainer.num_posterior_samples,
            num_predictive=config.test_data_loader.num_predictive,
            section="TestingRound",
        )
        result = replace(
            trained,
            estimates=evaluation.estimates,
            findings=evaluation.findings,
            numbers=round_numbers(training, proposal, ensemble, evaluation, learned_from.count),
        )
        next_proposal = {}
        if config.trainer.plot_proposal:
            draw = proposed(launch, result, round_ + 1, "plot", NUM_PROPOSAL_SAMPLES)
            next_proposal = plot_next_proposal(draw, problem.prior, folders, round_ + 1)
        run.log_metrics(result.numbers, step=round_)
        for logged in (launch.run, run):
            send_summary(logged, result.estimates)
        describe_round(run, result, proposal)
        files = {
            POSTERIOR_FILE: folders.models / POSTERIOR_FILE,
            **evaluation.files,
            **next_proposal,
            **compressor_files(folders, problem.preprocessing.compressor),
            **observed_figure(observed, folders, config),
            **dataset_files(sets),
        }
        write_json(folders.models / MANIFEST, run.commit(files))
        return result


def _pose(
    current: OpenRound, data: Dataset, training: SuppliedSet
) -> tuple[LearningProblem, ObservedSample]:
    """Return what all rounds share, and keep it in the run of round 0."""
    launch, run, folder = current.launch, current.run, current.folders.models
    config = launch.config
    problem = learning_problem(config, data, training.statistics)
    observed = observed_sample(
        config,
        problem,
        data.x.shape[1:],
        training.csv,
        plan=launch.plan,
        root_seed=launch.root_seed,
        folder=folder / "observed_sample",
    )
    warn_of_training_set(problem.prior, data)
    problem = compressor_for(current, problem, in_prior(problem.prior, data))
    save_problem(folder / PROBLEM, problem)
    run.send(folder / PROBLEM)
    for path in copy_observed(observed, folder):
        run.send(path)
    return problem, observed


def _train(
    current: OpenRound, problem: LearningProblem, data: LearnedSets, within: Support | None
) -> Ensemble:
    launch, config = current.launch, current.launch.config
    arrays = write_training_arrays(
        current.folders.models / "training_arrays", problem, joined(data.sets.values())
    )
    try:
        rows = validation_rows(config, data.used, launch.root_seed)
        ensemble = train_ensemble(current, problem, arrays, rows, within)
    finally:
        arrays.remove()
    if config.trainer.ensemble:
        for member, result in enumerate(ensemble.results):
            launch.profiler.record(
                f"TrainingRound{current.number}Ensemble{member}", result.seconds
            )
    return ensemble
