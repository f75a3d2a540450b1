"""Columns of an index file give back what was written."""

import sys

import numpy as np
import pytest

from mlpop.io.columns import WHOLE, NumberColumn, PathColumn

PATHS = [
    "a.npy#0",
    "a.npy#12",
    "b/c.npy#3",
    "a.npy",
    "x.png",
    "",
    "a.npy#007",
    "a.npy#x",
    "é.npy#1",
]
NUMBERS = ["1.5", "1e-05", "1", "0.10", "", "nan", "inf", "two", " 3.0", "-0.0", "1_0"]


def test_paths_are_as_written() -> None:
    column = PathColumn()
    for text in PATHS * 2:
        column.append(text)
    assert [column.text(k) for k in range(len(column))] == PATHS * 2
    assert column.names == ["a.npy", "b/c.npy", "x.png", "", "a.npy#x", "é.npy"]
    rows = [0, 12, 3, WHOLE, WHOLE, WHOLE, 7, WHOLE, 1]
    assert column.packed_rows.tolist() == rows * 2
    assert [column.names[k] for k in column.codes[:4]] == ["a.npy", "a.npy", "b/c.npy", "a.npy"]
    assert not column.is_empty


def test_numbers_are_as_written() -> None:
    column = NumberColumn()
    for text in NUMBERS:
        column.append(text)
    assert [column.text(k) for k in range(len(column))] == NUMBERS
    assert column.first_bad == 4
    np.testing.assert_array_equal(column.values[:4], [1.5, 1e-05, 1.0, 0.1])
    assert np.signbit(column.values[9])


@pytest.mark.parametrize("kind", [PathColumn, NumberColumn])
def test_empty_columns(kind: type[PathColumn] | type[NumberColumn]) -> None:
    column = kind()
    assert column.is_empty
    column.append("")
    column.append("")
    assert column.is_empty
    column.append("1.0")
    assert not column.is_empty


def test_a_cell_takes_a_few_bytes() -> None:
    column, numbers = PathColumn(), NumberColumn()
    for k in range(20_000):
        column.append(f"shards/shard-{k // 1000:05d}/survey_PMPS_ppdot_map.npy#{k % 1000}")
        numbers.append(repr(k / 7))
    assert len(column.names) == 20
    assert sys.getsizeof(column._codes) + sys.getsizeof(column._rows) < 16 * 20_000
    assert len(numbers._texts) == 0
