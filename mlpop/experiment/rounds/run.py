"""One round: simulations, training, posterior at x_o, tests; each step told to its MLflow run."""

from collections.abc import Mapping, Sequence

from mlpop.datasets.loading import Dataset
from mlpop.datasets.mirror import localized
from mlpop.experiment.diagnostics import table
from mlpop.experiment.diagnostics.diagnostic import Evidence, Simulations
from mlpop.experiment.inputs.observed import ObservedSample, copy_observed, observed_sample
from mlpop.experiment.inputs.problem import (
    PROBLEM,
    LearningProblem,
    learning_problem,
    load_training_set,
    save_problem,
    write_training_arrays,
)
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.rounds.compressor import compressor_files, compressor_for
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.datasets import (
    PROPOSAL_JSON,
    TEST,
    TRAINING,
    RoundSets,
    dataset_files,
    joined,
    load_round_set,
    supply,
)
from mlpop.experiment.rounds.ensemble import Ensemble, Start, train_ensemble, validation_rows
from mlpop.experiment.rounds.evaluation import evaluate, plot_next_proposal
from mlpop.experiment.rounds.posterior import make_posterior
from mlpop.experiment.rounds.proposals import proposed
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.run_page import (
    describe_round,
    log_inputs,
    observed_figure,
    round_numbers,
    send_summary,
)
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.inference.posteriors.store import POSTERIOR_FILE, save_posterior
from mlpop.io.files import write_json
from mlpop.tracking import Node, TrackedRun, open_run
from mlpop.tracking.artifacts import MANIFEST

NUM_PROPOSAL_SAMPLES = 5_000
"""Draws of the next proposal that are saved and plotted, as documented."""


def run_round(
    launch: Launch, round_: int, past: Sequence[RoundResult], earlier: Node | None = None
) -> RoundResult:
    """Run one round and complete its MLflow run.

    Args:
        launch, round_: of the experiment; the number of the round.
        past: results of all rounds before it.
        earlier: a run of this round that an earlier launch left unfinished: it is opened again,
            and its theta, shards, members and checkpoints are taken over.

    Raises:
        MlpopError: a step failed; the runs say which and why.
    """
    config, folders = launch.config, launch.tree.round(round_)
    previous = past[-1] if past else None
    tags = {"mlpop.round": round_, "mlpop.state": "simulating", "mlpop.stage": "simulating"}
    with (
        launch.profiler.section(f"TotalRound{round_}"),
        open_run(
            "round",
            f"round_{round_:02d}",
            launch.run.run_id,
            tags=tags,
            store=launch.run.store,
            run_id=None if earlier is None else earlier.run_id,
        ) as run,
    ):
        sets = supply(launch, round_, run, previous, earlier)
        if sets.proposal:
            write_json(folders.models / PROPOSAL_JSON, sets.proposal)
        data = _training_data(launch, round_, past, sets.training)
        if previous is None:
            problem, observed = _pose(launch, data[round_], sets.training, run, folders, earlier)
        else:
            problem, observed = previous.problem, previous.observed
        count = sum(len(part) for part in data.values())
        for logged in (launch.run, run):
            log_inputs(logged, sets, observed, launch.stars, len(data[round_]))

        # a broken test set is to be known before hours of training
        test_sets = _test_sets(launch, past, sets, problem)
        run.set_state("training")
        with launch.profiler.section(f"TrainingRound{round_}"):
            ensemble = _train(launch, round_, problem, data, run, folders, previous, earlier)

        run.set_state("testing")
        posterior = make_posterior(config, ensemble.estimators, problem)
        save_posterior(folders.models / POSTERIOR_FILE, posterior, ensemble.folders)
        rows = validation_rows(config, {round_: len(data[round_])}, launch.root_seed)
        tests = test_sets[-1] if test_sets else None
        learned = table.learn(Simulations(posterior, data[round_], rows, tests, folders.models))
        evaluation = evaluate(
            launch,
            Evidence(posterior, observed, learned, folders.models, launch.root_seed, round_),
            lambda: joined(test_sets) if test_sets else None,
            num_samples=config.trainer.num_posterior_samples,
            section="TestingRound",
        )
        result = RoundResult(
            number=round_,
            run_id=run.run_id,
            problem=problem,
            observed=observed,
            posterior=posterior,
            members=ensemble.folders,
            sets=sets.supplied,
            estimates=evaluation.estimates,
            findings=evaluation.findings,
            numbers=round_numbers(sets, ensemble, evaluation, count),
            member_runs=ensemble.run_ids,
        )
        next_proposal = {}
        if config.trainer.plot_proposal:
            draw = proposed(launch, result, round_ + 1, "plot", NUM_PROPOSAL_SAMPLES)
            next_proposal = plot_next_proposal(draw, problem.prior, folders, round_ + 1)
        run.log_metrics(result.numbers, step=round_)
        for logged in (launch.run, run):
            send_summary(logged, result.estimates)
        describe_round(run, result, sets, ensemble, count)
        files = {
            POSTERIOR_FILE: folders.models / POSTERIOR_FILE,
            **evaluation.files,
            **next_proposal,
            **compressor_files(folders, problem.preprocessing.compressor),
            **observed_figure(observed, folders, config),
        }
        for use, dataset in sets.supplied.items():
            files |= dataset_files(use, dataset)
        write_json(folders.models / MANIFEST, run.commit(files))
        return result


def _training_data(
    launch: Launch, round_: int, past: Sequence[RoundResult], training: SuppliedSet
) -> dict[int, Dataset]:
    """Return round -> simulations, of all rounds that this one learns from."""
    if not past:
        return {round_: load_training_set(launch.config, training.csv)}
    files = {round_: training.csv}
    if launch.config.trainer.append_simulations:
        files = {result.number: result.sets[TRAINING.use].csv for result in past} | files
    return {number: load_round_set(csv, past[-1].problem) for number, csv in files.items()}


def _pose(
    launch: Launch,
    data: Dataset,
    training: SuppliedSet,
    run: TrackedRun,
    folders: RoundFolders,
    earlier: Node | None,
) -> tuple[LearningProblem, ObservedSample]:
    """Return what all rounds share, and keep it in the run of round 0."""
    config = launch.config
    given = config.training_data_loader.statistic_path
    statistics = training.statistics if given is None else localized(given)
    problem = learning_problem(config, data, statistics)
    observed = observed_sample(
        config,
        problem,
        data.x.shape[1:],
        training.csv,
        plan=launch.plan,
        root_seed=launch.root_seed,
        folder=folders.models / "observed_sample",
    )
    problem = compressor_for(launch, problem, data, run, folders, earlier)
    save_problem(folders.models / PROBLEM, problem)
    run.send(folders.models / PROBLEM)
    for path in copy_observed(observed, folders.models):
        run.send(path)
    return problem, observed


def _train(
    launch: Launch,
    round_: int,
    problem: LearningProblem,
    data: Mapping[int, Dataset],
    run: TrackedRun,
    folders: RoundFolders,
    previous: RoundResult | None,
    earlier: Node | None,
) -> Ensemble:
    config = launch.config
    arrays = write_training_arrays(
        folders.models / "training_arrays", problem, joined(list(data.values()))
    )
    warm = None if config.trainer.retrain_from_scratch else previous
    start = Start(
        validation=validation_rows(
            config, {number: len(part) for number, part in data.items()}, launch.root_seed
        ),
        loss=config.trainer.loss(round_),
        members=None if warm is None else warm.members,
        earlier=earlier,
    )
    run.set_tags({"mlpop.loss": start.loss})
    try:
        ensemble = train_ensemble(
            config,
            problem,
            arrays,
            start,
            root_seed=launch.root_seed,
            round_=round_,
            backend=launch.backend,
            round_run=run,
            folders=folders,
        )
    finally:
        arrays.remove()
    if config.trainer.ensemble:
        for member, result in enumerate(ensemble.results):
            launch.profiler.record(f"TrainingRound{round_}Ensemble{member}", result.seconds)
    return ensemble


def _test_sets(
    launch: Launch, past: Sequence[RoundResult], sets: RoundSets, problem: LearningProblem
) -> list[Dataset]:
    """Return what coverage is measured on, that of this round last; none without testing."""
    rounds = [result.sets for result in past] if launch.config.trainer.append_simulations else []
    tests = [supplied.get(TEST.use) for supplied in (*rounds, sets.supplied)]
    return [load_round_set(test.csv, problem) for test in tests if test is not None]
