"""What the MLflow run of a round tells: inputs, numbers, description, the observed sample."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlpop.config.blocks.generator import is_count
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.rounds.datasets import Proposed
from mlpop.experiment.rounds.ensemble import Ensemble
from mlpop.experiment.rounds.evaluation import Evaluation
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.plots import population
from mlpop.plots.population import is_survey_map
from mlpop.population.stars.database import StellarDatabase
from mlpop.tracking import Estimate, TrackedRun, round_note, save_figure
from mlpop.tracking.pages.description import Number

GIVEN = "given"
SOURCES = {
    "prior": "simulated from the prior",
    "truncated": "simulated from the prior, cut to where the last posterior has mass",
    "posterior": "simulated from the last posterior",
}
"""Where the simulations of a round come from that were not given."""

PROPOSAL_METRICS = (
    "acceptance",
    "volume_fraction",
    "outside_fraction",
    "apart_fraction",
    "attempts",
)


def log_inputs(
    run: TrackedRun,
    sets: Mapping[str, SuppliedSet],
    observed: ObservedSample,
    stars: StellarDatabase | None,
    rows: int,
) -> None:
    """Record the datasets of a round as inputs of a run."""
    training = sets["training"]
    run.log_dataset("training", training.digest, str(training.csv), "training", {"num_rows": rows})
    if "test" in sets:
        log_test_set(run, sets["test"])
    run.log_dataset("observed", observed.digest, str(observed.source), "observed")
    if stars is not None:
        profile = {"num_rows": len(stars)}
        run.log_dataset("stars", stars.digest, str(stars.folder), "stellar database", profile)


def log_test_set(run: TrackedRun, test: SuppliedSet) -> None:
    """Record a test set as an input of a run."""
    profile = {"num_rows": test.num_simulations}
    run.log_dataset("test", test.digest, str(test.csv), "testing", profile)


def round_numbers(
    training: SuppliedSet,
    proposal: Proposed,
    ensemble: Ensemble,
    evaluation: Evaluation,
    count: int,
) -> dict[str, float]:
    """Return the main numbers of a round, by their names in MLflow."""
    losses = [result.best_loss for result in ensemble.results]
    # MLflow's pages offer the first one first
    numbers = {"val/best_loss": sum(losses) / len(losses)} | evaluation.numbers
    numbers |= {
        "sim/count": float(training.num_simulations),
        "sim/trained_on": float(count),
        "sim/failed_fraction": training.failed_fraction,
        "sim/seconds": training.seconds,
    }
    for name in PROPOSAL_METRICS:
        value = proposal.get(name)
        if isinstance(value, int | float):
            numbers[f"proposal/{name}"] = float(value)
    return numbers


def send_summary(run: TrackedRun, estimates: Sequence[Estimate]) -> None:
    """Store the posterior at x_o as the table that MLflow compares between runs."""
    run.send_table(
        "posterior_summary.json",
        ("parameter", "median", "low_95", "high_95", "truth"),
        [(e.label, e.median, e.low, e.high, e.truth) for e in estimates],
    )


def source_of(training: SuppliedSet, proposal: Proposed) -> str:
    """Return where the simulations of a round come from: `GIVEN`, or a key of `SOURCES`."""
    if proposal:
        return str(proposal["kind"])
    return "prior" if training.simulated else GIVEN


def describe_round(run: TrackedRun, result: RoundResult, proposal: Proposed) -> None:
    """Write the description of a round and the tags by which rounds are told apart."""
    training, count = result.sets["training"], int(result.numbers["sim/trained_on"])
    shown: dict[str, Number] = {
        "training simulations": training.num_simulations,
        "trained on": count,
        "failed": training.failed_fraction,
        "best validation loss": result.numbers["val/best_loss"],
    }
    kind = source_of(training, proposal)
    if proposal:
        shown["proposal"] = f"{kind}, {proposal['method']}"
        shown["acceptance"] = proposal["acceptance"]
        shown["fraction of the prior's volume"] = proposal.get("volume_fraction")
    run.set_tags({"mlpop.proposal": kind})
    source = f"of `{training.csv}`" if kind == GIVEN else SOURCES[kind]
    about = f"{training.num_simulations} simulations {source}; trained on {count}."
    send_findings(run, result, about, shown)


def send_findings(
    run: TrackedRun, result: RoundResult, about: str, shown: dict[str, Number]
) -> None:
    """Tag a round with its verdict, and add what its diagnostics say to its description."""
    if result.verdict.name:
        run.set_tags({"mlpop.calibration": result.verdict.name})
        shown |= {"calibration": result.verdict.name}
    for finding in result.findings.values():
        shown |= finding.note
    about = " ".join([about, *result.sentences])
    run.set_note(
        round_note(
            run.experiment_id,
            about.strip(),
            shown,
            result.estimates,
            result.member_runs,
            result.verdict.sentence,
            columns=result.columns,
        )
    )


def observed_figure(
    observed: ObservedSample, folders: RoundFolders, config: SbiConfig
) -> dict[str, Path]:
    """Draw the maps of x_o; return artifact name -> file, nothing for other x."""
    maps = config.simulator.draws_stars and observed.x.ndim == 3
    planes = config.generator.planes(observed.channels)
    channels = dict(zip(observed.channels, observed.x, strict=True)) if maps else {}
    shown = {name: values for name, values in channels.items() if not is_count(name)}
    if not shown or not all(is_survey_map(name, planes) for name in shown):
        return {}
    figure = population(
        shown,
        config.generator.p_limits,
        config.generator.pdot_limits,
        title="observed sample",
        planes=planes,
    )
    return {p.name: p for p in save_figure(figure, folders.models / "observed_sample.pdf")}
