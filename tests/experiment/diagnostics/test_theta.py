"""Sets whose theta do not follow the prior are told of, and do not pass for tests of it."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlpop.experiment.diagnostics.diagnostic import Evidence, Grade, Simulations
from mlpop.experiment.diagnostics.theta import ThetaDiagnostic, repeated_rows, warn_of_training_set
from mlpop.inference.diagnostics.theta_check import check_theta
from mlpop.inference.prior import Prior

PRIOR = Prior(("a", "b"), (0.0, 0.0), (2.0, 2.0))


def simulations(folder: Path, high: float, from_prior: bool = True) -> Simulations:
    theta = np.random.default_rng(1).uniform(0, high, (400, 2))
    data: Any = SimpleNamespace(theta=theta)
    posterior: Any = SimpleNamespace(prior=PRIOR)
    nothing: Any = None
    return Simulations(posterior, data, data, nothing, None, folder, from_prior=from_prior)


def evidence(folder: Path, **changes: Any) -> Evidence:
    unknown: Any = None
    return Evidence(unknown, unknown, changes.pop("learned", {}), folder, 1, 0, **changes)


@pytest.mark.parametrize(
    ("high", "text"),
    [
        (1.0, "a fills 0.00 to 0.50 of the prior's unit range"),
        (4.0, "% of its theta lie outside of the prior"),
    ],
)
def test_training_set_of_another_prior_is_a_warning(
    high: float, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diagnostic = ThetaDiagnostic()
    known = simulations(tmp_path, high)
    with caplog.at_level(logging.WARNING):
        warn_of_training_set(PRIOR, known.given)
    assert text in caplog.text
    learned = diagnostic.learn(known)
    assert diagnostic.load(tmp_path) == learned
    found = diagnostic.finding(tmp_path)
    assert found.verdict is None
    (sentence,) = found.sentences
    assert text in sentence
    assert "400 simulations" in sentence
    assert found.warnings == found.sentences
    # inference elsewhere knows it, too
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    diagnostic.examine_observed(evidence(elsewhere, learned={"theta": learned}))
    assert diagnostic.finding(elsewhere).sentences == found.sentences


def test_training_set_of_the_prior_is_no_warning(tmp_path: Path) -> None:
    diagnostic = ThetaDiagnostic()
    diagnostic.learn(simulations(tmp_path, 2.0))
    assert not diagnostic.finding(tmp_path).sentences
    assert diagnostic.learn(simulations(tmp_path, 1.0, from_prior=False)) is None


@pytest.mark.parametrize(("copies", "same_x", "repeated"), [(2, True, 400), (2, False, 0)])
def test_rows_that_are_there_twice_are_told(
    copies: int, same_x: bool, repeated: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(1)
    theta = np.tile(rng.uniform(0, 2, (400, 2)), (copies, 1))
    x = theta.copy() if same_x else rng.normal(size=(len(theta), 2))
    data: Any = SimpleNamespace(theta=theta, x=x)
    assert repeated_rows(data) == repeated
    with caplog.at_level(logging.WARNING):
        warn_of_training_set(PRIOR, data)
    assert ("are there more than once" in caplog.text) == bool(repeated)
    known = replace(simulations(tmp_path, 2.0), given=data)
    ThetaDiagnostic().learn(known)
    told = ThetaDiagnostic().finding(tmp_path).sentences
    assert any(f"{repeated} of the 800" in text for text in told) == bool(repeated)


def test_tests_of_another_prior_are_a_verdict(tmp_path: Path) -> None:
    diagnostic = ThetaDiagnostic()
    unit = np.random.default_rng(2).random((200, 2))
    nothing: Any = None
    for scale, name in ((1.0, None), (0.5, "unfit tests")):
        checks = {"tests of round 0": check_theta(PRIOR.labels, scale * unit)}
        diagnostic.examine_tests(evidence(tmp_path, theta_checks=checks), nothing, nothing)
        verdict = diagnostic.finding(tmp_path).verdict
        assert (None if verdict is None else verdict.name) == name
    assert verdict is not None
    assert verdict.grade is Grade.BAD
    assert "tests of round 0 (200 simulations)" in verdict.reason


def test_round_without_files_says_nothing(tmp_path: Path) -> None:
    found = ThetaDiagnostic().finding(tmp_path)
    assert (found.verdict, list(found.sentences)) == (None, [])
