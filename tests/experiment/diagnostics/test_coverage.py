"""What the tests of a round are turned into: verdict, reason, warnings, rows."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from mlpop.experiment.diagnostics.coverage import COLUMNS, DECIDING, CoverageDiagnostic
from mlpop.experiment.diagnostics.diagnostic import NOT_TESTED, Finding, Grade
from mlpop.experiment.diagnostics.sentences import REMEDIES, fault_in_words, statistic_in_words
from mlpop.inference.diagnostics.calibration import Calibration
from mlpop.inference.diagnostics.intervals import IntervalCheck
from mlpop.inference.diagnostics.scores import family
from mlpop.inference.diagnostics.verdict import FAULTS, VerdictName
from mlpop.io.files import read_json_object, write_json

LEVELS = {
    "0.5": {"coverage": 0.38, "band_95": [0.4, 0.6]},
    "0.95": {"coverage": 0.93, "band_95": [0.9, 0.99]},
}
CHECK = IntervalCheck(
    bias=0.31,
    bias_error=0.1,
    width=1.25,
    width_error=0.08,
    held=0.9,
    held_band=(0.83, 0.95),
    held_near=0.85,
    held_near_band=(0.72, 0.94),
    near_tests=50.0,
    conformal_level=0.98,
    conformal=(0.1, 0.4),
)
STATISTICS = {
    **{statistic.name: 0.5 for statistic in family(("a", "b"), near=True)},
    "shape/all": 1.0,
    "shape/a": 0.2,
    "shape/b": 0.3,
}


def calibration(verdict: Any, decided_by: str = "bias/a", value: float = 5.0) -> dict[str, Any]:
    """Return what a round with this largest statistic has written."""
    statistics = STATISTICS | {decided_by: value}
    values = Calibration(
        verdict=verdict,
        num_tests=100,
        num_failed=0,
        alpha=0.05,
        p_values={"hpd": 0.3, "tarp": 0.5, "sbc/a": 0.6, "sbc/b": 0.7},
        ks={"hpd": 0.1},
        **dict.fromkeys(("shift", "spread", "width"), {"a": 0.5, "b": -1.0}),
        **dict.fromkeys(("hpd_shift", "nltp", "gain"), 1.0),
        expected_calibration_error=0.02,
        p_value=0.0005 if value >= 3.3 else 0.4,
        critical=3.3,
        statistics=statistics,
        effects={name: number / 10 for name, number in statistics.items()},
        decided_by=decided_by,
        fault=verdict if verdict in FAULTS else None,
        intervals={"a": CHECK, "b": replace(CHECK, bias=-0.02, width=1.01)},
        edge={"a": (0.058, 0.028), "b": (0.05, 0.05)},
    )
    return asdict(values)


def finding(folder: Path, verdict: Any, changes: Any = None, **options: Any) -> Finding:
    """Read what a round with these numbers has written."""
    write_json(folder / "calibration.json", calibration(verdict, **options) | (changes or {}))
    write_json(folder / "coverage.json", {"levels": LEVELS})
    return CoverageDiagnostic().finding(folder)


def test_round_without_tests_is_open(tmp_path: Path) -> None:
    assert CoverageDiagnostic().finding(tmp_path) == Finding(verdict=NOT_TESTED)
    assert NOT_TESTED.grade is Grade.OPEN
    assert NOT_TESTED.reason == "its coverage was not tested: test_data_loader.testing is false"


def test_reason_names_the_statistic_and_what_chance_does(tmp_path: Path) -> None:
    found = finding(tmp_path, "biased").verdict
    assert found is not None
    assert found.reason == (
        "100 tests: 'bias of a' is 5.0 standard deviations off; of a calibrated posterior "
        f"the largest of all {len(STATISTICS)} statistics stays below 3.3 in 95 of 100 cases "
        "(p = 0.0005)"
    )
    assert found.sentence == (
        "Biased: the posterior of a lies too low, by 0.31 +- 0.10 of its standard deviations."
    )
    assert (found.grade, found.figure) == (Grade.BAD, DECIDING.file)


def test_reason_does_not_call_largest_what_is_not(tmp_path: Path) -> None:
    """The figure shows a longer bar than the red one: the reason says why."""
    statistics = calibration("edge", "edge/a")["statistics"] | {"shape/all": -7.0}
    found = finding(tmp_path, "edge", {"statistics": statistics}, decided_by="edge/a").verdict
    assert found is not None
    assert "'edges of the prior, a' is 5.0 standard deviations off" in found.reason
    assert "; the largest, 'shape of the ranks of the density' by 7.0, follows" in found.reason


def test_regions_are_told_by_a_level_outside_of_its_band_or_by_their_mean() -> None:
    values = calibration("overconfident", "width/all")
    inside = {"0.95": LEVELS["0.95"]}
    assert fault_in_words(values, inside) == (
        "the credible regions are too narrow: on average 52.9 % of the draws have a higher "
        "density than the truth, where it should be 50 +- 5.8 %"
    )
    assert "38 % of the tests (40 to 60 if calibrated)" in fault_in_words(values, LEVELS)


def test_failed_tests_are_not_called_narrow_regions(tmp_path: Path) -> None:
    values = calibration("overconfident", "width/all") | {"num_failed": 50}
    text = fault_in_words(values, LEVELS)
    assert text.startswith("50 of 150 tests have no posterior that could be drawn from")
    assert "too narrow" not in text
    assert "that of 50 % holds the truth in 38 %" in text
    found = finding(tmp_path, "overconfident", {"num_failed": 50}, decided_by="width/all").verdict
    assert found is not None
    assert "why posteriors cannot be drawn from" in found.remedy


def test_few_tests_are_open(tmp_path: Path) -> None:
    few = finding(tmp_path, "too few tests", {"num_tests": 12}).verdict
    assert few is not None
    assert (few.grade, few.reason) == (Grade.OPEN, "12 tests succeeded, 50 are needed")
    unsure = finding(tmp_path, "too few tests", {"may_be_large": ["bias/a"]}, value=2.9).verdict
    assert unsure is not None
    assert "a bias of 0.5 standard deviations" in unsure.reason
    assert "cannot be excluded (bias of a)" in unsure.reason


@pytest.mark.parametrize(
    ("name", "verdict", "value", "text"),
    [
        ("width/all", "overconfident", 5.0, "that of 50 % holds the truth in 38 % of the tests"),
        ("width/a", "overconfident", 5.0, "the intervals of a are too narrow by a factor of 1.25"),
        (
            "edge/a",
            "edge",
            5.0,
            "of a keeps away from the edges of the prior: 5.8 % of the truths",
        ),
        # the numbers would say the opposite
        ("edge/a", "edge", -5.0, "the posterior of a crowds at the edges of the prior"),
        (
            "correlation/a ~ b",
            "correlation",
            5.0,
            "wrong correlation of a and b: that of the truths of tests is higher",
        ),
        ("tails/all", "tails", 5.0, "too little mass far out"),
        ("slope/a ~ b", "locally biased", 5.0, "shifted one way where b is small"),
        ("width slope/b", "locally overconfident", 5.0, "too wide where b is small"),
        ("x_o bias/a", "locally biased", -5.0, "lies too high, by 0.50"),
        ("x_o width/a", "locally overconfident", 5.0, "in 85 % of cases (72 to 94)"),
        ("x_o width/all", "locally underconfident", -5.0, "regions are too wide"),
        ("shape/all", "shape", 5.0, "has no simple name"),
        ("distance/all", "shape", 5.0, "has no simple name"),
    ],
)
def test_every_fault_is_told_in_words(name: str, verdict: str, value: float, text: str) -> None:
    assert text in fault_in_words(calibration(verdict, name, value), LEVELS)


def test_every_statistic_and_fault_has_words() -> None:
    words = [statistic_in_words(name) for name in STATISTICS]
    assert len(set(words)) == len(words)
    assert not any("/" in text for text in words)
    assert set(REMEDIES) == set(FAULTS)
    assert set(FAULTS) < set(get_args(VerdictName)) | set(FAULTS)


def test_calibrated_says_what_was_excluded(tmp_path: Path) -> None:
    found = finding(tmp_path, "calibrated", value=2.0).verdict
    assert found is not None
    assert found.grade is Grade.GOOD
    assert "no label is biased by more than 0.41 of its standard deviations" in found.meaning
    small = finding(tmp_path, "calibrated", {"fault": "biased", "negligible": True}).verdict
    assert small is not None
    assert small.grade is Grade.GOOD
    assert "measurably biased, but by too little to matter" in small.meaning


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_failed": 3}, "2.9 % of the tests failed"),
        ({"poor_chains": 0.2}, "the Markov chains of 20 % of the tests did not mix"),
    ],
)
def test_tests_that_cannot_be_relied_on_make_no_champion(
    changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    found = finding(tmp_path, "calibrated", changes, value=2.0).verdict
    assert found is not None
    assert (found.name, found.grade) == ("calibrated", Grade.OPEN)
    assert text in found.meaning
    one = finding(tmp_path, "calibrated", {"num_failed": 1, "poor_chains": 0.01}, value=2.0)
    assert one.verdict is not None
    assert one.verdict.grade is Grade.GOOD


def test_chains_at_x_o_that_did_not_mix_make_no_champion(tmp_path: Path) -> None:
    for problems, grade in (([], Grade.GOOD), (["R-hat is 1.2"], Grade.OPEN)):
        write_json(tmp_path / "summary.json", {"problems": problems})
        found = finding(tmp_path, "calibrated", value=2.0).verdict
        assert found is not None
        assert found.grade is grade


def test_verdict_of_another_diagnostic_is_left_to_it(tmp_path: Path) -> None:
    assert finding(tmp_path, "misspecified").verdict is None


def test_lost_tests_and_poor_chains_are_warnings(tmp_path: Path) -> None:
    assert finding(tmp_path, "calibrated").warnings == []
    values = {"num_failed": 3, "num_left_out": 7, "poor_chains": 0.2}
    lost, left, poor = finding(tmp_path, "calibrated", values).warnings
    assert lost.startswith("3 of 103 tests failed")
    assert left.startswith("7 more tests were left out")
    assert poor.startswith("the Markov chains of 20% of the tests did not mix")


def test_intervals_stand_beside_the_estimates(tmp_path: Path) -> None:
    found = finding(tmp_path, "biased")
    held, conformal = COLUMNS
    assert found.columns[held]["a"] == "85 % (72 to 94)"
    assert found.columns[conformal]["a"] == "[0.10, 0.40]"
    assert found.numbers["coverage/a/held_near"] == 0.85
    assert found.numbers["posterior/b/conformal_high"] == 0.4
    (table,) = found.tables
    assert table.rows["a"][0].text == "+0.31 ± 0.10"
    assert [cell.bad for cell in table.rows["a"][:2]] == [True, False]
    assert not table.rows["b"][0].bad


def test_rounds_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """Their verdict rests on p-values; nothing is known of intervals."""
    old = {
        name: value
        for name, value in calibration("biased").items()
        if name in Calibration.__dataclass_fields__
        and list(Calibration.__dataclass_fields__).index(name) <= 14
    }
    assert "statistics" not in old
    assert "poor_chains" in old
    write_json(tmp_path / "calibration.json", old)
    write_json(tmp_path / "coverage.json", {"levels": LEVELS})
    found = CoverageDiagnostic().finding(tmp_path)
    assert found.verdict is not None
    assert (found.verdict.name, found.verdict.grade) == ("biased", Grade.BAD)
    assert "least p = 0.3 (hpd)" in found.verdict.reason
    assert not found.tables
    assert not found.columns
    assert DECIDING not in found.plots
    assert found.numbers["coverage/ece"] == 0.02
    for name, grade in (("calibrated", Grade.GOOD), ("too few tests", Grade.OPEN)):
        write_json(tmp_path / "calibration.json", old | {"verdict": name})
        again = CoverageDiagnostic().finding(tmp_path).verdict
        assert again is not None
        assert again.grade is grade


def test_figure_shows_what_decides(tmp_path: Path) -> None:
    from mlpop.experiment.diagnostics.coverage import _deciding_figure

    figure = _deciding_figure(calibration("edge", "edge/a", 4.0) | {"num_tests": 100})
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == "edges of the prior, a"
    colours = [bar.get_facecolor()[:3] for bar in axes.patches if bar.get_width() == 4.0]
    assert len(colours) == 1
    assert axes.get_xlim()[1] > 4.0


def test_files_of_real_tests_are_read_back(tmp_path: Path, gaussian_member: Any) -> None:
    """Draws at x_o lie beside the tests: their intervals come out in physical units."""
    from types import SimpleNamespace

    from mlpop.experiment.diagnostics.diagnostic import Evidence
    from mlpop.inference.diagnostics.coverage import compute_coverage
    from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
    from mlpop.inference.prior import Prior
    from mlpop.networks.rng import generator_from_seed

    prior = Prior(("a", "b"), (-1.0, -1.0), (1.0, 1.0))
    posterior = EnsemblePosterior([gaussian_member(2, 0.3)], prior)
    rng = np.random.default_rng(5)
    theta = rng.uniform(-1, 1, (120, 2))
    x = (theta + 0.3 * rng.standard_normal(theta.shape)).astype(np.float32)
    draws = compute_coverage(posterior, theta, x, generator_from_seed(1), num_samples=500)
    x_o = np.zeros(2, np.float32)
    torch.save(
        torch.from_numpy(posterior.sample(2000, x_o, generator_from_seed(2))).float(),
        tmp_path / "samples_posterior.pt",
    )
    observed: Any = SimpleNamespace(x=x_o)
    evidence = Evidence(posterior, observed, {}, tmp_path, 1, 0)
    paths = CoverageDiagnostic().examine_tests(evidence, SimpleNamespace(), draws)  # type: ignore
    assert tmp_path / DECIDING.file in paths
    found = CoverageDiagnostic().finding(tmp_path)
    assert found.verdict is not None
    assert found.verdict.name in ("calibrated", "too few tests")
    values = read_json_object(tmp_path / "calibration.json")
    low, high = values["intervals"]["a"]["conformal"]
    # a normal distribution of width 0.3, hardly cut
    assert (low, high) == pytest.approx((-0.6, 0.6), abs=0.2)
    assert 40 < values["intervals"]["a"]["near_tests"] < 60
    first = (tmp_path / "calibration.json").read_bytes()
    CoverageDiagnostic().examine_tests(evidence, SimpleNamespace(), draws)  # type: ignore
    assert (tmp_path / "calibration.json").read_bytes() == first
