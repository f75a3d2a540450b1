from collections import Counter
from pathlib import Path

import pytest

from mlpop.compute.campaign.journal import (
    journal_path,
    note_attempt,
    note_simulation,
    note_timeout,
    read_journal,
)
from mlpop.errors import DataError


def test_a_missing_journal_means_no_deaths(tmp_path: Path) -> None:
    deaths = read_journal(journal_path(tmp_path, 3))
    assert (deaths.at, deaths.timeouts, deaths.before_first) == (Counter(), frozenset(), 0)


def test_each_attempt_counts_at_its_last_simulation(tmp_path: Path) -> None:
    path = journal_path(tmp_path, 12)
    assert path.name == ".shard-00012.journal"
    for last in (17, 17, None, 16):
        with path.open("a") as journal:
            note_attempt(journal)
            if last is not None:
                for index in range(15, last + 1):
                    note_simulation(journal, index)
    deaths = read_journal(path)
    assert deaths.at == Counter({17: 2, 16: 1})
    assert deaths.before_first == 1
    assert not deaths.timeouts


def test_timeouts_of_both_kinds_are_seen(tmp_path: Path) -> None:
    path = journal_path(tmp_path, 0)
    with path.open("a") as journal:
        note_attempt(journal)
        note_simulation(journal, 4)
        journal.write("Timeout (0:00:01)!\nThread 0x1 (most recent call first):\n  File ...\n")
    with path.open("a") as journal:
        note_attempt(journal)
        note_simulation(journal, 5)
    note_timeout(path)
    deaths = read_journal(path)
    assert deaths.timeouts == {4, 5}
    assert deaths.at == Counter({4: 1, 5: 1})


def test_half_a_line_of_a_killed_worker_does_no_harm(tmp_path: Path) -> None:
    path = journal_path(tmp_path, 0)
    path.write_text("\nattempt\n\nsimulation 8\n\nsimula")
    with path.open("a") as journal:
        note_attempt(journal)
        note_simulation(journal, 8)
    assert read_journal(path).at == Counter({8: 2})


def test_a_full_disk_is_told_with_the_name_of_the_file() -> None:
    with (
        pytest.raises(DataError, match="^/dev/full: cannot be written: No space left"),
        Path("/dev/full").open("a") as journal,
    ):
        note_attempt(journal)
