"""Tests that networks were trained on are refused, or said."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.index import DatasetIndex
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.inputs.apart import check_apart

LABELS = ("u", "v")


def index_of(folder: Path, rows: np.ndarray) -> DatasetIndex:
    folder.mkdir()
    lines = [f"m_{k}.npy,{u!r},{v!r}" for k, (u, v) in enumerate(rows.tolist())]
    path = folder / "dataset_full.csv"
    path.write_text("\n".join(["input:m,u,v", *lines]) + "\n")
    return DatasetIndex.read(path)


@pytest.fixture
def theta() -> np.ndarray:
    return np.random.default_rng(3).random((12, 2))


@pytest.mark.parametrize("name", ["dataset_full.csv", "../train/dataset_full.csv", "link.csv"])
def test_the_training_set_is_no_test_set(tmp_path: Path, theta: np.ndarray, name: str) -> None:
    training = index_of(tmp_path / "train", theta)
    (tmp_path / "train" / "link.csv").symlink_to("dataset_full.csv")
    tests = DatasetIndex.read(tmp_path / "train" / name)
    with pytest.raises(ConfigError, match=r"test_data_loader\.dataset_path_round_0: .* is the tr"):
        check_apart(training, tests, LABELS)


@pytest.mark.parametrize("shared", [0, 1, 5, 12])
def test_shared_simulations_are_counted(
    tmp_path: Path, theta: np.ndarray, shared: int, caplog: pytest.LogCaptureFixture
) -> None:
    training = index_of(tmp_path / "train", theta)
    others = np.random.default_rng(8).random((4, 2))
    with caplog.at_level(logging.WARNING):
        check_apart(
            training, index_of(tmp_path / "t", np.vstack([others, theta[:shared]])), LABELS
        )
    assert (f"{shared} of {4 + shared} tests" in caplog.text) is (shared > 0)


def test_a_copy_is_said(tmp_path: Path, theta: np.ndarray, caplog) -> None:
    training = index_of(tmp_path / "train", theta)
    shutil.copytree(tmp_path / "train", tmp_path / "copy")
    check_apart(training, DatasetIndex.read(tmp_path / "copy" / "dataset_full.csv"), LABELS)
    assert "12 of 12 tests" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input:m;u;v\na.npy;1;2\n", "separated by ';'"),
        ("input:m\tu\tv\na.npy\t1\t2\n", r"separated by '\\t'"),
        ("input:m, u, v\na.npy, 1, 2\n", "' u' begins or ends with a space"),
    ],
)
def test_other_kinds_of_csv_are_called_so(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "dataset_full.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        DatasetIndex.read(path)


@pytest.mark.parametrize("text", ["0_5", "٥", "1e-0_1"])
def test_what_is_no_number_for_others_is_none_here(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dataset_full.csv"
    path.write_text(f"input:m,u\na.npy,{text}\n")
    with pytest.raises(DataError, match="column 'u': expected a finite number"):
        DatasetIndex.read(path).label_values(["u"])


@pytest.mark.parametrize("name", ["~nobody_at_all/m.npy"])
def test_a_home_folder_that_nobody_has(tmp_path: Path, name: str) -> None:
    path = tmp_path / "dataset_full.csv"
    path.write_text(f"input:m,u\n{name},1\n")
    with pytest.raises(DataError, match="row 0, column 'input:m': .* home folder"):
        DatasetIndex.read(path).cells("m")
