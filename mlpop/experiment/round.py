"""One round: simulations, training, posterior at x_o, tests; each step told to its MLflow run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlpop.config.sbi import SbiConfig
from mlpop.experiment.data import (
    LearningProblem,
    learning_problem,
    load_training_set,
    write_training_arrays,
)
from mlpop.experiment.folders import RoundFolders
from mlpop.experiment.judgement import (
    CoverageReport,
    PosteriorReport,
    coverage_metrics,
    estimate_metrics,
    measure_coverage,
    sample_observed,
)
from mlpop.experiment.launch import Launch
from mlpop.experiment.members import Ensemble, train_ensemble
from mlpop.experiment.observed import ObservedSample, observed_sample
from mlpop.experiment.round_data import dataset_files, load_test_set, supply
from mlpop.experiment.supply import SuppliedSet
from mlpop.inference.posterior import EnsemblePosterior
from mlpop.maps.loading import Dataset
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
        training, test = supply(launch, round_, run)
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
            | dataset_files("training", training)
            | (dataset_files("test", test) if test else {})
        )
        return RoundResult(
            run.run_id, posterior, observed, report, coverage, numbers, ensemble.run_ids
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
    # MLflow's pages offer the first one first
    numbers = {"val/best_loss": ensemble.best_loss}
    if coverage is not None:
        numbers |= coverage_metrics(coverage.calibration)
    numbers |= estimate_metrics(report.estimates)
    numbers |= {
        "sim/count": float(training.num_simulations),
        "sim/failed_fraction": training.failed_fraction,
        "sim/seconds": training.seconds,
    }
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
    source = "simulated from the prior" if training.simulated else f"of `{training.csv}`"
    about = f"Trained on {training.num_simulations} simulations {source}."
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
