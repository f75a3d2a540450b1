"""One round: simulations, training, posterior at x_o, tests; each step told to its MLflow run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Backend, Purpose, seed_sequence
from mlpop.config.sbi import SbiConfig
from mlpop.experiment.data import (
    LearningProblem,
    learning_problem,
    load_training_set,
    write_training_arrays,
)
from mlpop.experiment.folders import OutputTree, RoundFolders, dataset_csv, dataset_round
from mlpop.experiment.judgement import (
    CoverageReport,
    PosteriorReport,
    coverage_metrics,
    estimate_metrics,
    measure_coverage,
    sample_observed,
)
from mlpop.experiment.members import Ensemble, train_ensemble
from mlpop.experiment.observed import ObservedSample, observed_sample
from mlpop.experiment.profile import Profiler
from mlpop.experiment.supply import SimulatorPlan, SuppliedSet, given_set, set_key, simulate_set
from mlpop.inference.posterior import EnsemblePosterior
from mlpop.maps.files import write_array
from mlpop.maps.loading import Dataset, load_dataset
from mlpop.plots import population
from mlpop.population.stars import StellarDatabase
from mlpop.tracking import TrackedRun, open_run, round_note, save_figure

logger = logging.getLogger(__name__)

HEADLINE = (
    "sim/failed_fraction",
    "sim/seconds",
    "val/best_loss",
    "coverage/ece",
    "coverage/ks",
    "coverage/gain_nat",
)


@dataclass(frozen=True)
class Launch:
    """What all steps of a launch share.

    Attributes:
        config: the experiment.
        root_seed: every random bit comes from it.
        backend: who simulates and trains.
        plan: what simulates; None where all data are given.
        stars: the stellar database; None where nothing is simulated from one.
        tree: the documented folders.
        profiler: times.
        run: the experiment's run.
    """

    config: SbiConfig
    root_seed: int
    backend: Backend
    plan: SimulatorPlan | None
    stars: StellarDatabase | None
    tree: OutputTree
    profiler: Profiler
    run: TrackedRun


@dataclass(frozen=True)
class RoundResult:
    """What a round gave.

    Attributes:
        run_id: its MLflow run.
        posterior: the ensemble's.
        observed: x_o.
        report: the posterior at x_o.
        coverage: calibration on the test set; None without testing.
        numbers: main numbers, by the name they have in MLflow.
        member_runs: name -> run id.
    """

    run_id: str
    posterior: EnsemblePosterior
    observed: ObservedSample
    report: PosteriorReport
    coverage: CoverageReport | None
    numbers: Mapping[str, float]
    member_runs: Mapping[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> dict[str, float]:
        """The few numbers by which experiments are compared."""
        return {
            name: value
            for name, value in self.numbers.items()
            if name in HEADLINE or name.endswith("/median")
        }


def run_round(launch: Launch, round_: int) -> RoundResult:
    """Run one round and complete its MLflow run.

    Raises:
        MlpopError: a step failed; the runs say which and why.
    """
    folders = launch.tree.round(round_)
    tags = {"mlpop.round": round_, "mlpop.state": "simulating"}
    with (
        launch.profiler.section(f"TotalRound{round_}"),
        open_run(
            "round", f"round_{round_:02d}", launch.run.run_id, tags=tags, store=launch.run.store
        ) as run,
    ):
        training, test = _supply(launch, round_, run)
        data = load_training_set(launch.config, training.csv)
        problem = learning_problem(launch.config, data, _statistics(launch.config, training))
        observed = observed_sample(
            launch.config,
            problem,
            data.x.shape[1:],
            training.csv,
            plan=launch.plan,
            root_seed=launch.root_seed,
            folder=folders.models / "observed_sample",
        )
        for logged in (launch.run, run):
            _log_inputs(logged, training, test, observed, launch.stars, len(data))

        run.set_state("training")
        with launch.profiler.section(f"TrainingRound{round_}"):
            ensemble = _train(launch, round_, problem, data, run, folders)

        run.set_state("testing")
        posterior = EnsemblePosterior(
            ensemble.estimators, problem.prior, input_scaling=problem.input_mode
        )
        report = sample_observed(
            posterior,
            observed,
            folders,
            num_samples=launch.config.trainer.num_posterior_samples,
            root_seed=launch.root_seed,
            round_=round_,
        )
        coverage = None
        if test is not None:
            with launch.profiler.section(f"TestingRound{round_}"):
                coverage = measure_coverage(
                    posterior,
                    load_test_set(test.csv, problem),
                    folders,
                    root_seed=launch.root_seed,
                    round_=round_,
                )
        numbers = _numbers(training, ensemble, report, coverage)
        run.log_metrics(numbers, step=round_)
        for logged in (launch.run, run):
            logged.send_table(
                "posterior_summary.json",
                ("parameter", "median", "low_95", "high_95", "truth"),
                [(e.label, e.median, e.low, e.high, e.truth) for e in report.estimates],
            )
        _describe(run, launch, training, report, coverage, ensemble)
        run.commit(
            report.files
            | (coverage.files if coverage else {})
            | _observed_figure(observed, folders, launch.config)
            | _dataset_files("training", training)
            | (_dataset_files("test", test) if test else {})
        )
        return RoundResult(
            run.run_id, posterior, observed, report, coverage, numbers, ensemble.run_ids
        )


def load_test_set(csv: Path, problem: LearningProblem) -> Dataset:
    """Load the maps and labels of the training set from a test set.

    Raises:
        DataError: the file lacks a label or a channel, or is broken.
    """
    return load_dataset(csv, filter_inputs=problem.channels, filter_labels=problem.prior.labels)


def prior_theta(
    config: SbiConfig, count: int, seed: np.random.SeedSequence
) -> NDArray[np.float64]:
    """Draw theta (count, D) from the prior, physical units."""
    low, high = np.array(config.prior_ranges.low), np.array(config.prior_ranges.high)
    unit = np.random.default_rng(seed).random((count, len(low)))
    return low + unit * (high - low)


def _supply(
    launch: Launch, round_: int, run: TrackedRun
) -> tuple[SuppliedSet, SuppliedSet | None]:
    config = launch.config
    training = _one_set(
        launch,
        run,
        round_,
        kind="training",
        given=config.training_data_loader.dataset_path_round_0,
        root=config.training_data_loader.dataset_path,
        simulate=config.training_data_loader.simulate,
        count=config.training_data_loader.num_sim,
        theta_purpose=Purpose.PRIOR,
        purpose=Purpose.SIMULATION_TRAINING,
    )
    if not config.test_data_loader.testing:
        return training, None
    test = _one_set(
        launch,
        run,
        round_,
        kind="test",
        given=config.test_data_loader.dataset_path_round_0,
        root=config.test_data_loader.dataset_path,
        simulate=config.test_data_loader.simulate,
        count=config.test_data_loader.num_sim,
        theta_purpose=Purpose.TEST_THETA,
        purpose=Purpose.SIMULATION_TEST,
    )
    return training, test


def _one_set(
    launch: Launch,
    run: TrackedRun,
    round_: int,
    *,
    kind: str,
    given: Path | None,
    root: Path | None,
    simulate: bool,
    count: int,
    theta_purpose: Purpose,
    purpose: Purpose,
) -> SuppliedSet:
    config = launch.config
    if not simulate:
        assert given is not None
        return given_set(dataset_csv(given))
    assert launch.plan is not None
    theta = prior_theta(config, count, seed_sequence(launch.root_seed, theta_purpose, round_))
    key = set_key(launch.plan, theta, launch.root_seed, purpose, round_)
    root = root or config.trainer.save_dir / "data" / f"{kind}_dataset"
    folder = dataset_round(root, round_)
    # launches that want other simulations get a folder of their own
    folder = folder.with_name(f"{folder.name}_{key[:12]}")
    theta_file = folder / "theta.npy"
    write_array(theta_file, theta)
    run.send(theta_file, f"{kind}/theta.npy")
    with launch.profiler.section(f"SimulatingRound{round_}{kind.capitalize()}"):
        return simulate_set(
            launch.plan,
            theta,
            folder,
            launch.backend,
            root_seed=launch.root_seed,
            purpose=purpose,
            round_=round_,
            compute=config.compute,
            min_success_fraction=config.trainer.min_success_fraction,
            title=f"round {round_}: {kind} simulations",
            on_progress=None,
        )


def _statistics(config: SbiConfig, training: SuppliedSet) -> Path:
    return config.training_data_loader.statistic_path or training.statistics


def _train(
    launch: Launch,
    round_: int,
    problem: LearningProblem,
    data: Dataset,
    run: TrackedRun,
    folders: RoundFolders,
) -> Ensemble:
    arrays = write_training_arrays(folders.models / "training_arrays", problem, data)
    try:
        ensemble = train_ensemble(
            launch.config,
            problem,
            arrays,
            root_seed=launch.root_seed,
            round_=round_,
            backend=launch.backend,
            round_run=run,
            folders=folders,
        )
    finally:
        arrays.remove()
    if launch.config.trainer.ensemble:
        for member, result in enumerate(ensemble.results):
            launch.profiler.record(f"TrainingRound{round_}Ensemble{member}", result.seconds)
    return ensemble


def _log_inputs(
    run: TrackedRun,
    training: SuppliedSet,
    test: SuppliedSet | None,
    observed: ObservedSample,
    stars: StellarDatabase | None,
    rows: int,
) -> None:
    run.log_dataset("training", training.digest, str(training.csv), "training", {"num_rows": rows})
    if test is not None:
        profile = {"num_rows": test.num_simulations}
        run.log_dataset("test", test.digest, str(test.csv), "testing", profile)
    run.log_dataset("observed", observed.digest, str(observed.source), "observed")
    if stars is not None:
        profile = {"num_rows": len(stars)}
        run.log_dataset("stars", stars.digest, str(stars.folder), "stellar database", profile)


def _numbers(
    training: SuppliedSet,
    ensemble: Ensemble,
    report: PosteriorReport,
    coverage: CoverageReport | None,
) -> dict[str, float]:
    numbers = {
        "sim/count": float(training.num_simulations),
        "sim/failed_fraction": training.failed_fraction,
        "sim/seconds": training.seconds,
        "val/best_loss": ensemble.best_loss,
    }
    numbers |= estimate_metrics(report.estimates)
    if coverage is not None:
        numbers |= coverage_metrics(coverage.calibration)
    return numbers


def _describe(
    run: TrackedRun,
    launch: Launch,
    training: SuppliedSet,
    report: PosteriorReport,
    coverage: CoverageReport | None,
    ensemble: Ensemble,
) -> None:
    shown: dict[str, float | str | int | None] = {
        "training simulations": training.num_simulations,
        "failed": training.failed_fraction,
        "best validation loss": ensemble.best_loss,
    }
    if coverage is not None:
        shown["calibration"] = coverage.calibration.verdict
        shown["coverage error"] = coverage.calibration.expected_calibration_error
        run.set_tags({"mlpop.calibration": coverage.calibration.verdict})
    about = f"Simulated from the prior, trained on {training.num_simulations} populations."
    note = round_note(run.experiment_id, about, shown, report.estimates, ensemble.run_ids)
    run.set_note(note)


def _observed_figure(
    observed: ObservedSample, folders: RoundFolders, config: SbiConfig
) -> dict[str, Path]:
    if config.simulator.type != "pulsar" or observed.x.ndim != 3:
        return {}
    maps = dict(zip(observed.channels, observed.x, strict=True))
    figure = population(
        maps, config.generator.p_limits, config.generator.pdot_limits, title="observed sample"
    )
    return {p.name: p for p in save_figure(figure, folders.models / "observed_sample.pdf")}


def _dataset_files(kind: str, supplied: SuppliedSet) -> dict[str, Path]:
    names = ("dataset_full.csv", "manifest.csv", "statistics_full.json", "generator.json")
    folder = supplied.csv.parent
    return {f"{kind}/{name}": folder / name for name in names if (folder / name).is_file()}
