"""What the MLflow run of a round tells: inputs, numbers, description, the observed sample."""

from collections.abc import Sequence
from pathlib import Path

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.rounds.datasets import RoundSets
from mlpop.experiment.rounds.ensemble import Ensemble
from mlpop.experiment.rounds.evaluation import Evaluation
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.plots import population
from mlpop.plots.population import is_survey_map
from mlpop.population.stars.database import StellarDatabase
from mlpop.tracking import Estimate, TrackedRun, round_note, save_figure
from mlpop.tracking.description import Number

GIVEN = "given"
SOURCES = {
    "prior": "simulated from the prior",
    "truncated": "simulated from the prior, cut to where the last posterior has mass",
    "posterior": "simulated from the last posterior",
}
"""Where the simulations of a round come from that were not given."""

PROPOSAL_METRICS = ("acceptance", "volume_fraction", "outside_fraction", "attempts")


def log_inputs(
    run: TrackedRun,
    sets: RoundSets,
    observed: ObservedSample,
    stars: StellarDatabase | None,
    rows: int,
) -> None:
    """Record the datasets of a round as inputs of a run."""
    training, test = sets.training, sets.test
    run.log_dataset("training", training.digest, str(training.csv), "training", {"num_rows": rows})
    if test is not None:
        log_test_set(run, test)
    run.log_dataset("observed", observed.digest, str(observed.source), "observed")
    if stars is not None:
        profile = {"num_rows": len(stars)}
        run.log_dataset("stars", stars.digest, str(stars.folder), "stellar database", profile)


def log_test_set(run: TrackedRun, test: SuppliedSet) -> None:
    """Record a test set as an input of a run."""
    profile = {"num_rows": test.num_simulations}
    run.log_dataset("test", test.digest, str(test.csv), "testing", profile)


def round_numbers(
    sets: RoundSets, ensemble: Ensemble, evaluation: Evaluation, count: int
) -> dict[str, float]:
    """Return the main numbers of a round, by their names in MLflow."""
    training = sets.training
    # MLflow's pages offer the first one first
    numbers = {"val/best_loss": ensemble.best_loss} | evaluation.numbers
    numbers |= {
        "sim/count": float(training.num_simulations),
        "sim/trained_on": float(count),
        "sim/failed_fraction": training.failed_fraction,
        "sim/seconds": training.seconds,
    }
    for name in PROPOSAL_METRICS:
        value = sets.proposal.get(name)
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


def describe_round(
    run: TrackedRun, result: RoundResult, sets: RoundSets, ensemble: Ensemble, count: int
) -> None:
    """Write the description of a round and the tags by which rounds are told apart."""
    training, proposal = sets.training, sets.proposal
    shown: dict[str, Number] = {
        "training simulations": training.num_simulations,
        "trained on": count,
        "failed": training.failed_fraction,
        "best validation loss": ensemble.best_loss,
    }
    kind = "prior" if training.simulated and not proposal else GIVEN
    if proposal:
        kind = str(proposal["kind"])
        shown["proposal"] = f"{kind}, {proposal['method']}"
        shown["acceptance"] = proposal["acceptance"]
        shown["fraction of the prior's volume"] = proposal.get("volume_fraction")
    shown |= findings_note(result)
    run.set_tags({"mlpop.proposal": kind, **verdict_tag(result)})
    source = f"of `{training.csv}`" if kind == GIVEN else SOURCES[kind]
    about = f"{training.num_simulations} simulations {source}; trained on {count}."
    about = " ".join([about, *result.sentences])
    note = round_note(run.experiment_id, about, shown, result.estimates, ensemble.run_ids)
    run.set_note(note)


def findings_note(result: RoundResult) -> dict[str, Number]:
    """Return the rows of a round's description that tell what its diagnostics say."""
    shown: dict[str, Number] = {}
    if result.verdict.name:
        shown["calibration"] = result.verdict.name
    for finding in result.findings.values():
        shown |= finding.note
    return shown


def verdict_tag(result: RoundResult) -> dict[str, str]:
    """Return the tag that tells the verdict of a round; none if nobody has looked."""
    return {"mlpop.calibration": result.verdict.name} if result.verdict.name else {}


def observed_figure(
    observed: ObservedSample, folders: RoundFolders, config: SbiConfig
) -> dict[str, Path]:
    """Draw the maps of x_o; return artifact name -> file, nothing for other x."""
    known = all(is_survey_map(name) for name in observed.channels)
    if not config.simulator.draws_stars or observed.x.ndim != 3 or not known:
        return {}
    maps = dict(zip(observed.channels, observed.x, strict=True))
    figure = population(
        maps, config.generator.p_limits, config.generator.pdot_limits, title="observed sample"
    )
    return {p.name: p for p in save_figure(figure, folders.models / "observed_sample.pdf")}
