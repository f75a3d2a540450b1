"""Objects arrive whole, as they were sent, or not at all; nothing waits for ever (S25)."""

import errno
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from object_store import BUCKET, Gateway, ObjectStoreServer

from mlpop.config.fields import S3Uri
from mlpop.errors import ConfigError, DataError, TrackingError
from mlpop.io.errors import NoSuchObject, StoreAway
from mlpop.io.patience import Patience
from mlpop.io.s3 import ObjectStore, StoreSettings, check_remote

LARGE = 20 * 2**20  # three parts


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(LARGE))
    return path


def quick(seconds: float = 20.0) -> ObjectStore:
    return ObjectStore(patience=Patience(seconds, first_wait=0.05, longest_wait=0.5))


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*"))


def test_large_object_travels_in_parts_and_comes_back_the_same(
    place: S3Uri, large: Path, tmp_path: Path
) -> None:
    store = ObjectStore()
    digest = store.upload(large, place / "large.bin", {"note": "kept"})
    info = store.download(place / "large.bin", tmp_path / "back" / "large.bin")
    assert (tmp_path / "back" / "large.bin").read_bytes() == large.read_bytes()
    assert info.etag.endswith("-3"), "sent in three parts"
    assert (info.bytes, info.sha256, info.metadata["note"]) == (LARGE, digest, "kept")
    assert left_behind(tmp_path / "back") == []


def test_store_can_be_sent_to_a_worker_and_carries_no_secret(
    object_store: ObjectStoreServer, place: S3Uri, tmp_path: Path
) -> None:
    data = pickle.dumps(ObjectStore())
    assert object_store.environment["AWS_SECRET_ACCESS_KEY"].encode() not in data
    (tmp_path / "a").write_text("content")
    pickle.loads(data).upload(tmp_path / "a", place / "a")
    assert ObjectStore().head(place / "a").bytes == 7  # type: ignore[union-attr]


def test_listing_existence_and_deletion(place: S3Uri, tmp_path: Path) -> None:
    store = ObjectStore()
    assert list(store.list(place)) == []
    for name in ("b/c.txt", "a.txt", "b/d.txt"):
        path = tmp_path / "file"
        path.write_text(name)
        store.upload(path, place / name)
    assert [item.uri for item in store.list(place)] == [
        place / "a.txt",
        place / "b/c.txt",
        place / "b/d.txt",
    ]
    assert [item.bytes for item in store.list(place / "b")] == [7, 7]
    # a folder is not a prefix of a name
    assert list(store.list(S3Uri(f"{place}/a"))) == []
    store.delete(place / "a.txt")
    assert store.head(place / "a.txt") is None
    with pytest.raises(NoSuchObject, match=r"a\.txt: no such object"):
        store.download(place / "a.txt", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_long_listing_comes_in_pages(place: S3Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore()
    pages = []
    call = ObjectStore._call

    def in_twos(self: ObjectStore, operation: str, uri: S3Uri, **arguments: object) -> dict:
        pages.append(operation)
        return call(self, operation, uri, **arguments, MaxKeys=2)

    empty = Path(os.devnull)
    for k in range(5):
        store.upload(empty, place / f"{k}")
    monkeypatch.setattr(ObjectStore, "_call", in_twos)
    assert [item.uri.name for item in store.list(place)] == ["0", "1", "2", "3", "4"]
    assert len(pages) == 3


def test_damaged_object_is_never_a_file(place: S3Uri, tmp_path: Path) -> None:
    path, target = tmp_path / "a", tmp_path / "target"
    path.write_text("what was sent")
    target.write_text("what was there")
    store = quick()
    store.upload(path, place / "a")
    client = store._client(10.0)
    client.put_object(
        Bucket=BUCKET, Key=(place / "a").key, Body=b"what was SENT", Metadata={"sha256": "0" * 64}
    )
    with pytest.raises(DataError, match=r"content differs from its SHA-256 .* 000000000000… exp"):
        store.download(place / "a", target)
    assert target.read_text() == "what was there"
    assert left_behind(tmp_path) == []


def test_object_of_another_program_has_no_digest_and_is_still_fetched(
    place: S3Uri, tmp_path: Path
) -> None:
    store = ObjectStore()
    client = store._client(10.0)
    client.put_object(Bucket=BUCKET, Key=(place / "plain").key, Body=b"plain")
    assert store.download(place / "plain", tmp_path / "plain").sha256 is None
    assert (tmp_path / "plain").read_text() == "plain"


def test_file_that_changes_while_it_is_sent_is_refused(
    place: S3Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.txt"
    path.write_text("first")
    transfer = ObjectStore._transfer

    def meanwhile(self: ObjectStore, operation: object, uri: S3Uri) -> None:
        path.write_text("second line")
        transfer(self, operation, uri)  # type: ignore[arg-type]

    monkeypatch.setattr(ObjectStore, "_transfer", meanwhile)
    with pytest.raises(DataError, match=r"log\.txt: changed while it was stored"):
        ObjectStore().upload(path, place / "log.txt")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_ACCESS_KEY_ID", "wrong", "refuses the credentials"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "refuses the credentials"),
        ("AWS_ACCESS_KEY_ID", None, "no credentials"),
    ],
)
def test_wrong_keys_are_told_at_once(
    place: S3Uri,
    large: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str | None,
    message: str,
) -> None:
    if value is None:
        monkeypatch.delenv(name)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    else:
        monkeypatch.setenv(name, value)
    # a client keeps the keys that it was made with
    store = ObjectStore(StoreSettings(StoreSettings.from_environment().endpoint, False))
    from mlpop.io import s3

    s3._client.cache_clear()
    started = time.monotonic()
    for operation in (
        lambda: store.upload(large, place / "x"),
        lambda: store.download(place / "x", tmp_path / "x"),
        lambda: list(store.list(place)),
    ):
        with pytest.raises(TrackingError, match=message) as caught:
            operation()
        assert not isinstance(caught.value, StoreAway)
    assert time.monotonic() - started < 10
    s3._client.cache_clear()


def test_missing_bucket_is_not_a_missing_object(large: Path, object_store: object) -> None:
    nowhere = S3Uri("s3://no-such-bucket/x")
    with pytest.raises(TrackingError, match="no such bucket"):
        ObjectStore().head(nowhere)
    with pytest.raises(TrackingError, match="no such bucket"):
        list(ObjectStore().list(nowhere))
    with pytest.raises(TrackingError, match="no such bucket|refuses the credentials"):
        ObjectStore().upload(large, nowhere)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_transfer_that_is_cut_goes_on_when_the_store_is_back(
    place: S3Uri, gateway: Gateway, large: Path, tmp_path: Path, direction: str
) -> None:
    store, uri, back = quick(), place / "large.bin", tmp_path / "back"
    if direction == "down":
        store.upload(large, uri)
    gateway.cut_after = 3 * 2**20

    def mend() -> None:
        while gateway.cuts < 3:
            time.sleep(0.01)
        gateway.down = True
        time.sleep(0.5)
        gateway.down, gateway.cut_after = False, None

    mending = threading.Thread(target=mend)
    mending.start()
    if direction == "up":
        store.upload(large, uri)
    else:
        store.download(uri, back)
    mending.join()
    assert gateway.cuts >= 3
    store.download(uri, back)
    assert back.read_bytes() == large.read_bytes()
    assert left_behind(tmp_path) == []


def test_cut_upload_leaves_no_object(place: S3Uri, gateway: Gateway, large: Path) -> None:
    gateway.cut_after = 3 * 2**20
    with pytest.raises(StoreAway, match="cannot be used now|not transferred within 2 s"):
        quick(2.0).upload(large, place / "large.bin")
    gateway.cut_after = None
    assert quick().head(place / "large.bin") is None


@pytest.mark.parametrize("how", ["hangs", "down", "closed"])
def test_store_that_is_away_is_given_up_at_the_deadline(
    place: S3Uri, gateway: Gateway, large: Path, tmp_path: Path, how: str
) -> None:
    if how == "closed":
        gateway.close()
    else:
        setattr(gateway, how, True)
    store = quick(1.2)
    for operation in (
        lambda: store.upload(large, place / "x"),
        lambda: store.download(place / "x", tmp_path / "x"),
        lambda: list(store.list(place)),
    ):
        started = time.monotonic()
        with pytest.raises(StoreAway) as caught:
            operation()
        assert 0.5 < time.monotonic() - started < 4.0
        assert gateway.endpoint in str(caught.value)
        if how == "hangs":
            assert "does not answer" in str(caught.value)


def test_trickling_transfer_is_given_up_at_the_deadline(
    place: S3Uri, gateway: Gateway, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read is answered in time, the whole is not."""
    pump = Gateway._pump

    def slowly(self: Gateway, source: object, sink: object) -> None:
        class Slow:
            def sendall(self, data: bytes) -> None:
                time.sleep(0.2)
                sink.sendall(data)  # type: ignore[attr-defined]

            def __getattr__(self, name: str) -> object:
                return getattr(sink, name)

        pump(self, source, Slow())  # type: ignore[arg-type]

    monkeypatch.setattr(Gateway, "_pump", slowly)
    started = time.monotonic()
    with pytest.raises(StoreAway):
        quick(3.0).upload(large, place / "x")
    assert time.monotonic() - started < 8


def test_full_disk_leaves_no_file(place: S3Uri, large: Path, tmp_path: Path) -> None:
    """The limit on the size of files stands for a disk that is full."""
    ObjectStore().upload(large, place / "large.bin")
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from mlpop.config.fields import S3Uri\n"
        "from mlpop.errors import DataError\n"
        "from mlpop.io.s3 import ObjectStore\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LARGE // 2},) * 2)\n"
        "try:\n"
        "    ObjectStore().download(S3Uri(sys.argv[1]), Path(sys.argv[2]))\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    target = tmp_path / "back" / "large.bin"
    done = subprocess.run(
        [sys.executable, "-c", code, str(place / "large.bin"), str(target)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"{target}: cannot be written: {os.strerror(errno.EFBIG)}\n", done.stderr
    assert list(target.parent.iterdir()) == []


def test_preflight_names_the_field(
    place: S3Uri, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_remote(place, "training_data_loader.dataset_path")
    assert list(ObjectStore().list(place)) == []
    gateway.down = True
    monkeypatch.setattr("mlpop.io.s3._PREFLIGHT", Patience(1.0, 0.1))
    with pytest.raises(ConfigError, match=r"^training_data_loader\.dataset_path: 's3://.* cannot"):
        check_remote(place, "training_data_loader.dataset_path")


@pytest.mark.slow
def test_server_killed_in_a_transfer_and_started_again(
    object_store: ObjectStoreServer, place: S3Uri, tmp_path: Path
) -> None:
    huge = tmp_path / "huge.bin"
    huge.write_bytes(os.urandom(2**20) * 150)
    store = quick(200.0)
    uploaded = threading.Thread(target=store.upload, args=(huge, place / "huge.bin"))
    uploaded.start()
    time.sleep(1.0)
    assert uploaded.is_alive()
    object_store.kill()
    time.sleep(1.0)
    object_store.start()
    uploaded.join(200)
    store.download(place / "huge.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == huge.read_bytes()
