import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlpop.errors import DataError, TrackingError
from mlpop.tracking import Store, note_attempt, open_run, tell_given_run, tree
from mlpop.tracking.owner import HEARTBEAT_TAG, OWNER_TAG, Owner
from mlpop.tracking.runs import status_of


def running(store: Store, experiment_id: str) -> list[str]:
    runs = store.client.search_runs([experiment_id], "attributes.status = 'RUNNING'")
    return [run.info.run_id for run in runs]


def test_success_ends_finished_with_its_place_in_the_tree(store: Store) -> None:
    with (
        open_run("experiment", "sky", params={"trainer.num_rounds": 2}, store=store) as root,
        open_run("round", "round_00", root.run_id, {"round": 0}, store=store) as first,
        open_run("member", "member_00", first.run_id, {"member": 0}, store=store) as member,
    ):
        assert store.client.get_run(member.run_id).info.status == "RUNNING"
    top, middle, leaf = (store.client.get_run(run.run_id) for run in (root, first, member))
    assert {run.info.status for run in (top, middle, leaf)} == {"FINISHED"}
    assert {run.info.experiment_id for run in (top, middle, leaf)} == {root.experiment_id}
    assert store.client.get_experiment(root.experiment_id).name == "sky"
    assert {run.data.tags["mlpop.root"] for run in (top, middle, leaf)} == {root.run_id}
    assert leaf.data.tags["mlflow.parentRunId"] == first.run_id
    assert leaf.data.tags["mlpop.member"] == "0"
    assert middle.data.tags["mlpop.round"] == "0"
    assert top.data.params == {"cfg.trainer.num_rounds": "2"}
    assert leaf.data.tags["mlflow.user"] == top.data.tags["mlflow.user"]
    assert Owner.from_tag(leaf.data.tags[OWNER_TAG]) == Owner.current()
    assert abs(float(leaf.data.tags[HEARTBEAT_TAG]) - time.time()) < 60


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("too hot"), "FAILED", "ValueError: too hot"),
        (DataError("a.csv: row 3: NaN"), "FAILED", "a.csv: row 3: NaN"),
        (KeyboardInterrupt(), "KILLED", "stopped by SIGINT"),
        (SystemExit(143), "KILLED", "stopped by SIGTERM"),
        (SystemExit(129), "KILLED", "stopped by SIGHUP"),
        (SystemExit(130), "KILLED", "ended with exit code 130"),
        (SystemExit(3), "FAILED", "ended with exit code 3"),
        (SystemExit(0), "FINISHED", None),
        (SystemExit(), "FINISHED", None),
    ],
)
def test_status_says_how_the_block_ended(
    store: Store, error: BaseException, status: str, message: str | None
) -> None:
    with (
        pytest.raises(type(error)) as caught,
        open_run("experiment", "ends", store=store) as root,
        open_run("round", "round_00", root.run_id, store=store) as child,
    ):
        raise error
    assert caught.value is error
    assert status_of(error) == status
    for run in (root, child):
        found = store.client.get_run(run.run_id)
        assert found.info.status == status
        assert found.info.end_time is not None
        assert found.data.tags.get("mlpop.error") == message
    assert not running(store, root.experiment_id)


def test_traceback_is_kept_for_what_is_not_foreseen(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), open_run("experiment", "ends", store=store) as run:
        _ = 1 / 0
    with pytest.raises(DataError), open_run("experiment", "ends", store=store) as foreseen:
        raise DataError("bad row")
    names = [item.path for item in store.client.list_artifacts(run.run_id)]
    assert names == ["traceback.txt"]
    assert store.client.list_artifacts(foreseen.run_id) == []


def test_children_left_open_end_with_their_parent_and_stay_so(store: Store) -> None:
    stack = ExitStack()
    with open_run("experiment", "ends", store=store) as root:
        child = stack.enter_context(open_run("round", "round_00", root.run_id, store=store))
        leaf = stack.enter_context(open_run("member", "m", child.run_id, store=store))
    stack.close()
    assert store.client.get_run(root.run_id).info.status == "FINISHED"
    for run in (child, leaf):
        found = store.client.get_run(run.run_id)
        assert found.info.status == "FAILED"
        assert "left open" in found.data.tags["mlpop.error"]


def test_members_can_be_open_at_the_same_time(store: Store) -> None:
    with open_run("experiment", "many", store=store) as root, ExitStack() as stack:
        members = [
            stack.enter_context(open_run("member", f"member_{j:02d}", root.run_id, store=store))
            for j in range(3)
        ]
        for j, member in enumerate(members):
            member.log_metrics({"val/loss": j}, step=1)
    values = [store.client.get_run(m.run_id).data.metrics["val/loss"] for m in members]
    assert values == [0.0, 1.0, 2.0]


def test_params_of_mlflow_run_and_of_a_resumed_run_never_conflict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow run` logs its own parameters, quoted, before the child starts."""
    experiment = store.experiment_id("projects")
    given = store.client.create_run(experiment, run_name="brawny-shark-12").info.run_id
    store.client.log_param(given, "configuration", "'my file.json'")
    store.client.log_param(given, "lr", "'0.001'")
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    values = {"configuration": "my file.json", "lr": 0.001, "testing": True, "low": [1, 2.5]}
    with open_run("experiment", "sky", params=values, store=store) as run:
        assert run.run_id == given
        assert "MLFLOW_RUN_ID" not in os.environ
        run.log_params(values)
    found = store.client.get_run(given)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "sky"
    assert found.data.params == {
        "configuration": "'my file.json'",
        "lr": "'0.001'",
        "cfg.configuration": "my file.json",
        "cfg.lr": "0.001",
        "cfg.testing": "true",
        "cfg.low": "[1,2.5]",
    }
    with open_run("experiment", "sky", params={"lr": 0.01}, run_id=given, store=store):
        pass
    again = store.client.get_run(given)
    assert again.data.params["cfg.lr"] == "0.001"
    assert again.data.tags["mlpop.now.lr"] == "0.01"
    assert again.data.tags["mlpop.attempt"] == "2"
    assert again.info.status == "FINISHED"


def test_run_name_chosen_by_the_user_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = store.experiment_id("projects")
    given = store.client.create_run(experiment, run_name="My try").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with open_run("experiment", "sky", store=store) as run:
        assert run.experiment_id == experiment
    found = store.client.get_run(given)
    assert found.info.run_name == "My try"
    assert found.data.tags["mlpop.name"] == "sky"


def test_only_the_first_run_at_the_top_takes_over_the_given_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = store.client.create_run(store.experiment_id("projects")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with (
        open_run("experiment", "sky", store=store) as root,
        open_run("dynamics", "stars", root.run_id, store=store) as child,
    ):
        assert root.run_id == given != child.run_id


def test_given_run_of_another_store_is_explained(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with (
        pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI must be absolute"),
        open_run("experiment", "sky", store=store),
    ):
        pass


def given_run(store: Store, state: str) -> str:
    """Make a run that is not one that `mlflow run` has just made."""
    client = store.client
    if state.startswith("mlpop"):
        with open_run("experiment", "first", store=store) as first:
            first.log_params({"lr": 0.005})
        run_id = first.run_id
        if state == "mlpop, running":
            client.update_run(run_id, status="RUNNING")
        return run_id
    run_id = str(client.create_run(store.experiment_id("others")).info.run_id)
    if state == "metrics":
        client.log_metric(run_id, "loss", 1.0)
    elif state == "deleted":
        client.delete_run(run_id)
    else:
        client.set_terminated(run_id, state)
    return run_id


STALE = ("mlpop", "mlpop, running", "FINISHED", "FAILED", "KILLED", "metrics", "deleted")


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_run_id_is_none(store: Store, monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", blank)
    tell_given_run("a typing error")
    monkeypatch.setenv("MLFLOW_RUN_ID", blank)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", blank)
    with open_run("experiment", "blank", store=store) as run:
        pass
    assert store.client.get_experiment(run.experiment_id).name == "blank"


def test_spaces_around_a_run_id_are_none_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = str(store.client.create_run(store.experiment_id("given")).info.run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", f" {given} ")
    with open_run("experiment", "padded", store=store) as run:
        assert run.run_id == given


@pytest.mark.parametrize(
    ("name", "value", "do"),
    [
        ("MLFLOW_RUN_ID", "0" * 32, "unset it"),
        ("MLFLOW_RUN_ID", "x" * 5000, "unset it"),
        ("MLFLOW_EXPERIMENT_ID", "999", "unset it"),
        ("MLFLOW_EXPERIMENT_ID", "abc", "unset it"),
        ("MLFLOW_EXPERIMENT_ID", "deleted", "restore or unset it"),
    ],
)
def test_a_stale_variable_of_mlflow_is_named_with_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, value: str, do: str
) -> None:
    if value == "deleted":
        value = store.experiment_id("deleted meanwhile")
        store.client.delete_experiment(value)
    monkeypatch.setenv(name, value)
    with (
        pytest.raises(TrackingError, match=f"^{name}.*{do}|: {name}.*{do}") as caught,
        open_run("experiment", "new", store=store),
    ):
        pass
    assert len(str(caught.value)) < 1000


def test_a_deleted_run_says_how_to_restore_it(store: Store) -> None:
    with open_run("experiment", "restorable", store=store) as run:
        pass
    store.client.delete_run(run.run_id)
    with (
        pytest.raises(TrackingError, match=f"mlflow runs restore --run-id {run.run_id}"),
        open_run("experiment", "restorable", store=store, run_id=run.run_id),
    ):
        pass


@pytest.mark.parametrize("state", STALE)
def test_run_that_has_a_state_is_never_written_into(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    given = given_run(store, state)
    before = store.client.get_run(given).to_dictionary()
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    tell_given_run("a typing error")
    assert store.client.get_run(given).to_dictionary() == before
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with open_run("experiment", "second", params={"lr": 0.01}, store=store) as run:
        assert run.run_id != given
        assert "MLFLOW_RUN_ID" not in os.environ
    assert store.client.get_run(given).to_dictionary() == before
    assert f"names run {given}, which is left as it is" in caplog.text
    place = store.client.get_run(run.run_id).info.experiment_id
    assert store.client.get_experiment(place).name == "second"
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    note_attempt(store, tree(store, run.run_id))
    assert store.client.get_run(given).to_dictionary() == before
    assert "MLFLOW_RUN_ID" not in os.environ


@pytest.mark.parametrize("error", [ValueError("too hot"), DataError("row 3"), SystemExit(129)])
def test_a_run_ends_truly_while_its_artifacts_are_away(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """How it ended is for the tracking store alone: S3 may be away while that is there."""
    monkeypatch.setattr("mlpop.tracking.run.answers", lambda _uri, artifacts: not artifacts)

    def away(*_: object, **__: object) -> None:
        raise AssertionError("the object store was asked")

    monkeypatch.setattr("mlpop.tracking.artifacts.send", away)
    with pytest.raises(type(error)), open_run("experiment", "away", store=store) as run:
        raise error
    found = store.client.get_run(run.run_id)
    assert found.info.status == status_of(error) != "RUNNING"
    assert found.data.tags["mlpop.error"]


@pytest.mark.parametrize("attempt", ["", "two", "-1", "9" * 5000])
def test_number_of_attempts_that_is_none(store: Store, attempt: str) -> None:
    with open_run("experiment", "attempts", store=store) as run:
        pass
    store.client.set_tag(run.run_id, "mlpop.attempt", attempt[:4000])
    with open_run("experiment", "attempts", run_id=run.run_id, store=store):
        pass
    assert store.client.get_run(run.run_id).data.tags["mlpop.attempt"] == "2"


def test_run_of_a_living_process_is_not_taken_over(store: Store) -> None:
    code = (
        "import sys, time; from mlpop.tracking import open_run\n"
        "with open_run('experiment', 'busy') as run:\n"
        "    print(run.run_id, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        run_id = other.stdout.readline().strip()
        with (
            pytest.raises(TrackingError, match=f"worked on by process {other.pid}"),
            open_run("experiment", "busy", run_id=run_id, store=store),
        ):
            pass
        other.kill()
        other.wait()
        assert store.client.get_run(run_id).info.status == "RUNNING"
        with open_run("experiment", "busy", run_id=run_id, store=store) as run:
            assert run.run_id == run_id
    assert store.client.get_run(run_id).info.status == "FINISHED"


STOPPED = """
import logging, sys, time
from mlpop.tracking import graceful_signals, open_run
with graceful_signals(), open_run("experiment", "stopped") as root:
    with open_run("round", "round_00", root.run_id) as child:
        child.curves.append("train/loss", 0.5, 1)
        print(root.run_id, child.run_id, flush=True)
        while True:
            time.sleep(0.05)
"""


def test_signal_ends_runs_killed_within_seconds(
    store: Store, child_environment: dict[str, str]
) -> None:
    processes = {
        number: subprocess.Popen(
            [sys.executable, "-c", STOPPED],
            env=child_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    # Python itself dies of SIGINT where nothing catches KeyboardInterrupt: -2 is a shell's 130
    codes = {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT}
    for number, process in processes.items():
        assert process.stdout is not None
        ids = process.stdout.readline().split()
        start = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=30) == codes[number]
        process.stdout.close()
        assert time.monotonic() - start < 10
        assert len(ids) == 2
        for run_id in ids:
            found = store.client.get_run(run_id)
            assert found.info.status == "KILLED"
            assert found.data.tags["mlpop.error"] == f"stopped by {number.name}"
        assert store.client.get_run(ids[1]).data.metrics == {"train/loss": 0.5}


def test_metrics_are_rounded_to_six_digits(store: Store) -> None:
    """But for those in units of a label, which are rounded to their interval by who makes them."""
    with open_run("experiment", "numbers", store=store) as run:
        run.log_metrics({"coverage/ece": 0.6399999999999999, "posterior/t/median": 60000.00723})
    metrics = store.client.get_run(run.run_id).data.metrics
    assert metrics == {"coverage/ece": 0.64, "posterior/t/median": 60000.00723}


def test_commit_marks_complete_and_lists_what_was_sent(store: Store, tmp_path: Path) -> None:
    sample = tmp_path / "samples.npy"
    sample.write_bytes(b"123")
    with open_run("round", "round_00", store=store, experiment="numbers") as run:
        run.send_json("summary.json", {"a": 1})
        manifest = run.commit({"posterior/samples.npy": sample})
    assert set(manifest["artifacts"]) == {"summary.json", "posterior/samples.npy"}
    assert store.client.get_run(run.run_id).data.tags["mlpop.state"] == "complete"
