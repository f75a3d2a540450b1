"""Files reach their run while the work goes on; what does not is told, and nothing is lost."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from object_store import BUCKET, ObjectStoreServer

from mlpop.datasets.packed_shards import pack_shard
from mlpop.datasets.shards import ShardRecord, SimulationRow, write_shard
from mlpop.errors import DataError, TrackingError
from mlpop.io.patience import Patience
from mlpop.tracking import Store, TrackedRun, artifacts, open_run, uploads, verify
from mlpop.tracking.artifacts import listed
from mlpop.tracking.outages import answers
from mlpop.tracking.uploads import Uploader

QUICK = Patience(deadline=0.6, first_wait=0.02, longest_wait=0.1)
PATIENT = Patience(deadline=20.0, first_wait=0.02, longest_wait=0.05)


@pytest.fixture
def run(store: Store) -> Iterator[TrackedRun]:
    with open_run("round", "round_00", store=store, experiment="uploads") as run:
        yield run


class Outage:
    """Stands in the way of requests: as many fail as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.only = 0, ""
        self.error: Exception = MlflowException("Max retries exceeded with url: /api")
        self.calls: list[str] = []
        send = uploads.send_once

        def perhaps(client: Any, run_id: str, path: Path, name: str) -> Any:
            self.calls.append(name)
            if self.left > 0 and name.startswith(self.only):
                self.left -= 1
                try:
                    raise self.error
                except Exception as error:
                    raise TrackingError(f"artifact {name}: {error}") from error
            return send(client, run_id, path, name)

        monkeypatch.setattr(uploads, "send_once", perhaps)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(monkeypatch)


def shard(folder: Path, number: int) -> ShardRecord:
    maps = {"a": np.arange(6.0).reshape(2, 3) + number}
    rows = [SimulationRow(index=number, seed=f"seed {number}", maps=maps)]
    return write_shard(folder, number, rows)


def file(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(name)
    return path


def test_shards_and_files_are_sent_and_enter_the_manifest(run: TrackedRun, tmp_path: Path) -> None:
    records = [shard(tmp_path, k) for k in range(3)]
    with Uploader(run) as sender:
        for record in records:
            sender.send_shard("training", tmp_path, record)
        sender.send(file(tmp_path, "theta.npy"), "training/theta.npy")
        sender.flush()
        assert sender.waiting == 0
    names = [f"training/shards/shard-0000{k}.zip" for k in range(3)]
    assert sorted(run.records) == [*names, "training/theta.npy"]
    assert sorted(listed(run.store.client, run.run_id, "training/shards")) == names
    packed = pack_shard(tmp_path / "shards" / "shard-00001", tmp_path / "shard-00001.zip")
    assert artifacts.file_record(packed) == run.records[names[1]]
    run.commit()
    assert verify(run.store.client, run.run_id) == []


def test_work_goes_on_while_files_are_sent(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    send = uploads.send_once

    def slow(*arguments: Any) -> Any:
        assert go.wait(10)
        return send(*arguments)

    monkeypatch.setattr(uploads, "send_once", slow)
    path = file(tmp_path, "a")
    with Uploader(run) as sender:
        started = time.monotonic()
        sender.send(path, "a")
        sender.send(path, "b")
        assert time.monotonic() - started < 0.5
        assert sender.waiting == 2
        go.set()
    assert sorted(run.records) == ["a", "b"]


def test_full_queue_holds_the_sender_up(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(uploads, "send_once", lambda *_: go.wait(10))
    path = file(tmp_path, "a")
    with Uploader(run, max_waiting=1) as sender:
        sender.send(path, "0")  # is being sent
        while sender._queue.qsize():
            time.sleep(0.01)
        sender.send(path, "1")  # waits
        threading.Timer(0.3, go.set).start()
        started = time.monotonic()
        sender.send(path, "2")
        assert time.monotonic() - started > 0.2


def test_store_that_comes_back_loses_nothing(
    run: TrackedRun, tmp_path: Path, outage: Outage
) -> None:
    outage.left = 4
    with Uploader(run, patience=PATIENT) as sender:
        for name in "abc":
            sender.send(file(tmp_path, name), name)
    assert sorted(run.records) == ["a", "b", "c"]
    assert outage.calls == ["a"] * 5 + ["b", "c"]


def test_store_that_stays_away_is_told_with_what_is_kept(
    run: TrackedRun, tmp_path: Path, outage: Outage
) -> None:
    outage.left = 10**6
    sender = Uploader(run, patience=QUICK)
    for name in "abcdef":
        sender.send(file(tmp_path, name), name)
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        sender.flush()
    # one deadline for all of them
    assert time.monotonic() - started < 2.0
    message = str(caught.value)
    assert "Max retries exceeded" in message
    assert "not sent: a, b, c and 3 more" in message
    assert "is kept on disk, and `--resume` goes on from it" in message
    assert run.records == {}
    assert outage.calls.count("b") <= 3
    outage.left = 0
    sender.flush()
    assert sorted(run.records) == list("abcdef")


def test_deadline_is_that_of_one_outage(run: TrackedRun, tmp_path: Path, outage: Outage) -> None:
    sender = Uploader(run, patience=QUICK)
    for outages in range(3):
        outage.left = 3  # 0.14 s of pauses
        sender.send(file(tmp_path, f"{outages}"), f"{outages}")
        sender.flush()
    assert sorted(run.records) == ["0", "1", "2"]
    outage.left = 10**6
    sender.send(file(tmp_path, "a"), "a")
    sender._queue.join()
    # the outage has had its time: nothing waits any more, until the store is back
    sender.send(file(tmp_path, "b"), "b")
    sender._queue.join()
    assert outage.calls.count("b") <= 2
    outage.left = 0
    sender.flush()
    outage.left = 3
    sender.send(file(tmp_path, "c"), "c")
    sender.flush()
    assert outage.calls.count("c") == 4


def test_store_that_does_not_answer_is_not_asked_for_every_file(
    run: TrackedRun, tmp_path: Path, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request to a server that is away may take minutes; a probe takes seconds."""
    monkeypatch.setattr(uploads, "answers", lambda *_: False)
    outage.left = 1
    sender = Uploader(run, patience=QUICK)
    for name in "abcdef":
        sender.send(file(tmp_path, name), name)
    with pytest.raises(TrackingError, match=r"does not answer; not sent: a, b, c and 3 more"):
        sender.flush()
    assert outage.calls == ["a"]
    monkeypatch.setattr(uploads, "answers", lambda *_: True)
    sender.flush()
    assert sorted(run.records) == list("abcdef")


def test_probe_tells_away_from_refused(
    object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite, closed = "sqlite:////tmp/x.db", "http://127.0.0.1:9"
    s3 = f"s3://{BUCKET}/run/artifacts"
    assert answers(sqlite, "/local/artifacts")
    assert answers(sqlite, s3)
    assert answers(sqlite, "s3://no-such-bucket/run"), "a refusal is an answer"
    assert answers(object_store.endpoint, s3), "so is a page that is not there"
    assert not answers(closed, "mlflow-artifacts:/1/x")
    monkeypatch.setattr("mlpop.tracking.outages.PROBE_SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", closed)
    assert not answers(sqlite, s3)


def test_refusal_is_not_tried_again_and_the_rest_is_sent(
    run: TrackedRun, tmp_path: Path, outage: Outage
) -> None:
    outage.left, outage.only = 10**6, "a"
    outage.error = MlflowException("no", error_code=PERMISSION_DENIED)
    sender = Uploader(run, patience=PATIENT)
    sender.send(file(tmp_path, "a"), "a")
    sender.send(file(tmp_path, "b"), "b")
    with pytest.raises(TrackingError, match="artifact a: no; not sent: a; "):
        sender.flush()
    # once in the background, once when everything had to be there
    assert sorted(outage.calls) == ["a", "a", "b"]
    assert list(run.records) == ["b"]


def test_damaged_shard_and_missing_file_are_told(run: TrackedRun, tmp_path: Path) -> None:
    record = shard(tmp_path, 0)
    (tmp_path / "shards" / record.name / "a.npy").write_bytes(b"damaged")
    sender = Uploader(run, patience=PATIENT)
    sender.send_shard("training", tmp_path, record)
    with pytest.raises(TrackingError, match=r"a\.npy: 7 bytes where") as caught:
        sender.flush()
    assert isinstance(caught.value.__cause__, DataError)
    sender = Uploader(run, patience=PATIENT)
    sender.send(tmp_path / "gone", "gone")
    with pytest.raises(TrackingError, match="gone"):
        sender.flush()
    assert run.records == {}


def test_what_the_run_has_already_is_not_sent_again(
    run: TrackedRun, tmp_path: Path, outage: Outage
) -> None:
    record = shard(tmp_path, 0)
    for _ in range(2):
        with Uploader(run) as sender:
            sender.send_shard("training", tmp_path, record)
    assert outage.calls == ["training/shards/shard-00000.zip"]
    path = file(tmp_path, "a")
    with Uploader(run) as sender:
        sender.send(path, "a")
        sender.flush()
        path.write_text("changed")
        sender.send(path, "a")
    assert outage.calls[1:] == ["a", "a"]


def test_error_in_the_block_is_not_hidden_nor_held_up(
    run: TrackedRun,
    tmp_path: Path,
    outage: Outage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(uploads, "LEAVING_SECONDS", 0.3)

    def fail(name: str) -> None:
        with Uploader(run, patience=PATIENT) as sender:
            sender.send(file(tmp_path, name), name)
            raise ZeroDivisionError

    outage.left = 10**6
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        fail("a")
    assert time.monotonic() - started < 2.0
    assert "1 files could not be sent before its end" in caplog.text
    outage.left = 0
    with pytest.raises(ZeroDivisionError):
        fail("b")
    assert list(run.records) == ["b"], "what can be sent in time is sent"


def test_thread_ends_with_the_block(run: TrackedRun, tmp_path: Path) -> None:
    with Uploader(run) as sender:
        sender.send(file(tmp_path, "a"), "a")
    thread = sender._thread
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
