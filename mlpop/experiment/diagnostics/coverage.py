"""Whether credible regions hold the truth of test simulations as often as they say."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlpop.compute import Purpose
from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics.diagnostic import (
    NOT_TESTED,
    Cell,
    Diagnostic,
    Evidence,
    Finding,
    Grade,
    LabelTable,
    Plot,
    Verdict,
)
from mlpop.experiment.diagnostics.sentences import (
    MAX_FAILED,
    REMEDIES,
    calibrated_in_words,
    fault_in_words,
    reason_in_words,
    statistic_in_words,
)
from mlpop.inference.diagnostics.calibration import write_coverage
from mlpop.inference.diagnostics.coverage import LEVELS, CoverageResult, coverage_curve
from mlpop.inference.diagnostics.verdict import VerdictName
from mlpop.inference.prior import Prior
from mlpop.io.digits import POSTERIOR, plain_texts, rounded_interval
from mlpop.io.files import read_json_object
from mlpop.plots import coverage, ranks, ranks_cumulative, verdict_statistics
from mlpop.tracking import save_figure

CALIBRATION = "calibration.json"
COVERAGE = "coverage.json"

POOR_CHAINS = 0.05
"""Fraction of the tests with poor chains with which a verdict cannot be relied on."""

MOST_BARS = 20
"""Statistics that are drawn, of the largest."""

SHOWN_LEVELS = {"0.68": "68 %", "0.95": "95 %"}
"""Credibility levels of `coverage.json` that the report shows."""

DECIDING = Plot(
    "What the verdict rests on",
    "The largest of all statistics, each 0 on average if the posterior is calibrated. Within the "
    "band none is more than chance; red is the one that gives a fault its name.",
    "verdict_statistics.pdf",
)
PLOTS = (
    Plot(
        "Coverage",
        "How often regions of a given credibility hold the truth of a test simulation. Below the "
        "diagonal they are too narrow, above it too wide. A curve within its band does not "
        "exclude a fault of single labels, of edges, or near the observed sample.",
        "coverage_plot.pdf",
    ),
    Plot(
        "Ranks of the truth",
        "Flat within the bands if calibrated. A hump in the middle is a posterior too wide, two "
        "horns one too narrow, a slope a bias.",
        "ranks_histograms.pdf",
    ),
    Plot(
        "Ranks, cumulative",
        "The same ranks as a distance from uniform: calibrated within the bands.",
        "ranks_cumulative.pdf",
    ),
)

CAVEAT = (
    "A verdict is about test simulations: it does not say that the posterior is narrow, nor that "
    "the observed sample is like simulations."
)
COLUMNS = "holds the truth near x_o", "conformal 95 % interval"
"""Of the table of estimates."""


class CoverageDiagnostic(Diagnostic):
    """Compares the truth of every test with the draws from its posterior."""

    name = "coverage"
    headline = ("coverage/ece", "coverage/ks", "coverage/gain_nat")
    legend = (
        "Coverage error: mean distance of the coverage from the diagonal. Information gain: mean "
        "log density of the truth over the prior's; 0 means that nothing was learnt."
    )

    def examine_tests(
        self, evidence: Evidence, tests: Dataset, draws: CoverageResult
    ) -> Sequence[Path]:
        """Write the documented files and plots; the plots only if a test succeeded."""
        folder = evidence.folder
        rng = evidence.rng(Purpose.COVERAGE, 1)
        prior = evidence.posterior.prior
        observed = _drawn_at_x_o(folder, prior)
        paths = write_coverage(folder, draws, prior, rng, observed)
        if draws.num_ok:
            of_label = draws.marginal_ranks[draws.success], draws.labels, draws.num_samples
            figures = (
                _deciding_figure(read_json_object(folder / CALIBRATION)),
                coverage(LEVELS, coverage_curve(draws.rank), len(draws.success)),
                ranks(*of_label),
                ranks_cumulative(*of_label),
            )
            for plot, figure in zip((DECIDING, *PLOTS), figures, strict=True):
                paths += save_figure(figure, folder / plot.file)
        return paths

    def finding(self, folder: Path) -> Finding:
        """Read verdict, numbers and figures of the tests."""
        if not (folder / CALIBRATION).is_file():
            return Finding(verdict=NOT_TESTED)
        values = read_json_object(folder / CALIBRATION)
        levels = read_json_object(folder / COVERAGE).get("levels", {})
        drawn = values["num_tests"] > 0
        # rounds of earlier versions have none
        decided = bool(values.get("statistics"))
        return Finding(
            numbers=_numbers(values),
            warnings=list(_warnings(values)),
            verdict=_verdict(values, levels, list(_blocks(values, folder))),
            num_tests=values["num_tests"],
            note={"coverage error": values["expected_calibration_error"]},
            rows=_rows(values, levels),
            plots=((DECIDING, *PLOTS) if decided else PLOTS) if drawn else (),
            tables=[_table(values)] if values.get("intervals") else (),
            columns=_columns(values),
        )


def _drawn_at_x_o(folder: Path, prior: Prior) -> NDArray[np.float32] | None:
    """Return draws (s, d) of the posterior at x_o in the unit cube, where they were written."""
    path = folder / "samples_posterior.pt"
    if not path.is_file():
        return None
    draws = prior.from_files(torch.load(path, weights_only=True).numpy())
    unit: NDArray[np.float32] = prior.to_unit(draws).numpy()
    return unit


def _deciding_figure(values: Mapping[str, Any]) -> Figure:
    statistics: Mapping[str, float] = values["statistics"]
    deciding = values["decided_by"]
    # one that sees every fault may be larger than the one that names it
    order = sorted(statistics, key=lambda name: (name != deciding, -abs(statistics[name])))
    shown = sorted(order[:MOST_BARS], key=lambda name: -abs(statistics[name]))
    return verdict_statistics(
        [statistic_in_words(name) for name in shown],
        [statistics[name] for name in shown],
        values["critical"],
        statistic_in_words(deciding),
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    failed, total = values["num_failed"], values["num_failed"] + values["num_tests"]
    numbers = {
        "coverage/ece": values["expected_calibration_error"],
        "coverage/ks": values["ks"].get("hpd"),
        "coverage/nltp": values["nltp"],
        "coverage/gain_nat": values["gain"],
        "coverage/tests": values["num_tests"],
        "coverage/failed_fraction": failed / total if total else None,
        "coverage/p_value": values.get("p_value"),
    }
    for label, check in values.get("intervals", {}).items():
        numbers |= {
            f"coverage/{label}/bias": check["bias"],
            f"coverage/{label}/width": check["width"],
            f"coverage/{label}/held_near": check["held_near"],
        }
        if check["conformal"]:
            low, high = check["conformal"]
            low, _, high = rounded_interval(low, (low + high) / 2, high)
            numbers[f"{POSTERIOR}{label}/conformal_low"] = low
            numbers[f"{POSTERIOR}{label}/conformal_high"] = high
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _warnings(values: Mapping[str, Any]) -> Iterator[str]:
    failed, total = values["num_failed"], values["num_failed"] + values["num_tests"]
    if failed:
        yield (
            f"{failed} of {total} tests failed, their posterior could not be drawn from; they "
            "count as misses."
        )
    if left := values.get("num_left_out", 0):
        yield (
            f"{left} more tests were left out: of their posterior under the prior too little lies "
            "where the tests of this round come from. They are not counted for or against it."
        )
    if (values.get("poor_chains") or 0.0) > POOR_CHAINS:
        yield (
            f"the Markov chains of {values['poor_chains']:.0%} of the tests did not mix, so the "
            "verdict cannot be relied on; take more mcmc_sampler.num_chains or thin."
        )


def _blocks(values: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield what keeps a calibrated posterior from being relied on."""
    failed, total = values["num_failed"], values["num_failed"] + values["num_tests"]
    if _many_failed(values):
        yield f"{100 * failed / total:.1f} % of the tests failed"
    if (values.get("poor_chains") or 0.0) > POOR_CHAINS:
        yield f"the Markov chains of {100 * values['poor_chains']:.0f} % of the tests did not mix"
    summary = folder / "summary.json"
    if summary.is_file() and read_json_object(summary).get("problems"):
        yield "the Markov chains at the observed sample did not mix"


def _many_failed(values: Mapping[str, Any]) -> bool:
    failed, total = values["num_failed"], values["num_failed"] + values["num_tests"]
    return bool(failed > MAX_FAILED * total)


_FAILED_REMEDY = (
    "to find out first why posteriors cannot be drawn from: Markov chains that do not start, or "
    "networks that hardly learned"
)


def _verdict(
    values: Mapping[str, Any], levels: Mapping[str, Any], blocks: Sequence[str]
) -> Verdict | None:
    """Return the verdict; None where another diagnostic has the say."""
    name = values["verdict"]
    if name not in get_args(VerdictName):
        return None
    decided = bool(values.get("statistics"))
    reason = reason_in_words(values) if decided else _earlier_reason(values)
    figure = DECIDING.file if decided and values["num_tests"] else ""
    if name == "too few tests":
        meaning = "too few test simulations to tell whether the credible regions can be trusted"
        remedy = "a larger test_data_loader.num_sim"
        return Verdict(name, Grade.OPEN, meaning, reason, remedy, figure=figure)
    if name != "calibrated":
        meaning = fault_in_words(values, levels) if decided else "found by an earlier version"
        remedy = _FAILED_REMEDY if _many_failed(values) else REMEDIES.get(name, "")
        return Verdict(name, Grade.BAD, meaning, reason, remedy, CAVEAT, figure)
    meaning = "the credible regions hold the truth of test simulations as often as they say"
    if decided:
        meaning = calibrated_in_words(values, levels)
    if not blocks:
        return Verdict(name, Grade.GOOD, meaning, reason, "", CAVEAT, figure)
    doubts = " and ".join(blocks)
    meaning = f"as far as could be tested, but {doubts}; {meaning}"
    remedy = "to find out why; Markov chains: more mcmc_sampler.num_chains or thin"
    return Verdict(name, Grade.OPEN, meaning, reason, remedy, CAVEAT, figure)


def _earlier_reason(values: Mapping[str, Any]) -> str:
    """Return what a verdict of an earlier version rests on: the least of its p-values."""
    if values["verdict"] == "too few tests" or not values["p_values"]:
        return reason_in_words(values)
    least = min(values["p_values"], key=lambda name: float(values["p_values"][name]))
    return (
        f"{values['num_tests']} tests, judged by an earlier version of mlpop: least p = "
        f"{values['p_values'][least]:.2g} ({least})"
    )


def _rows(values: Mapping[str, Any], levels: Mapping[str, Any]) -> dict[str, float | str | None]:
    rows: dict[str, float | str | None] = {"tests": float(values["num_tests"])}
    for level, text in SHOWN_LEVELS.items():
        held = None
        if level in levels:
            low, high = levels[level]["band_95"]
            held = f"{levels[level]['coverage']:.1%} ({low:.0%} to {high:.0%})"
            held = held.replace("%", " %")
        rows[f"truth in {text} regions (if calibrated)"] = held
    rows["coverage error"] = values["expected_calibration_error"]
    rows["information gain [nat]"] = values["gain"]
    return rows


def _held(fraction: float | None, band: Sequence[float] | None) -> str:
    """Return a fraction with its confidence interval, in per cent."""
    if fraction is None or band is None:
        return "–"
    return f"{100 * fraction:.0f} % ({100 * band[0]:.0f} to {100 * band[1]:.0f})"


def _columns(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return columns of the table of estimates, where there are tests near x_o."""
    checks: Mapping[str, Any] = values.get("intervals", {})
    if not checks or any(check["conformal"] is None for check in checks.values()):
        return {}
    held, conformal = COLUMNS
    columns: dict[str, dict[str, str]] = {held: {}, conformal: {}}
    for label, check in checks.items():
        low, high = check["conformal"]
        low_text, _, high_text = plain_texts(low, (low + high) / 2, high)
        columns[held][label] = _held(check["held_near"], check["held_near_band"])
        columns[conformal][label] = f"[{low_text}, {high_text}]"
    return columns


def _table(values: Mapping[str, Any]) -> LabelTable:
    def significant(name: str) -> bool:
        return bool(abs(values["statistics"][name]) >= values["critical"])

    rows = {}
    for label, check in values["intervals"].items():
        near = f"x_o width/{label}"
        rows[label] = (
            Cell(
                f"{check['bias']:+.2f} ± {check['bias_error']:.2f}", significant(f"bias/{label}")
            ),
            Cell(
                f"{check['width']:.2f} ± {check['width_error']:.2f}", significant(f"width/{label}")
            ),
            Cell(_held(check["held"], check["held_band"])),
            Cell(
                _held(check["held_near"], check["held_near_band"]),
                near in values["statistics"] and significant(near),
            ),
            Cell(f"{100 * check['conformal_level']:.1f} %"),
            Cell(f"{values['width'][label]:.2f}"),
        )
    return LabelTable(
        "Calibration of each label",
        "Bias: of the truth against the posterior, in posterior sigmas; above 0 the posterior "
        "lies too low. Factor: by which intervals should be wider. Held: how often the central "
        "95 % interval holds the truth, in all tests and in those whose posterior is near that "
        "of the observed sample. Conformal: the credibility that holds it in 95 % of both. All "
        "with 95 % confidence, red where the statistic is significant. Width: standard deviation "
        "of the posterior over that of the prior, mean over the tests.",
        ("bias", "factor", "held", "held near x_o", "conformal", "width"),
        rows,
    )
