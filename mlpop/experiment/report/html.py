"""The report of an experiment: one HTML file that tells it all and loads nothing."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import MlpopError
from mlpop.experiment.diagnostics.diagnostic import Verdict
from mlpop.experiment.diagnostics.table import legend
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.report.contents import Picture, RoundContents, picture, round_contents
from mlpop.experiment.report.warnings import experiment_warnings
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.run_page import GIVEN, SOURCES
from mlpop.inference.prior import Prior
from mlpop.io.digits import interval_texts, rounded_interval
from mlpop.io.files import write_atomically
from mlpop.plots.style import SYMBOLS, axis_label
from mlpop.tracking import Estimate, TrackedRun, run_link, where_to_look
from mlpop.tracking.pages.description import Number, clock, shown
from mlpop.tracking.run import six_digits

logger = logging.getLogger(__name__)

REPORT = "report.html"
COLUMNS_LEGEND = (
    "Beside the interval: how often such intervals held the truth in test simulations whose "
    "posterior is near this one, with its 95 % confidence; and the conformal interval, which "
    "holds the truth in 95 % of the tests by construction, whatever the networks have learnt."
)
TEMPLATE = "template.html"
ORIGINS = {"truncated": "prior, truncated", "posterior": "last posterior"}


def write_report(
    run: TrackedRun,
    config: SbiConfig,
    root_seed: int,
    rounds: Sequence[RoundResult],
    tree: OutputTree,
    profiler: Profiler,
    code: Mapping[str, str | None],
) -> dict[str, Path]:
    """Write `report.html` beside the models; the experiment goes on whatever happens.

    Args:
        run: the experiment's.
        config: what was run.
        root_seed: every random bit came from it.
        rounds: all of them.
        tree: where their files are.
        profiler: how long they took.
        code: the tags of `record_provenance`.

    Returns:
        Artifact name -> file; empty if it could not be written, which the log then tells.
    """
    path = tree.models / REPORT
    try:
        # that of an earlier launch may know fewer rounds
        path.unlink(missing_ok=True)
        rounds_contents = [
            round_contents(
                config,
                result,
                tree.round(result.number),
                profiler.seconds(f"TotalRound{result.number}"),
            )
            for result in rounds
        ]
        write_atomically(path, _page(run, config, root_seed, rounds_contents, tree, code))
    except (MlpopError, OSError) as error:
        logger.warning("%s: not written: %s", path, error)
        return {}
    except Exception:
        # a mistake here is not worth an experiment, but has to be seen
        logger.exception("%s: not written, by a mistake of mlpop", path)
        return {}
    return {REPORT: path}


def in_a_sentence(config: SbiConfig) -> str:
    """Return what an experiment does, in Markdown."""
    return (
        f"{config.trainer.type} with {config.trainer.members} network(s), "
        f"{config.trainer.num_rounds} round(s) of {config.training_data_loader.num_sim} "
        f"simulations of `{config.simulator.type}`."
    )


def _page(
    run: TrackedRun,
    config: SbiConfig,
    root_seed: int,
    rounds: Sequence[RoundContents],
    tree: OutputTree,
    code: Mapping[str, str | None],
) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": _shown, "clock": clock}
    last = rounds[-1].result
    known = [(e, e.truth) for e in last.estimates if e.truth is not None]
    return environment.get_template(TEMPLATE).render(
        config=config,
        about=in_a_sentence(config).replace("`", ""),
        rounds=rounds,
        last=rounds[-1],
        verdict=last.verdict,
        legend=legend(),
        columns_legend=COLUMNS_LEGEND,
        warnings=experiment_warnings(config, rounds),
        known=len(known),
        inside=sum(e.low <= truth <= e.high for e, truth in known),
        observed=_observed(tree),
        table=_table(rounds),
        sources=SOURCES | {GIVEN: "given"},
        tone=_tone,
        texts=_texts,
        logged=_logged,
        symbol=_symbol,
        bar=partial(_bar, last.problem.prior),
        link=partial(run_link, run.store, run.experiment_id),
        run_id=run.run_id,
        root_seed=root_seed,
        code=code,
        folders={"models": tree.models, "logs": tree.logs},
        written=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        where=where_to_look(run.store, run.experiment_id, run.run_id, folder=tree.models),
        resolved=json.dumps(config.resolved(), indent=2),
    )


def _observed(tree: OutputTree) -> Picture | None:
    """Return the figure of x_o, None where it is none of maps."""
    pdf = tree.round(0).models / "observed_sample.pdf"
    if not pdf.is_file():
        return None
    return picture("The observed sample", "As the networks see it, before scaling.", pdf)


def _table(rounds: Sequence[RoundContents]) -> dict[str, list[str]]:
    """Return row -> one text a round; rows that say nothing of any round are left out."""

    def row(value: Callable[[RoundContents], Number]) -> list[str]:
        return [_shown(value(contents)) for contents in rounds]

    def number(name: str) -> list[str]:
        return row(lambda contents: contents.result.numbers.get(name))

    diagnosed = [
        {
            name: value
            for finding in contents.result.findings.values()
            for name, value in finding.rows.items()
        }
        for contents in rounds
    ]
    names = dict.fromkeys(name for values in diagnosed for name in values)
    table = {
        "training simulations": number("sim/count"),
        "failed fraction": number("sim/failed_fraction"),
        "trained on": number("sim/trained_on"),
        "theta from": row(lambda contents: ORIGINS.get(contents.kind, contents.kind)),
        "drawn by": row(lambda contents: contents.proposal.get("method")),
        "acceptance": number("proposal/acceptance"),
        "fraction of the prior's volume": number("proposal/volume_fraction"),
        "epochs of each network": row(
            lambda contents: ", ".join(str(member.epochs) for member in contents.members)
        ),
        "best validation loss, mean of networks": number("val/best_loss"),
        "worst R-hat at the observed sample": number("mcmc/r_hat"),
        "fewest effective draws there": number("mcmc/ess"),
        **{name: [_shown(values.get(name)) for values in diagnosed] for name in names},
        "time: simulating": row(lambda contents: clock(contents.result.numbers["sim/seconds"])),
        "time: training, slowest network": row(
            lambda contents: clock(max(member.seconds for member in contents.members))
        ),
        "time: whole round": row(
            lambda contents: clock(contents.seconds) if contents.seconds else None
        ),
    }
    return {name: texts for name, texts in table.items() if set(texts) != {shown(None)}}


def _tone(verdict: Verdict) -> str:
    """Return the colour of a verdict: good, bad, or open where there is none."""
    return verdict.grade.name.lower()


def _texts(estimate: Estimate) -> tuple[str, str, str]:
    """Return median and ends of the interval with the decimals of the corner plot."""
    low, median, high = estimate.texts
    return median, low, high


def _logged(estimate: Estimate) -> tuple[float, float, float]:
    """Return the numbers as MLflow has them."""
    return rounded_interval(estimate.low, estimate.median, estimate.high)


def _symbol(label: str) -> str:
    """Return how the figures call a label, as HTML; nothing for labels without a symbol."""
    text = axis_label(label).replace("$", "") if label in SYMBOLS else ""
    text = re.sub(r"\\(?:mathrm\{(\w+)\}|(log))", r"\1\2", text)
    text = re.sub(r"\\dot\{(\w)\}", r"\1&#775;", text)  # a dot above
    text = re.sub(r"\\([a-z]+)", r"&\1;", text)
    text = re.sub(r"\^(?:(\w)|\{([^}]*)\})", r"<sup>\1\2</sup>", text)
    text = re.sub(r"_(\w)", r"<sub>\1</sub>", text)
    return re.sub(r"_\{([^}]*)\}", r"<sub>\1</sub>", text)


def _bar(prior: Prior, estimate: Estimate) -> dict[str, str | float | None]:
    """Return where median, interval and truth are drawn on an axis from 5 to 105, the prior."""
    k = prior.labels.index(estimate.label)
    low, high = prior.ranges[k]
    low_text, _, high_text = interval_texts(low, (low + high) / 2, high)

    def place(value: float | None) -> float | None:
        return None if value is None else round(5 + 100 * (value - low) / (high - low), 2)

    return {
        "prior_low": low_text,
        "prior_high": high_text,
        "low": place(estimate.low),
        "median": place(estimate.median),
        "high": place(estimate.high),
        "truth": place(estimate.truth),
    }


def _shown(value: Number) -> str:
    """Return a number as descriptions show it, rounded first as MLflow has it."""
    return shown(six_digits(value) if isinstance(value, float) else value)
