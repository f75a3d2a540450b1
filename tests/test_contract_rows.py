"""Every row of the contract for `mlpop sbi` and `mlpop infer` is tested by name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = tuple(f"S{number:02d}" for number in range(1, 30))
"""The rows of table A12: methods, rounds, data, proposals, resume, output files, inference."""

ROW = re.compile(r"(?<![A-Za-z0-9])S\d\d(?!\d)")


def named_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (row, test) for every test whose name, docstring or file's docstring names a row."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_file = ast.get_docstring(tree) or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for row in ROW.findall(f"{node.name} {ast.get_docstring(node) or ''} {of_file}"):
                yield row, f"{path.relative_to(TESTS)}::{node.name}"


@pytest.fixture(scope="module")
def rows() -> dict[str, set[str]]:
    """Row -> the tests that name it."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for row, test in named_rows(path):
            found.setdefault(row, set()).add(test)
    return found


@pytest.mark.parametrize("row", ROWS)
def test_row_is_named_by_a_test(row: str, rows: dict[str, set[str]]) -> None:
    assert rows.get(row), f"no test names row {row} in its name or docstring"


def test_no_row_is_named_that_does_not_exist(rows: dict[str, set[str]]) -> None:
    assert {row: rows[row] for row in rows.keys() - set(ROWS)} == {}
