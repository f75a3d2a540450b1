"""Whether credible regions hold the truth of test simulations as often as they say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from mlpop.inference.diagnostics.calibration import MIN_TESTS, VerdictName, write_coverage
from mlpop.inference.diagnostics.coverage import LEVELS, CoverageResult, coverage_curve
from mlpop.io.files import read_json_object
from mlpop.plots import coverage, ranks, ranks_cumulative
from mlpop.tracking import save_figure

CALIBRATION = "calibration.json"
COVERAGE = "coverage.json"

POOR_CHAINS = 0.05
"""Fraction of the tests with poor chains that is worth a word."""

SHOWN_LEVELS = {"0.68": "68 %", "0.95": "95 %"}
"""Credibility levels of `coverage.json` that the report shows."""

PLOTS = (
    Plot(
        "Coverage",
        "How often regions of a given credibility hold the truth of a test simulation. Below the "
        "diagonal they are too narrow, above it too wide.",
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

VERDICTS: Mapping[VerdictName, tuple[Grade, str, str]] = {
    "calibrated": (
        Grade.GOOD,
        "the credible regions hold the truth of test simulations as often as they say",
        "",
    ),
    "overconfident": (
        Grade.BAD,
        "the credible regions hold the truth of test simulations too rarely: the intervals are "
        "too narrow",
        "more simulations, an ensemble or a smaller network",
    ),
    "underconfident": (
        Grade.BAD,
        "the credible regions hold the truth of test simulations too often: the intervals are "
        "wider than the data require",
        "a longer training, a larger network or embedding",
    ),
    "biased": (
        Grade.BAD,
        "posteriors of test simulations lie to one side of the truth in some label: do not rely "
        "on its interval",
        "more simulations; the table of the round says which labels are shifted",
    ),
    "too few tests": (
        Grade.OPEN,
        "too few test simulations to tell whether the credible regions can be trusted",
        "a larger test_data_loader.num_sim",
    ),
}
"""Name -> its grade, what it means, and what would help."""

CAVEAT = (
    "A verdict is about the average over test simulations: it does not say that the posterior is "
    "narrow; the p-values below say whether the observed sample looks like simulations."
)


class CoverageDiagnostic(Diagnostic):
    """Ranks the truth of every test among the draws from its posterior."""

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
        paths = write_coverage(folder, draws, evidence.posterior.prior)
        if draws.num_ok:
            of_label = draws.marginal_ranks[draws.success], draws.labels, draws.num_samples
            figures = (
                coverage(LEVELS, coverage_curve(draws.rank), draws.num_ok),
                ranks(*of_label),
                ranks_cumulative(*of_label),
            )
            for plot, figure in zip(PLOTS, figures, strict=True):
                paths += save_figure(figure, folder / plot.file)
        return paths

    def finding(self, folder: Path) -> Finding:
        """Read verdict, numbers and figures of the tests."""
        if not (folder / CALIBRATION).is_file():
            return Finding(verdict=NOT_TESTED)
        values = read_json_object(folder / CALIBRATION)
        return Finding(
            numbers=_numbers(values),
            warnings=list(_warnings(values)),
            verdict=_verdict(values),
            num_tests=values["num_tests"],
            note={"coverage error": values["expected_calibration_error"]},
            rows=_rows(values, read_json_object(folder / COVERAGE).get("levels", {})),
            plots=PLOTS if values["num_tests"] else (),
            tables=[_table(values)] if values["p_values"] else (),
        )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {
        "coverage/ece": values["expected_calibration_error"],
        "coverage/ks": values["ks"].get("hpd"),
        "coverage/nltp": values["nltp"],
        "coverage/gain_nat": values["gain"],
        "coverage/tests": values["num_tests"],
    }
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _warnings(values: Mapping[str, Any]) -> Sequence[str]:
    warnings = []
    if values["num_failed"]:
        warnings.append(
            f"{values['num_failed']} tests are left out, their posterior could not be drawn from."
        )
    if (values["poor_chains"] or 0.0) > POOR_CHAINS:
        warnings.append(
            f"the Markov chains of {values['poor_chains']:.0%} of the tests did not mix, so the "
            "verdict cannot be relied on; take more mcmc_sampler.num_chains or thin."
        )
    return warnings


def _verdict(values: Mapping[str, Any]) -> Verdict | None:
    """Return the verdict; None where another diagnostic has the say."""
    name = values["verdict"]
    if name not in VERDICTS:
        return None
    grade, meaning, remedy = VERDICTS[name]
    caveat = "" if grade is Grade.OPEN else CAVEAT
    return Verdict(name, grade, meaning, _reason(values), remedy, caveat)


def _reason(values: Mapping[str, Any]) -> str:
    number, p_values = values["num_tests"], values["p_values"]
    if values["verdict"] == "too few tests":
        return f"{number} tests succeeded, {MIN_TESTS} are needed"
    limit = _limit(values)
    kinds = f"{len(p_values)} kinds of ranks over {number} tests"
    if values["verdict"] == "calibrated":
        least = min(p_values, key=lambda name: float(p_values[name]))
        return f"{kinds} are uniform: least p = {p_values[least]:.2g} ({least}), limit {limit:.2g}"
    wrong = ", ".join(f"{name} p = {p:.2g}" for name, p in p_values.items() if p < limit)
    return f"of {kinds} these are not uniform (limit {limit:.2g}): {wrong}"


def _limit(values: Mapping[str, Any]) -> float:
    """Return the p-value that rejects, by Bonferroni's correction."""
    return float(values["alpha"] / len(values["p_values"]))


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


def _table(values: Mapping[str, Any]) -> LabelTable:
    limit = _limit(values)
    rows = {}
    for label, shift in values["shift"].items():
        p = values["p_values"][f"sbc/{label}"]
        rows[label] = (
            Cell(f"{p:.2g}", bad=p < limit),
            Cell(f"{shift:+.1f}"),
            Cell(f"{values['spread'][label]:+.1f}"),
            Cell(f"{values['width'][label]:.2f}"),
        )
    return LabelTable(
        "Calibration of each label",
        "p-value: of uniform ranks, red where it rejects. Shift and spread are in standard "
        "errors; shift above 0: the posterior lies too low; spread above 0: it is too narrow. "
        "Width: standard deviation of the posterior over that of the prior, mean over the tests.",
        ("p-value", "shift", "spread", "width"),
        rows,
    )
