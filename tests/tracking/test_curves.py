import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlpop.tracking import CurveBuffer, Store, open_run, replay
from mlpop.tracking.curves import BATCH, read_spill


class Flaky:
    """A client in front of a real one that fails as asked, before or after the store acted."""

    def __init__(self, store: Store) -> None:
        self._client = store.client
        self.away = False
        self.lose_answer = False
        self.sizes: list[int] = []

    def log_batch(self, run_id: str, metrics: Sequence) -> None:
        if self.away:
            raise ConnectionError("server away")
        self.sizes.append(len(metrics))
        self._client.log_batch(run_id, metrics=metrics)
        if self.lose_answer:
            raise TimeoutError("the answer was lost")

    def get_metric_history(self, run_id: str, key: str) -> Sequence:
        return self._client.get_metric_history(run_id, key)


@pytest.fixture
def run_id(store: Store) -> str:
    return store.client.create_run(store.experiment_id("curves")).info.run_id


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    return tmp_path / "spill" / "run.jsonl"


def history(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    points = store.client.get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


def test_curve_appears_while_the_training_runs(store: Store, run_id: str, spill: Path) -> None:
    buffer = CurveBuffer(store.client, run_id, spill, interval=0.05)
    buffer.append("train/loss", 1.5, 1)
    deadline = time.monotonic() + 10
    while not history(store, run_id, "train/loss") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert history(store, run_id, "train/loss") == [(1, 1.5)]
    assert buffer.close()


def test_outage_loses_no_epoch_and_doubles_none(store: Store, run_id: str, spill: Path) -> None:
    client = Flaky(store)
    buffer = CurveBuffer(client, run_id, spill, interval=1000)
    for epoch in range(1, 301):
        buffer.extend({"train/loss": 1 / epoch, "val/loss": 2 / epoch}, epoch)
        client.away = 60 <= epoch < 120
        client.lose_answer = 180 <= epoch < 240
        if epoch % 20 == 0:
            done = buffer.flush()
            assert done == (not client.away and not client.lose_answer)
            assert spill.exists() == (not done)
    assert buffer.close()
    assert history(store, run_id, "train/loss") == [(e, 1 / e) for e in range(1, 301)]
    assert history(store, run_id, "val/loss") == [(e, 2 / e) for e in range(1, 301)]
    assert not spill.exists()


def test_points_of_a_dead_process_are_sent_later_with_their_times(
    store: Store, run_id: str, spill: Path
) -> None:
    client = Flaky(store)
    client.away = True
    dead = CurveBuffer(client, run_id, spill, interval=1000)
    for epoch in range(1, 11):
        dead.append("train/loss", epoch, epoch)
    assert not dead.flush()
    times = [point.timestamp for point in read_spill(spill)]
    with spill.open("a") as file:
        file.write('["train/loss", 11.0, 17')
    client.away = False

    later = CurveBuffer(client, run_id, spill, interval=1000)
    assert later.pending == 10
    for epoch in range(11, 16):
        later.append("train/loss", epoch, epoch)
    assert later.close()
    assert history(store, run_id, "train/loss") == [(e, float(e)) for e in range(1, 16)]
    points = store.client.get_metric_history(run_id, "train/loss")
    assert sorted(p.timestamp for p in points if p.step <= 10) == times


def test_line_cut_off_by_a_kill_does_not_spoil_the_next(
    store: Store, run_id: str, spill: Path
) -> None:
    client = Flaky(store)
    client.away = True
    spill.parent.mkdir()
    spill.write_text('["a", 1.0, 5, 1]\n["a", 2.0, 6')
    buffer = CurveBuffer(client, run_id, spill, interval=1000)
    buffer.append("a", 3.0, 3)
    assert not buffer.close()
    assert [(p.step, p.value) for p in read_spill(spill)] == [(1, 1.0), (3, 3.0)]
    client.away = False
    assert replay(client, spill.parent, [spill.stem]) == [spill.stem]  # no run of that name
    assert CurveBuffer(client, run_id, spill).flush()
    assert history(store, run_id, "a") == [(1, 1.0), (3, 3.0)]


def test_resumed_training_does_not_double_its_epochs(
    store: Store, run_id: str, spill: Path
) -> None:
    first = CurveBuffer(store.client, run_id, spill, interval=1000)
    for epoch in range(1, 8):
        first.append("train/loss", epoch, epoch)
    assert first.close()
    time.sleep(0.01)
    resumed = CurveBuffer(store.client, run_id, spill, interval=1000, continued=True)
    for epoch in range(5, 11):
        resumed.append("train/loss", epoch, epoch)
        resumed.flush()
    assert resumed.close()
    assert history(store, run_id, "train/loss") == [(e, float(e)) for e in range(1, 11)]


def test_batches_stay_below_the_limit_of_mlflow(store: Store, run_id: str, spill: Path) -> None:
    client = Flaky(store)
    buffer = CurveBuffer(client, run_id, spill, interval=1000)
    for step in range(2 * BATCH + 7):
        buffer.append("a", step, step)
    assert buffer.close()
    assert client.sizes == [BATCH, BATCH, 7]
    assert len(history(store, run_id, "a")) == 2 * BATCH + 7


def test_values_and_names_that_mlflow_cannot_keep(store: Store, run_id: str, spill: Path) -> None:
    buffer = CurveBuffer(store.client, run_id, spill, interval=1000)
    values = {"loss[val]": 1.0, "nan": math.nan, "inf": math.inf, "minus": -math.inf, "P_μ": 2.0}
    buffer.extend(values, 1)
    assert buffer.close()
    metrics = store.client.get_run(run_id).data.metrics
    assert metrics["loss_val_"] == 1.0
    assert metrics["P__"] == 2.0
    assert all(math.isnan(metrics[key]) for key in ("nan", "inf", "minus"))


def test_close_does_not_wait_for_a_store_that_hangs(
    store: Store, run_id: str, spill: Path
) -> None:
    release = threading.Event()

    class Hanging(Flaky):
        def log_batch(self, run_id: str, metrics: Sequence) -> None:
            release.wait(30)
            super().log_batch(run_id, metrics)

    buffer = CurveBuffer(Hanging(store), run_id, spill, interval=1000)
    buffer.append("a", 1.0, 1)
    start = time.monotonic()
    assert not buffer.close(timeout=0.2)
    assert time.monotonic() - start < 5
    assert [point.step for point in read_spill(spill)] == [1]
    release.set()


def test_unwritable_spill_does_not_raise_into_the_training(
    store: Store, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    client = Flaky(store)
    client.away = True
    buffer = CurveBuffer(client, run_id, blocked / "run.jsonl", interval=1000)
    buffer.append("a", 1.0, 1)
    assert not buffer.flush()
    assert "cannot be kept on disk" in caplog.text
    client.away = False
    assert buffer.close()
    assert history(store, run_id, "a") == [(1, 1.0)]


def test_full_disk_is_a_sentence_and_nothing_is_said_to_be_kept_that_is_not(
    store: Store,
    run_id: str,
    spill: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full:
        def log_batch(self, run_id: str, metrics: Sequence) -> None:
            raise OSError(
                "(raised as a result of Query-invoked autoflush; consider ...)\n"
                "(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO metrics]"
            )

        get_metric_history = store.client.get_metric_history

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    buffer = CurveBuffer(Full(), run_id, spill, interval=1000)
    buffer.append("a", 1.0, 1)
    assert not buffer.close()
    first, *_, last = caplog.messages
    assert (
        first
        == f"curves of run {run_id} wait: (sqlite3.OperationalError) database or disk is full"
    )
    assert last.endswith(f"1 of them could not be kept in {spill} either")


def test_an_epoch_costs_the_training_microseconds(store: Store, spill: Path) -> None:
    with open_run("member", "fast", store=store, experiment="curves") as run:
        start = time.perf_counter()
        for epoch in range(2000):
            run.curves.extend({"train/loss": 1.0, "val/loss": 1.0}, epoch)
        per_epoch = (time.perf_counter() - start) / 2000
    assert per_epoch < 1e-3
    assert len(history(store, run.run_id, "val/loss")) == 2000
