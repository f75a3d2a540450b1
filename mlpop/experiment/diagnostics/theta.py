"""Whether theta of the sets follow the prior: if not, ranks and posteriors mean something else."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics.diagnostic import (
    Diagnostic,
    Evidence,
    Finding,
    Grade,
    Simulations,
    Verdict,
)
from mlpop.inference.diagnostics.coverage import CoverageResult
from mlpop.inference.diagnostics.theta_check import ThetaCheck, check_set_theta
from mlpop.inference.prior import Prior
from mlpop.io.files import read_json_object, write_json

logger = logging.getLogger(__name__)

TRAINING = "theta_training.json"
TESTS = "theta_tests.json"
TRAINING_SET = "training set"
REPEATED = "repeated"

WHOLE = 0.95
"""Part of the prior's unit range that is called all of it."""

Values = Mapping[str, Any]


class ThetaDiagnostic(Diagnostic):
    """Compares theta of the training set with the prior, those of tests with what they follow."""

    name = "theta"
    memory = (TRAINING,)

    def learn(self, simulations: Simulations) -> Values | None:
        """Compare the training set with the prior, if it is said to come from there."""
        if not simulations.from_prior:
            return None
        values = _of_training(simulations.posterior.prior, simulations.given)
        write_json(simulations.folder / TRAINING, values)
        return values

    def load(self, folder: Path) -> Values | None:
        """Return what `learn` found."""
        path = folder / TRAINING
        return read_json_object(path) if path.is_file() else None

    def examine_observed(self, evidence: Evidence) -> Sequence[Path]:
        """Write what is known of the training set: it is as true of other observations."""
        values: Values | None = evidence.learned.get(self.name)
        if not values:
            return ()
        path = evidence.folder / TRAINING
        write_json(path, dict(values))
        return (path,)

    def examine_tests(
        self, evidence: Evidence, tests: Dataset, draws: CoverageResult
    ) -> Sequence[Path]:
        """Write how the theta of the tests compare with what they should follow."""
        values = _values(evidence.theta_checks)
        path = evidence.folder / TESTS
        write_json(path, values)
        for text in _sentences(values):
            logger.warning("%s", text)
        return (path,)

    def finding(self, folder: Path) -> Finding:
        """Read what does not follow; wrong tests are a verdict, a wrong training set is not."""
        training, tests = (
            read_json_object(folder / name) if (folder / name).is_file() else {}
            for name in (TRAINING, TESTS)
        )
        wrong = list(_sentences(tests))
        verdict = None
        if wrong:
            verdict = Verdict(
                "unfit tests",
                Grade.BAD,
                "the test simulations are not those that this posterior can be judged by: their "
                "theta do not follow the distribution that it is for",
                "; ".join(text.rstrip(".") for text in wrong),
                "tests whose theta are drawn from the prior (test_data_loader.simulate), or the "
                "prior_ranges that they were drawn from",
            )
        texts = [*_sentences(training), *wrong]
        return Finding(sentences=texts, warnings=texts, verdict=verdict)


def warn_of_training_set(prior: Prior, data: Dataset) -> None:
    """Say, before hours of training, that theta of a set do not follow the prior."""
    for text in _sentences(_of_training(prior, data)):
        logger.warning("%s", text)


def _of_training(prior: Prior, data: Dataset) -> Values:
    values = _values({TRAINING_SET: check_set_theta(prior, data.theta)})
    values[TRAINING_SET][REPEATED] = repeated_rows(data)
    return values


def repeated_rows(data: Dataset) -> int:
    """Count the simulations that an earlier row of a set holds already, theta and x alike."""
    _, kinds, counts = np.unique(data.theta, axis=0, return_inverse=True, return_counts=True)
    again = np.flatnonzero(counts[kinds] > 1)
    rows = {data.theta[row].tobytes() + sha256(data.x[row].tobytes()).digest() for row in again}
    return len(again) - len(rows)


def _values(checks: Mapping[str, ThetaCheck]) -> dict[str, Any]:
    return {
        name: asdict(check) | {"follows": check.follows, "wrong": check.wrong}
        for name, check in checks.items()
    }


def _sentences(values: Values) -> Iterator[str]:
    """Yield a sentence for every set that does not follow what it should."""
    for name, check in values.items():
        if repeated := check.get(REPEATED):
            yield (
                f"{repeated} of the {check['count']} simulations of the {name} are there more "
                "than once, with the same theta and the same x: networks are validated on what "
                "they learn from, stop too late, and are too sure of themselves. Take them out."
            )
        if check["follows"]:
            continue
        parts = []
        if check["outside"]:
            left_out = ", and are left out" if name == TRAINING_SET else ""
            parts.append(
                f"{100 * check['outside']:.1f} % of its theta lie outside of the prior{left_out}"
            )
        for label in (label for label in check["wrong"] if label in check["low"]):
            low, high, p = (check[name][label] for name in ("low", "high", "p_values"))
            filled = f"{label} fills {low:.2f} to {high:.2f} of the prior's unit range"
            if high - low > WHOLE:
                filled = f"{label} is spread otherwise over the prior's range"
            parts.append(f"{filled} (p = {p:.1g})")
        pairs = [pair for pair in check["wrong"] if pair not in check["low"]]
        if pairs:
            parts.append(f"{', '.join(pairs)} are correlated")
        yield (
            f"The theta of the {name} ({check['count']} simulations) do not follow the "
            f"distribution that prior_ranges say: {'; '.join(parts)}."
            + (_OF_TRAINING if name == TRAINING_SET else "")
        )


_OF_TRAINING = (
    " Networks of snpe learn the posterior under the set's own distribution, and no network "
    "learns anything where the set is empty."
)
