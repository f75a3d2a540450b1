"""What the tests of a round are turned into: verdict, reason, warnings, rows."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest

from mlpop.experiment.diagnostics.coverage import VERDICTS, CoverageDiagnostic
from mlpop.experiment.diagnostics.diagnostic import NOT_TESTED, Finding, Grade
from mlpop.inference.diagnostics.calibration import Calibration, VerdictName
from mlpop.io.files import write_json


def finding(folder: Path, verdict: Any, least: float = 1e-4, **changes: Any) -> Finding:
    """Read what a round with these numbers has written."""
    p_values = {"hpd": least, "tarp": 0.5, "sbc/a": 0.6, "sbc/b": 0.7}
    values: dict[str, Any] = {
        "verdict": verdict,
        "num_tests": 100,
        "num_failed": 0,
        "alpha": 0.05,
        "p_values": p_values,
        "ks": {"hpd": 0.1},
        **dict.fromkeys(("shift", "spread", "width"), {"a": 0.5, "b": -1.0}),
        **dict.fromkeys(("hpd_shift", "nltp", "gain"), 1.0),
        "expected_calibration_error": 0.02,
    }
    calibration = Calibration(**(values | changes))
    write_json(folder / "calibration.json", asdict(calibration))
    write_json(folder / "coverage.json", {"levels": {}})
    return CoverageDiagnostic().finding(folder)


def test_round_without_tests_is_open(tmp_path: Path) -> None:
    assert CoverageDiagnostic().finding(tmp_path) == Finding(verdict=NOT_TESTED)
    assert NOT_TESTED.grade is Grade.OPEN
    assert NOT_TESTED.reason == "its coverage was not tested: test_data_loader.testing is false"


@pytest.mark.parametrize(
    ("verdict", "least", "reason"),
    [
        ("too few tests", 0.1, "100 tests succeeded, 50 are needed"),
        (
            "calibrated",
            0.4,
            "4 kinds of ranks over 100 tests are uniform: least p = 0.4 (hpd), limit 0.013",
        ),
        (
            "biased",
            1e-4,
            "of 4 kinds of ranks over 100 tests these are not uniform (limit 0.013): "
            "hpd p = 0.0001",
        ),
    ],
)
def test_reason_names_the_tests(verdict: str, least: float, reason: str, tmp_path: Path) -> None:
    found = finding(tmp_path, verdict, least).verdict
    assert found is not None
    assert (found.name, found.reason) == (verdict, reason)


def test_every_verdict_has_a_meaning_and_only_a_calibrated_posterior_is_good() -> None:
    assert set(VERDICTS) == set(get_args(VerdictName))
    assert [name for name, (grade, *_) in VERDICTS.items() if grade is Grade.GOOD] == [
        "calibrated"
    ]


def test_verdict_of_another_diagnostic_is_left_to_it(tmp_path: Path) -> None:
    assert finding(tmp_path, "misspecified").verdict is None


def test_lost_tests_and_poor_chains_are_warnings(tmp_path: Path) -> None:
    assert finding(tmp_path, "calibrated").warnings == []
    lost, poor = finding(tmp_path, "calibrated", num_failed=3, poor_chains=0.2).warnings
    assert lost.startswith("3 tests are left out")
    assert poor.startswith("the Markov chains of 20% of the tests did not mix")
