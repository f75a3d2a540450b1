"""Splits: golden 13, files, errors."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.loading import load_dataset
from mlpop.datasets.splits import Split, split_dataset, split_rows
from mlpop.errors import ConfigError, DataError
from mlpop.io.files import read_csv

Make = Callable[..., Path]


def split(n: int, test: float | None, valid: float | None, seed: int = 1) -> Split:
    return split_rows(n, test=test, valid=valid, rng=np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("n", "test", "valid", "sizes"),
    [
        (20, 0.2, None, (4, 0, 16)),
        (100, 0.1, 0.2, (10, 18, 72)),
        (20, 0.1, 0.2, (2, 3, 15)),
        (20, None, 0.25, (0, 5, 15)),
        (100, 0.29, None, (29, 0, 71)),
    ],
)
def test_sizes_golden_13(
    n: int, test: float | None, valid: float | None, sizes: tuple[int, int, int]
) -> None:
    found = split(n, test, valid)
    assert (len(found.test), len(found.valid), len(found.train)) == sizes
    together = np.concatenate([found.test, found.valid, found.train])
    assert sorted(together) == [*range(n)], "every row once"
    assert (np.diff(found.train) > 0).all(), "the remainder keeps the order of the file"


def test_rows_depend_on_the_seed_alone() -> None:
    first, again, other = split(50, 0.3, 0.3), split(50, 0.3, 0.3), split(50, 0.3, 0.3, seed=2)
    np.testing.assert_array_equal(first.test, again.test)
    np.testing.assert_array_equal(first.valid, again.valid)
    assert not np.array_equal(first.test, other.test)


def test_every_row_is_drawn_equally_often() -> None:
    hits = np.zeros(10)
    for seed in range(2000):
        hits[split(10, 0.3, None, seed=seed).test] += 1
    np.testing.assert_allclose(hits / 2000, 0.3, atol=0.045)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_fractions_lie_inside_0_and_1(fraction: float) -> None:
    with pytest.raises(ConfigError, match=rf"split.valid must lie .* got {fraction}"):
        split(20, None, fraction)


def test_empty_subsets_are_refused() -> None:
    with pytest.raises(DataError, match=r"split.test: a fraction of 0.2 of 4 rows is 0 rows"):
        split(4, 0.2, None)
    with pytest.raises(ConfigError, match="give a fraction"):
        split(4, None, None)


def test_files_hold_the_rows(tmp_path: Path, make_dataset: Make) -> None:
    folder = make_dataset(tmp_path, n=10)
    found = split_dataset(folder, test=0.2, valid=0.25, rng=np.random.default_rng(3))
    full = load_dataset(folder / "dataset_full.csv")
    for name in ("train", "valid", "test"):
        part, rows = load_dataset(folder / f"dataset_{name}.csv"), getattr(found, name)
        np.testing.assert_array_equal(part.theta, full.theta[rows])
        np.testing.assert_array_equal(part.x, full.x[rows])
    statistics = json.loads((folder / "statistics_train.json").read_text())
    assert statistics["u"]["std"] == full.theta[found.train, 0].std()
    assert statistics["v"]["max"] == full.theta[found.train, 1].max()


def test_a_subset_that_is_not_asked_for_has_no_file(tmp_path: Path, make_dataset: Make) -> None:
    folder = make_dataset(tmp_path, n=10)
    split_dataset(folder, test=0.2, valid=0.25, rng=np.random.default_rng(3))
    split_dataset(folder, test=0.2, valid=None, rng=np.random.default_rng(3))
    assert not (folder / "dataset_valid.csv").exists()
    assert len(read_csv(folder / "dataset_train.csv")[1]) == 8
