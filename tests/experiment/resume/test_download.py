"""What a run keeps is put back anywhere: in full, checked, and nowhere else (S24, S25)."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import FileInfo
from object_store import BUCKET, Gateway, ObjectStoreServer

from mlpop.datasets.shards import (
    ShardRecord,
    SimulationRow,
    finished_shards,
    read_shard,
    write_shard,
)
from mlpop.errors import DataError, TrackingError
from mlpop.experiment.resume.download import restore_files, restore_shards
from mlpop.tracking import Store, TrackedRun, connect, open_run, verify
from mlpop.tracking.artifacts import MANIFEST, fetched, file_record, listed
from mlpop.tracking.uploads import Uploader


@pytest.fixture
def store(at_work: Path) -> Store:
    return connect()


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, store: Store) -> Iterator[TrackedRun]:
    """A run whose artifacts are on disk, and one whose artifacts are at s3://."""
    name = f"restore-{uuid.uuid4().hex}"
    if request.param == "s3":
        request.getfixturevalue("object_store")
        store.client.create_experiment(name, artifact_location=f"s3://{BUCKET}/{name}")
    with open_run("round", "round_00", store=store, experiment=name) as run:
        yield run


@pytest.fixture
def dataset(tmp_path: Path) -> dict[int, ShardRecord]:
    records = {}
    for number in range(5):
        maps = {"a": np.arange(6.0).reshape(2, 3) + number}
        rows = [SimulationRow(index=number, seed=f"seed {number}", maps=maps)]
        records[number] = write_shard(tmp_path / "made", number, rows)
    return records


def send(run: TrackedRun, folder: Path, records: dict[int, ShardRecord]) -> None:
    with Uploader(run) as sender:
        for record in records.values():
            sender.send_shard("training", folder, record)


def replace_artifact(run: TrackedRun, name: str, content: bytes, scratch: Path) -> None:
    """Change an artifact behind the back of the records."""
    path = scratch / Path(name).name
    path.write_bytes(content)
    folder = str(Path(name).parent)
    run.store.client.log_artifact(run.run_id, str(path), None if folder == "." else folder)
    path.unlink()


def test_shards_come_back_into_an_empty_folder(
    run: TrackedRun, dataset: dict[int, ShardRecord], tmp_path: Path
) -> None:
    send(run, tmp_path / "made", dataset)
    records = restore_shards(run.store, run.run_id, "training", tmp_path / "back")
    assert finished_shards(tmp_path / "back") == dataset
    assert records == run.records
    assert sorted(p.name for p in (tmp_path / "back" / "shards").iterdir()) == [
        f"shard-0000{k}" for k in range(5)
    ]
    assert restore_shards(run.store, run.run_id, "test", tmp_path / "back") == {}


def test_only_what_is_missing_or_damaged_is_fetched(
    run: TrackedRun, dataset: dict[int, ShardRecord], tmp_path: Path
) -> None:
    send(run, tmp_path / "made", dataset)
    restore_shards(run.store, run.run_id, "training", tmp_path / "back")
    shards = tmp_path / "back" / "shards"
    (shards / "shard-00003" / "a.npy").write_bytes(b"damaged")
    for path in sorted((shards / "shard-00001").iterdir()):
        path.unlink()
    kept = (shards / "shard-00002" / "shard.json").stat().st_ino
    records = restore_shards(run.store, run.run_id, "training", tmp_path / "back")
    assert sorted(records) == [f"training/shards/shard-0000{k}.zip" for k in (1, 3)]
    assert finished_shards(tmp_path / "back") == dataset
    assert (shards / "shard-00002" / "shard.json").stat().st_ino == kept


def test_damaged_artifact_is_left_out_with_a_warning(
    run: TrackedRun,
    dataset: dict[int, ShardRecord],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send(run, tmp_path / "made", dataset)
    replace_artifact(run, "training/shards/shard-00002.zip", b"PK damaged", tmp_path)
    with caplog.at_level(logging.WARNING):
        restore_shards(run.store, run.run_id, "training", tmp_path / "back")
    assert finished_shards(tmp_path / "back").keys() == {0, 1, 3, 4}
    assert "training/shards/shard-00002.zip" in caplog.text


def test_shard_that_is_whole_but_not_the_manifests_is_left_out(
    run: TrackedRun, dataset: dict[int, ShardRecord], tmp_path: Path
) -> None:
    """Somebody put another shard, good in itself, in its place."""
    send(run, tmp_path / "made", dataset)
    run.commit()
    rows = [SimulationRow(index=2, seed="seed 2", maps={"a": np.zeros((2, 3))})]
    other = write_shard(tmp_path / "other", 2, rows)
    from mlpop.datasets.packed_shards import pack_shard

    forged = pack_shard(tmp_path / "other" / "shards" / other.name, tmp_path / "forged.zip")
    replace_artifact(run, "training/shards/shard-00002.zip", forged.read_bytes(), tmp_path)
    restore_shards(run.store, run.run_id, "training", tmp_path / "back")
    assert finished_shards(tmp_path / "back").keys() == {0, 1, 3, 4}
    # under another number it is refused too
    replace_artifact(run, "training/shards/shard-00003.zip", forged.read_bytes(), tmp_path)
    restore_shards(run.store, run.run_id, "training", tmp_path / "again")
    assert finished_shards(tmp_path / "again").keys() == {0, 1, 4}


def test_shards_of_another_content_here_are_not_replaced(
    run: TrackedRun, dataset: dict[int, ShardRecord], tmp_path: Path
) -> None:
    send(run, tmp_path / "made", dataset)
    rows = [SimulationRow(index=2, seed="seed 2", maps={"a": np.zeros((2, 3))})]
    here = write_shard(tmp_path / "back", 2, rows)
    records = restore_shards(run.store, run.run_id, "training", tmp_path / "back")
    assert len(records) == 4
    assert read_shard(tmp_path / "back" / "shards" / "shard-00002") == here


@pytest.mark.parametrize(
    "name",
    [
        "training/shards/../../../../evil/shard-00000.zip",
        "/tmp/evil/shard-00000.zip",
        "training/elsewhere/shard-00000.zip",
        "training/shards/../shard-00000.zip",
    ],
)
def test_hostile_listing_of_shards_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with open_run("round", "round_00", store=store, experiment="hostile") as run:
        listing = [FileInfo(name, is_dir=False, file_size=10)]
        monkeypatch.setattr(store.client, "list_artifacts", lambda *_: listing)
        with pytest.raises(TrackingError, match="leave the folder|which is not in"):
            restore_shards(store, run.run_id, "training", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not Path("/tmp/evil").exists()


def test_listing_that_calls_a_file_a_folder_writes_nothing_elsewhere(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own download follows the listing; ours writes to one given file."""
    path = tmp_path / "a.txt"
    path.write_text("content")
    run.send(path, "deep/a.txt")

    def listing(run_id: str, folder: str | None = None) -> list[FileInfo]:
        if folder == "deep/a.txt":
            return [FileInfo("../../evil.txt", is_dir=False, file_size=7)]
        return [FileInfo("deep/a.txt", is_dir=True, file_size=0)]

    monkeypatch.setattr(run.store.client, "list_artifacts", listing)
    restored = restore_files(run.store, run.run_id, ["deep/a.txt"], tmp_path / "x" / "back")
    assert restored["deep/a.txt"].read_text() == "content"
    assert not list(tmp_path.rglob("evil.txt"))


def test_files_come_back_and_are_compared_with_the_manifest(
    run: TrackedRun, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    files = {}
    for name in ("theta.npy", "member_00/estimator.json", "config.json"):
        path = made / Path(name).name
        path.write_text(f"content of {name}")
        files[name] = path
    run.commit(files)
    back = tmp_path / "back"
    restored = restore_files(run.store, run.run_id, list(files), back)
    assert {name: path.read_text() for name, path in restored.items()} == {
        name: f"content of {name}" for name in files
    }
    assert restored["member_00/estimator.json"] == back / "member_00" / "estimator.json"
    # what is altered here is put right, what is right stays
    restored["theta.npy"].write_text("altered here")
    kept = restored["config.json"].stat().st_ino
    restore_files(run.store, run.run_id, list(files), back)
    assert restored["theta.npy"].read_text() == "content of theta.npy"
    assert restored["config.json"].stat().st_ino == kept
    # other places, by name
    moved = restore_files(run.store, run.run_id, {"theta.npy": "deep/drawn.npy"}, back)
    assert moved["theta.npy"] == back / "deep" / "drawn.npy"
    # what is altered in the store is refused, and the file here stays
    replace_artifact(run, "theta.npy", b"altered there", tmp_path)
    assert verify(run.store.client, run.run_id) != []
    restored["theta.npy"].unlink()
    with pytest.raises(TrackingError, match=r"theta\.npy of run .*it was changed in the store"):
        restore_files(run.store, run.run_id, list(files), back)
    assert not restored["theta.npy"].exists()
    assert [path for path in back.rglob(".*")] == []


def test_missing_artifact_is_told(run: TrackedRun, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"artifact gone\.npy of run"):
        restore_files(run.store, run.run_id, ["gone.npy"], tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "", "a\\..\\evil", "a//b"])
def test_names_and_targets_that_leave_the_folder_are_refused(
    store: Store, tmp_path: Path, name: str
) -> None:
    with open_run("round", "round_00", store=store, experiment="hostile") as run:
        for names in ([name], {"theta.npy": name}):
            with pytest.raises(TrackingError, match="would leave the folder"):
                restore_files(store, run.run_id, names, tmp_path / "back")
        with (
            pytest.raises(TrackingError, match="would leave the folder"),
            fetched(store.client, run.run_id, name),
        ):
            pass


def test_link_that_leads_out_is_not_followed(run: TrackedRun, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("content")
    run.send(path, "deep/a")
    back = tmp_path / "back"
    back.mkdir()
    (tmp_path / "outside").mkdir()
    (back / "deep").symlink_to(tmp_path / "outside")
    with pytest.raises(TrackingError, match="a link leads out"):
        restore_files(run.store, run.run_id, ["deep/a"], back)
    assert list((tmp_path / "outside").iterdir()) == []


def test_place_that_cannot_be_written_is_told(
    run: TrackedRun, dataset: dict[int, ShardRecord], tmp_path: Path
) -> None:
    send(run, tmp_path / "made", dataset)
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(DataError, match="cannot be written"):
        restore_shards(run.store, run.run_id, "training", blocked / "back")
    with pytest.raises(DataError, match="cannot be written"):
        restore_files(run.store, run.run_id, ["training/shards/shard-00000.zip"], blocked / "back")


def test_run_at_s3_is_committed_and_verified(
    store: Store, object_store: ObjectStoreServer, tmp_path: Path
) -> None:
    """S25: artifacts through MLflow at s3://, with a file of several parts."""
    name = f"s3-{uuid.uuid4().hex}"
    store.client.create_experiment(name, artifact_location=f"s3://{BUCKET}/{name}")
    large = tmp_path / "large.bin"
    large.write_bytes(np.random.default_rng(1).bytes(18 * 2**20))
    small = tmp_path / "drawn"
    small.write_text("small")
    with open_run("round", "round_00", store=store, experiment=name) as run:
        manifest = run.commit({"state/large.bin": large, "theta.npy": small})
    client = store.client
    assert manifest["artifacts"]["state/large.bin"]["sha256"] == file_record(large).sha256
    assert verify(client, run.run_id) == []
    assert listed(client, run.run_id).keys() == {"theta.npy", MANIFEST}
    assert listed(client, run.run_id, "state") == {"state/large.bin": 18 * 2**20}
    with fetched(client, run.run_id, "state/large.bin") as path:
        assert file_record(path) == file_record(large)
    replace_artifact(run, "theta.npy", b"smaLl", tmp_path)
    (line,) = verify(client, run.run_id)
    assert line.startswith("theta.npy: SHA-256 ")


def test_outage_of_the_artifact_store_is_waited_for_then_told(
    store: Store, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading
    import time

    name = f"s3-{uuid.uuid4().hex}"
    store.client.create_experiment(name, artifact_location=f"s3://{BUCKET}/{name}")
    path = tmp_path / "theta.npy"
    path.write_text("theta")
    with open_run("round", "round_00", store=store, experiment=name) as run:
        gateway.cut()

        def mend() -> None:
            time.sleep(1.5)
            gateway.down = False

        threading.Thread(target=mend).start()
        started = time.monotonic()
        run.send(path)
        assert time.monotonic() - started > 1.4
        gateway.cut()
        monkeypatch.setenv("MLPOP_STORE_DEADLINE", "1")
        with pytest.raises(TrackingError) as caught:
            run.send(path, "again.npy")
        gateway.down = False
    message = str(caught.value)
    assert f"artifact again.npy of run {run.run_id}" in message
    assert "tried for 1 s; what is finished is kept on disk, and `--resume` goes on" in message
    assert list(run.records) == ["theta.npy"]


def test_wrong_keys_of_the_artifact_store_are_told_at_once(
    store: Store,
    object_store: ObjectStoreServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    import boto3
    from mlflow.store.artifact import s3_artifact_repo

    name = f"s3-{uuid.uuid4().hex}"
    store.client.create_experiment(name, artifact_location=f"s3://{BUCKET}/{name}")
    path = tmp_path / "theta.npy"
    path.write_text("theta")
    with open_run("round", "round_00", store=store, experiment=name) as run:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        s3_artifact_repo._cached_get_s3_client.cache_clear()
        started = time.monotonic()
        with pytest.raises(TrackingError, match="InvalidAccessKeyId"):
            run.send(path)
        assert time.monotonic() - started < 10
        s3_artifact_repo._cached_get_s3_client.cache_clear()
