"""Given data at s3:// become local files: checked, used again, kept in step."""

import os
from pathlib import Path

import pytest
from object_store import BUCKET, Gateway

from mlpop.config.blocks.data import TrainingDataConfig
from mlpop.config.fields import S3Uri
from mlpop.datasets.remote.mirror import STATE_FILE, _place, localized
from mlpop.datasets.shards import read_shard
from mlpop.errors import DataError
from mlpop.io.errors import StoreAway
from mlpop.io.s3 import ObjectStore


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects that are fetched."""
    names: list[str] = []
    download = ObjectStore.download

    def note(self: ObjectStore, uri: S3Uri, path: Path) -> object:
        names.append(uri.name)
        return download(self, uri, path)

    monkeypatch.setattr(ObjectStore, "download", note)
    return names


def put(uri: S3Uri, text: str, scratch: Path) -> None:
    path = scratch / "put"
    path.write_text(text)
    ObjectStore().upload(path, uri)


def test_a_path_comes_back_as_it_is() -> None:
    assert localized(Path("data/x")) == Path("data/x")


def test_folder_is_mirrored_once_and_kept_in_step(
    place: S3Uri, tmp_path: Path, fetched: list[str]
) -> None:
    for name in ("a.csv", "deep/b.npy", "deep/c.npy"):
        put(place / name, name, tmp_path)
    folder = localized(place)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {"a.csv", "deep/b.npy", "deep/c.npy", STATE_FILE}
    assert sorted(fetched) == ["a.csv", "b.npy", "c.npy"]
    assert localized(place) == folder
    assert len(fetched) == 3, "nothing is fetched twice"

    put(place / "deep/b.npy", "changed", tmp_path)
    ObjectStore().delete(place / "deep/c.npy")
    assert localized(place) == folder
    assert fetched[3:] == ["b.npy"]
    assert (folder / "deep/b.npy").read_text() == "changed"
    assert not (folder / "deep/c.npy").exists()


def test_altered_copy_is_fetched_again(place: S3Uri, tmp_path: Path, fetched: list[str]) -> None:
    put(place / "statistics.json", '{"a": 1}', tmp_path)
    file = localized(place / "statistics.json")
    assert file.read_text() == '{"a": 1}'
    status = file.stat()
    file.write_text('{"a": 2}')
    assert localized(place / "statistics.json").read_text() == '{"a": 1}'
    # the same size and the same time
    file.write_text('{"a": 3}')
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert localized(place / "statistics.json").read_text() == '{"a": 1}'
    (file.parent / STATE_FILE).write_text("{")
    assert localized(place / "statistics.json").read_text() == '{"a": 1}'
    assert len(fetched) == 4


def test_index_file_brings_its_folder(place: S3Uri, tmp_path: Path, fetched: list[str]) -> None:
    for name in ("dataset_train.csv", "maps/x.npy"):
        put(place / name, name, tmp_path)
    csv = localized(place / "dataset_train.csv")
    assert csv.name == "dataset_train.csv"
    assert (csv.parent / "maps" / "x.npy").is_file()
    assert localized(place) == csv.parent
    assert len(fetched) == 2


def test_packed_shard_becomes_a_folder_and_damage_is_repaired(
    place: S3Uri, tmp_path: Path, fetched: list[str]
) -> None:
    import numpy as np

    from mlpop.datasets.remote.dataset import RemoteDataset
    from mlpop.datasets.shards import SimulationRow, write_shard

    rows = [SimulationRow(index=k, seed=str(k), maps={"a": np.full(3, k)}) for k in range(4)]
    record = write_shard(tmp_path / "set", 7, rows)
    RemoteDataset(place).push_shard(tmp_path / "set" / "shards" / record.name, record)
    shard = localized(place) / "shards" / "shard-00007"
    assert read_shard(shard) == record
    assert [p.name for p in shard.parent.iterdir()] == ["shard-00007"], "its packed file is gone"
    localized(place)
    assert len(fetched) == 1
    (shard / "a.npy").write_bytes(b"damaged")
    localized(place)
    assert read_shard(shard) == record
    # simulated again with another outcome
    other = write_shard(tmp_path / "other", 7, rows[:3])
    RemoteDataset(place).push_shard(tmp_path / "other" / "shards" / other.name, other)
    localized(place)
    assert read_shard(shard).digest == other.digest
    assert len(fetched) == 3


def test_what_is_not_there_is_told(place: S3Uri, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is nothing"):
        localized(place)
    with pytest.raises(DataError, match=r"x\.npy: no such object"):
        localized(place / "x.npy")
    put(place / "other.csv", "x", tmp_path)
    with pytest.raises(DataError, match=r"gone\.csv: there is nothing"):
        localized(place / "gone.csv")


@pytest.mark.parametrize("name", ["../../evil", "a/../../evil", "a//b", "./x"])
def test_hostile_listing_writes_nothing(
    place: S3Uri, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def listing(self: ObjectStore, operation: str, uri: S3Uri, **arguments: object) -> dict:
        return {"Contents": [{"Key": f"{uri.key}/{name}", "Size": 4, "ETag": '"x"'}]}

    monkeypatch.setattr(ObjectStore, "_call", listing)
    with pytest.raises(DataError, match="the name of an object must not"):
        localized(place)
    assert not list(tmp_path.rglob("evil"))


def test_listing_of_another_folder_is_refused(
    place: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listing(self: ObjectStore, operation: str, uri: S3Uri, **arguments: object) -> dict:
        return {"Contents": [{"Key": "elsewhere/x", "Size": 4, "ETag": '"x"'}]}

    monkeypatch.setattr(ObjectStore, "_call", listing)
    with pytest.raises(DataError, match="which is not in it"):
        localized(place)


def test_hidden_name_would_overwrite_the_state(place: S3Uri, tmp_path: Path) -> None:
    put(place / STATE_FILE, "{}", tmp_path)
    with pytest.raises(DataError, match="cannot be that of a file in the mirror"):
        localized(place)


def test_interrupted_mirror_is_completed(
    place: S3Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(6):
        put(place / f"{k}.npy", f"content {k}", tmp_path)
    download = ObjectStore.download

    def stops(self: ObjectStore, uri: S3Uri, path: Path) -> object:
        if uri.name == "4.npy":
            raise StoreAway("away")
        return download(self, uri, path)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "download", stops)
        with pytest.raises(StoreAway):
            localized(place)
    # what a killed launch leaves half-written
    (_place(ObjectStore(), place) / "2.npy").write_text("cont")
    folder = localized(place)
    assert [(folder / f"{k}.npy").read_text() for k in range(6)] == [
        f"content {k}" for k in range(6)
    ]


def test_read_only_cache_is_told(
    place: S3Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place / "x.npy", "x", tmp_path)
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(blocked / "cache"))
    with pytest.raises(DataError, match="cannot be written"):
        localized(place / "x.npy")


def test_two_stores_do_not_share_a_mirror(place: S3Uri, gateway: Gateway, tmp_path: Path) -> None:
    """The gateway is another address."""
    from mlpop.io.s3 import StoreSettings

    here = _place(ObjectStore(), place)
    other = _place(ObjectStore(StoreSettings("http://127.0.0.1:1")), place)
    assert here != other
    assert here.parents[1] == other.parents[1]


def test_field_takes_a_location() -> None:
    uri = f"s3://{BUCKET}/data/round_0"
    block = TrainingDataConfig.parse({"dataset_path_round_0": f"{uri}/", "dataset_path": "a/b"})
    assert block.dataset_path_round_0 == S3Uri(uri)
    assert block.dataset_path == Path("a/b")
    values = block.model_dump(mode="json")
    assert (values["dataset_path_round_0"], values["dataset_path"]) == (uri, "a/b")
    assert TrainingDataConfig.parse(values) == block
