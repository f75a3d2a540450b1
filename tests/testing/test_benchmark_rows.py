"""`python -m benchmarks`: both ways turn by turn, medians of pairs, one table with every row."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import rows

BENCHMARKS = Path(rows.__file__).parent


class Clock:
    """Goes on by what a way takes; each call of a way takes another time."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, ""

    def __call__(self) -> float:
        return self.now

    def way(self, name: str, seconds: list[float]) -> object:
        times = iter(seconds)

        def once() -> None:
            self.order += name
            self.now += next(times)

        return once


def test_ways_take_turns_and_the_first_pair_does_not_count() -> None:
    clock = Clock()
    closed: list[str] = []

    def prepare(quick: bool, stack: ExitStack) -> tuple[object, object]:
        assert not quick
        stack.callback(closed.append, "closed")
        return clock.way("o", [100, 1, 2, 4]), clock.way("p", [900, 3, 10, 8])

    row = rows.Row("name", "work", "peer", "limit", prepare, clock)
    found = rows.measure(row, 3, False)
    assert clock.order == "opopopop"
    assert (found["ours"], found["plain"]) == ([1, 2, 4], [3, 10, 8])
    # of each pair, not of the medians
    assert found["ratio"] == 3
    assert closed == ["closed"]


def test_every_row_is_in_the_readme() -> None:
    names = [row.name for row in rows.ROWS]
    assert len(set(names)) == len(names)
    lines = (BENCHMARKS / "README.md").read_text().splitlines()
    for name in names:
        assert any(line.startswith(f"| {name} |") for line in lines), name


def test_every_script_is_in_the_readme() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    parts = {"__init__", "__main__", "rows", "waiting"}
    for path in BENCHMARKS.glob("*.py"):
        if path.stem not in parts:
            assert f"`{path.name}`" in text, path.name


def test_the_spin_down_of_the_plain_way_gives_the_same_periods() -> None:
    with ExitStack() as stack:
        ours, plain = rows.spin_down(True, stack)
    assert abs(ours() / plain() - 1).max() < 1e-2


def test_an_unknown_row_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "draws,nothing"]
    done = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no row nothing; there are: spin-down" in done.stderr


@pytest.mark.slow
def test_all_rows_run(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert list(found["rows"]) == [row.name for row in rows.ROWS]
    assert all(numbers["ratio"] > 0 for numbers in found["rows"].values())
    assert done.stdout.count("\n") == 2 + len(rows.ROWS)
