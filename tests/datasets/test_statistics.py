"""Statistics of labels: goldens 12 and 17."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.scaling import label_statistics, read_statistics
from mlpop.errors import DataError
from mlpop.io.files import write_json

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
TEST_ROWS = (15, 1, 10, 0)


def test_four_labels_golden_12() -> None:
    statistics = label_statistics(np.array([[5.0], [6.0], [7.0], [8.0]]), ["h_c"])["h_c"]
    assert statistics == pytest.approx({"mean": 6.5, "std": 1.118034, "max": 8, "min": 5})


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            range(20),
            {
                "B_initial_log10_mean": (
                    *(12.967262681313835, 0.4995328716403753),
                    *(13.726632318785471, 12.002233373316034),
                ),
                "P_initial_log10_mean": (
                    *(-0.8966167380693294, 0.32807553291449476),
                    *(-0.32636848831786125, -1.4589949833333373),
                ),
            },
        ),
        (
            [k for k in range(20) if k not in TEST_ROWS],
            {
                "B_initial_log10_mean": (
                    *(12.850782234358956, 0.4711881884041647),
                    *(13.629887947037345, 12.002233373316034),
                ),
                "P_initial_log10_mean": (
                    *(-0.9125141724417387, 0.3607400958095005),
                    *(-0.3263684883178612, -1.458994983333337),
                ),
            },
        ),
    ],
    ids=["full", "train"],
)
def test_example_labels_golden_17(
    rows: range | list[int],
    expected: dict[str, tuple[float, ...]],
    example_labels: np.ndarray,
) -> None:
    statistics = label_statistics(example_labels[list(rows)], LABELS)
    for label, values in expected.items():
        found = [statistics[label][key] for key in ("mean", "std", "max", "min")]
        np.testing.assert_allclose(found, values, rtol=0, atol=1e-12)


def test_file_round_trip_is_exact(tmp_path: Path, example_labels: np.ndarray) -> None:
    statistics = label_statistics(example_labels, LABELS)
    write_json(tmp_path / "s.json", statistics)
    assert read_statistics(tmp_path / "s.json") == statistics
    assert [*json.loads((tmp_path / "s.json").read_text())[LABELS[0]]] == [
        "mean",
        "std",
        "max",
        "min",
    ]


def test_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_statistics(tmp_path / "none.json")
    path = tmp_path / "s.json"
    path.write_text('{"h_c": {"mean": 1, "std": 2, "max": 3}}')
    with pytest.raises(DataError, match="label 'h_c': expected finite numbers for mean"):
        read_statistics(path)
    path.write_text('{"h_c": {"mean": NaN, "std": 2, "max": 3, "min": 1}}')
    with pytest.raises(DataError, match="label 'h_c'"):
        read_statistics(path)
    path.write_text("[1]")
    with pytest.raises(DataError, match="expected a JSON object, found list"):
        read_statistics(path)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="at least one row of 1 labels"):
        label_statistics(np.empty((0, 1)), ["h_c"])
