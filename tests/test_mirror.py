"""A test lies where its module lies: `mlpop/a/b/c.py` is tested by `tests/a/b/test_c.py`."""

from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "mlpop"
ACROSS = {Path(), Path("integration"), Path("testing")}
"""Tests of the repository, of whole experiments, of the conformance suites."""


def homes() -> dict[str, set[Path]]:
    """Name of a module -> folders that have one, from mlpop."""
    found: dict[str, set[Path]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        found[path.stem].add(path.parent.relative_to(PACKAGE))
    return found


FILES = [
    path.relative_to(TESTS)
    for path in sorted(TESTS.rglob("test_*.py"))
    if path.parent.relative_to(TESTS) not in ACROSS
]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_test_lies_in_the_room_of_its_module(file: Path) -> None:
    room, name = file.parent, file.stem.removeprefix("test_")
    assert (PACKAGE / room).is_dir(), f"tests/{file}: there is no mlpop/{room}"
    # a behaviour of the whole room has a name that is no module's, or the room's own
    right = homes().get(name, {room})
    assert room in right or name == room.name, (
        f"tests/{file}: the module {name} lies in mlpop/{', mlpop/'.join(map(str, right))}"
    )
