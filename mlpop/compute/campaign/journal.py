"""Which simulation a shard was at when its worker died.

A worker notes each simulation before it starts it. If the worker dies (a crash in compiled code,
no memory left, a simulation that cannot be interrupted), the next attempt reads which one it was:
one bad simulation becomes one failed row instead of taking its whole shard with it. The file goes
when the shard is done.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mlpop.errors import DataError

_ATTEMPT = "attempt"
_SIMULATION = "simulation "
# faulthandler's first line when `exit_after` ends the process.
_TIMEOUT = "Timeout ("


@dataclass(frozen=True)
class Deaths:
    """Attempts at a shard that ended with the death of their worker.

    Attributes:
        at: how many died in each simulation, by its index.
        timeouts: simulations during which a worker was ended because of the time limit.
        before_first: how many died before their first simulation.
    """

    at: Counter[int] = field(default_factory=Counter)
    timeouts: frozenset[int] = frozenset()
    before_first: int = 0


def journal_path(shards: Path, number: int) -> Path:
    """Return the journal of shard `number` in the folder `shards`."""
    return shards / f".shard-{number:05d}.journal"


def read_journal(path: Path) -> Deaths:
    """Read a journal; a missing one means no deaths."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return Deaths()
    at: Counter[int] = Counter()
    timeouts = set()
    before_first = 0
    current: int | None = None
    attempts = 0
    for line in [*lines, _ATTEMPT]:
        if line == _ATTEMPT:
            if current is not None:
                at[current] += 1
            elif attempts:
                before_first += 1
            attempts += 1
            current = None
        elif line.startswith(_SIMULATION):
            text = line.removeprefix(_SIMULATION)
            current = int(text) if text.isdigit() else current
        elif line.startswith(_TIMEOUT) and current is not None:
            timeouts.add(current)
    return Deaths(at, frozenset(timeouts), before_first)


def note_attempt(journal: IO[str]) -> None:
    """Note that a new attempt begins.

    Raises:
        DataError: the disk refuses; so it is with the other notes.
    """
    _note(journal, _ATTEMPT)


def note_simulation(journal: IO[str], index: int) -> None:
    """Note that simulation `index` begins."""
    _note(journal, f"{_SIMULATION}{index}")


def note_timeout(path: Path) -> None:
    """Note that the backend stopped the last attempt at its time limit."""
    with path.open("a", encoding="utf-8") as journal:
        _note(journal, f"{_TIMEOUT}task)")


def _note(journal: IO[str], line: str) -> None:
    # A killed process may have left half a line. What a full disk leaves in a buffer would be
    # refused once more, without a name, when the file is closed.
    try:
        os.write(journal.fileno(), f"\n{line}\n".encode())
    except OSError as error:
        raise DataError(f"{journal.name}: cannot be written: {error.strerror or error}") from error
