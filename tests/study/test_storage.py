"""Putting a study in order: the journal, slots, records, the front."""

import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mlpop.config.files.study import PrunerConfig
from mlpop.errors import TrackingError
from mlpop.study.storage import (
    TrialRecord,
    best,
    front,
    mend_journal,
    next_slot,
    open_storage,
    open_study,
    put_in_order,
    records,
)

FIRST = {"a": 1}


def opened(journal: Path) -> optuna.Study:
    return open_study(
        open_storage(None, journal), "s", pruner=PrunerConfig(), objectives=1, max_epochs=None
    )


def asked(study: optuna.Study) -> optuna.Trial:
    slot = next_slot(study)
    trial = study.ask()
    trial.suggest_int("a", 0, 9)
    trial.set_user_attr("slot", trial.user_attrs.get("slot", slot))
    return trial


def test_interrupted_slots_wait_again_with_their_values(tmp_path: Path) -> None:
    study = opened(tmp_path / "j.log")
    put_in_order(study, FIRST)
    first, second, third = asked(study), asked(study), asked(study)
    assert first.params == FIRST
    study.tell(second, 1.0)
    study = opened(tmp_path / "j.log")
    assert put_in_order(study, FIRST) == [0, 2]
    assert put_in_order(opened(tmp_path / "j.log"), FIRST) == []
    again = [asked(study), asked(study)]
    assert [trial.params for trial in again] == [FIRST, third.params]
    assert [trial.user_attrs["slot"] for trial in again] == [0, 2]
    assert next_slot(study) == 3
    for trial in again:
        study.tell(trial, 2.0)
    assert [record.slot for record in records(study)] == [0, 1, 2]


def test_trial_that_died_before_it_had_values_is_no_slot(tmp_path: Path) -> None:
    study = opened(tmp_path / "j.log")
    study.ask()
    assert put_in_order(study, FIRST) == []
    assert records(study) == []
    assert asked(study).params == FIRST


def test_failed_trial_is_not_tried_again(tmp_path: Path) -> None:
    study = opened(tmp_path / "j.log")
    put_in_order(study, FIRST)
    trial = asked(study)
    trial.set_user_attr("reason", "NaN")
    # the driver died before it could tell
    assert put_in_order(opened(tmp_path / "j.log"), FIRST) == []
    (record,) = records(study)
    assert (record.slot, record.state, record.reason) == (0, "failed", "NaN")
    assert next_slot(study) == 1


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_torn_journal_is_mended(tmp_path: Path, cut: int) -> None:
    journal = tmp_path / "j.log"
    study = opened(journal)
    put_in_order(study, FIRST)
    study.tell(asked(study), 1.0)
    whole = journal.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    journal.write_bytes(whole[: last + cut])
    study = opened(journal)
    put_in_order(study, FIRST)
    study.tell(asked(study), 3.0)
    assert {record.slot for record in records(study)} >= {0}
    running = study.get_trials(states=(TrialState.RUNNING,))
    assert running == []


def test_lock_of_a_dead_driver_is_not_waited_for(tmp_path: Path) -> None:
    journal = tmp_path / "j.log"
    opened(journal)
    (tmp_path / "j.log.lock").symlink_to(journal)
    started = time.monotonic()
    study = opened(journal)
    study.tell(asked(study), 1.0)
    assert time.monotonic() - started < 10


def test_mending_leaves_a_whole_journal_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.log"
    mend_journal(path)
    assert not path.exists()
    path.write_bytes(b"one\ntwo\n")
    mend_journal(path)
    assert path.read_bytes() == b"one\ntwo\n"


def test_storage_that_cannot_be_opened_hides_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as caught:
        open_storage("nosuch://user:secret@host/db", tmp_path / "j.log")
    assert "nosuch://host/db: cannot be opened" in str(caught.value)
    assert "secret" not in str(caught.value).split("cannot be opened")[0]


def test_database_works_as_storage(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}", tmp_path / "j.log")
    study = open_study(storage, "s", pruner=PrunerConfig(), objectives=1, max_epochs=None)
    put_in_order(study, FIRST)
    study.tell(asked(study), 1.5)
    assert [record.value for record in records(study)] == [1.5]
    assert not (tmp_path / "j.log").exists()


def record(slot: int, *values: float) -> TrialRecord:
    return TrialRecord(slot, slot, "complete", values, {}, 1, 1.0, {})


def test_front_and_best() -> None:
    trials = [record(0, 2, 5), record(1, 1, 9), record(2, 3, 6), record(3, 2, 5), record(4, 4, 1)]
    assert [r.slot for r in front(trials)] == [1, 0, 3, 4]
    leader = best(trials)
    assert leader is not None
    assert leader.slot == 1
    assert best([]) is None
