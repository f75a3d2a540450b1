"""All diagnostics, in the order in which they are asked, and what they say together."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics.coverage import CALIBRATION, CoverageDiagnostic
from mlpop.experiment.diagnostics.diagnostic import (
    NOT_TESTED,
    Diagnostic,
    Evidence,
    Finding,
    Simulations,
    Verdict,
)
from mlpop.experiment.diagnostics.predictive import PredictiveDiagnostic
from mlpop.experiment.diagnostics.theta import ThetaDiagnostic
from mlpop.experiment.diagnostics.typicality import TypicalityDiagnostic
from mlpop.inference.diagnostics.coverage import CoverageResult
from mlpop.io.files import read_json_object, write_json

DIAGNOSTICS: Sequence[Diagnostic] = (
    TypicalityDiagnostic(),
    ThetaDiagnostic(),
    PredictiveDiagnostic(),
    CoverageDiagnostic(),
)

Files = dict[str, Path]
Findings = Mapping[str, Finding]


def learn(simulations: Simulations) -> dict[str, Any]:
    """Return diagnostic -> what it learns from the training of a round."""
    return {diagnostic.name: diagnostic.learn(simulations) for diagnostic in DIAGNOSTICS}


def load_learned(folder: Path) -> dict[str, Any]:
    """Return what `learn` did in a round, without what is not there any more.

    Raises:
        DataError: a file is damaged.
    """
    memories = {diagnostic.name: diagnostic.load(folder) for diagnostic in DIAGNOSTICS}
    return {name: memory for name, memory in memories.items() if memory is not None}


def memory_files() -> list[str]:
    """Return the names of all files that `learn` may write."""
    return [name for diagnostic in DIAGNOSTICS for name in diagnostic.memory]


def examine_observed(evidence: Evidence) -> Files:
    """Let all diagnostics look at x_o; return artifact name -> file."""
    return named(path for d in DIAGNOSTICS for path in d.examine_observed(evidence))


def examine_posterior(evidence: Evidence, theta: NDArray[np.float64]) -> Files:
    """Let all diagnostics look at draws of the posterior; return artifact name -> file."""
    return named(path for d in DIAGNOSTICS for path in d.examine_posterior(evidence, theta))


def examine_tests(evidence: Evidence, tests: Dataset, draws: CoverageResult) -> Files:
    """Let all diagnostics look at the tests of a round; return artifact name -> file."""
    return named(path for d in DIAGNOSTICS for path in d.examine_tests(evidence, tests, draws))


def read_findings(folder: Path) -> dict[str, Finding]:
    """Return diagnostic -> what it says of the round whose files lie in `folder`.

    Raises:
        DataError: a file is damaged.
    """
    return {diagnostic.name: diagnostic.finding(folder) for diagnostic in DIAGNOSTICS}


def decide(findings: Findings) -> Verdict:
    """Return the verdict of a round: the worst of all, of equals that of the first diagnostic."""
    verdicts = [finding.verdict for finding in findings.values() if finding.verdict is not None]
    return max(verdicts, key=lambda verdict: verdict.grade, default=NOT_TESTED)


def gather(folder: Path, findings: Findings) -> None:
    """Add to `calibration.json` what all diagnostics say; without tests there is none."""
    path = folder / CALIBRATION
    if not path.is_file():
        return
    values = read_json_object(path) | {"verdict": decide(findings).name}
    for finding in findings.values():
        values |= finding.calibration
    write_json(path, values)


def numbers(findings: Findings) -> dict[str, float]:
    """Return the numbers of all diagnostics, by their names in MLflow."""
    # MLflow's pages offer the first one first: one of the tests, if there are any
    return {
        name: value
        for finding in reversed(list(findings.values()))
        for name, value in finding.numbers.items()
    }


def headline() -> list[str]:
    """Return the names of the numbers by which experiments are compared."""
    return [name for diagnostic in DIAGNOSTICS for name in diagnostic.headline]


def legend() -> str:
    """Return the sentences that explain the rows of the report's table of rounds."""
    return " ".join(diagnostic.legend for diagnostic in DIAGNOSTICS if diagnostic.legend)


def named(paths: Iterable[Path]) -> Files:
    """Return name -> path."""
    return {path.name: path for path in paths}
