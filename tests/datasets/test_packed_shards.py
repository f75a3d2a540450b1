"""A shard as one file: the same bytes for the same files; nothing bad gets out of it (S24)."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.packed_shards import pack_shard, packed, packed_name, unpack_shard
from mlpop.datasets.shards import (
    ShardRecord,
    SimulationRow,
    finished_shards,
    read_shard,
    write_shard,
)
from mlpop.errors import DataError


def rows(first: int, value: float = 0.0) -> list[SimulationRow]:
    maps = {
        "a": np.full((4, 3), value, dtype=np.float32),
        "b": np.arange(12, dtype=np.float32).reshape(4, 3),
    }
    good = [SimulationRow(index=first + k, seed=f"seed {k}", maps=maps) for k in range(3)]
    return [*good, SimulationRow(index=first + 3, seed="seed 3", status="failed", message="why")]


@pytest.fixture
def record(tmp_path: Path) -> ShardRecord:
    return write_shard(tmp_path / "data", 12, rows(48))


@pytest.fixture
def shard(tmp_path: Path, record: ShardRecord) -> Path:
    return tmp_path / "data" / "shards" / record.name


def test_round_trip_gives_the_same_files(shard: Path, record: ShardRecord, tmp_path: Path) -> None:
    file = pack_shard(shard, tmp_path / "packed.zip")
    back = unpack_shard(file, tmp_path / "other")
    assert back == record
    there = tmp_path / "other" / "shards"
    assert sorted(p.name for p in there.iterdir()) == ["shard-00012"]
    for path in sorted(shard.iterdir()):
        assert (there / "shard-00012" / path.name).read_bytes() == path.read_bytes()
    assert finished_shards(tmp_path / "other") == {12: record}


def test_bytes_depend_on_the_files_alone(shard: Path, tmp_path: Path) -> None:
    first = pack_shard(shard, tmp_path / "packed.zip").read_bytes()
    moved = tmp_path / "elsewhere" / shard.name
    shutil.copytree(shard, moved)
    for path in moved.iterdir():
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    assert pack_shard(moved, tmp_path / "moved.zip").read_bytes() == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == ["shard.json", "a.npy", "b.npy"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert len(first) < sum(path.stat().st_size for path in shard.iterdir()) + 1000
    with packed(shard) as file:
        assert (file.name, file.read_bytes()) == (packed_name(12), first)
    assert not file.exists()


def test_damaged_shard_is_not_packed(shard: Path) -> None:
    (shard / "a.npy").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"a\.npy: 7 bytes where"):
        pack_shard(shard, shard.with_suffix(".zip"))
    assert list(shard.parent.glob("*.zip")) == list(shard.parent.glob(".*")) == []


def test_whole_shard_stays_and_damaged_one_is_replaced(
    shard: Path, record: ShardRecord, tmp_path: Path
) -> None:
    file = pack_shard(shard, tmp_path / "packed.zip")
    before = (shard / "shard.json").stat().st_ino
    assert unpack_shard(file, tmp_path / "data") == record
    assert (shard / "shard.json").stat().st_ino == before
    (shard / "a.npy").unlink()
    assert unpack_shard(file, tmp_path / "data") == record
    assert read_shard(shard) == record
    assert list(shard.parent.glob(".*")) == []


def test_shard_of_another_content_stays_unless_told(shard: Path, tmp_path: Path) -> None:
    other = write_shard(tmp_path / "other", 12, rows(48, value=1.0))
    file = pack_shard(tmp_path / "other" / "shards" / other.name, tmp_path / "packed.zip")
    before = read_shard(shard)
    with pytest.raises(DataError, match="is there with another content"):
        unpack_shard(file, tmp_path / "data")
    assert read_shard(shard) == before
    assert unpack_shard(file, tmp_path / "data", replace=True).digest == other.digest
    assert read_shard(shard).digest == other.digest


def test_another_number_than_expected_is_refused(shard: Path, tmp_path: Path) -> None:
    file = pack_shard(shard, tmp_path / "packed.zip")
    with pytest.raises(DataError, match="holds shard 12, expected shard 3"):
        unpack_shard(file, tmp_path / "other", number=3)
    assert list((tmp_path / "other" / "shards").iterdir()) == []


def rewritten(file: Path, change: Callable[[dict[str, bytes]], None], **options: int) -> Path:
    """Return a zip with other entries."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    target = file.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", options.get("compression", zipfile.ZIP_STORED)) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target


def with_record(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        entries["shard.json"] = json.dumps(json.loads(entries["shard.json"]) | values).encode()

    return change


def escaping_channel(entries: dict[str, bytes]) -> None:
    record = json.loads(entries["shard.json"])
    record["channels"] = ["../../../stolen", "b"]
    record["arrays"]["../../../stolen"] = record["arrays"].pop("a")
    entries["shard.json"] = json.dumps(record).encode()
    entries["../../../stolen.npy"] = entries.pop("a.npy")


HOSTILE: dict[str, Callable[[dict[str, bytes]], object]] = {
    "climbs out": lambda e: e.update({"../evil.npy": b"x"}),
    "absolute": lambda e: e.update({"/tmp/evil.npy": b"x"}),
    "in a folder": lambda e: e.update({"deep/evil.npy": b"x"}),
    "backslash": lambda e: e.update({"..\\evil.npy": b"x"}),
    "a folder": lambda e: e.update({"evil/": b""}),
    "not listed": lambda e: e.update({"evil.pickle": b"x"}),
    "channel climbs out": escaping_channel,
    "array altered": lambda e: e.update({"a.npy": e["a.npy"][:-1] + b"x"}),
    "array longer": lambda e: e.update({"a.npy": e["a.npy"] + b"x"}),
    "array missing": lambda e: e.pop("a.npy"),
    "no record": lambda e: e.pop("shard.json"),
    "record is no JSON": lambda e: e.update({"shard.json": b"{"}),
    "record is a list": lambda e: e.update({"shard.json": b"[]"}),
    "number climbs out": with_record(number="../../x"),
    "negative number": with_record(number=-1),
    "no arrays": with_record(arrays=None),
    "unknown schema": with_record(schema=99),
    "rows missing": with_record(rows=None),
}


@pytest.mark.parametrize("how", list(HOSTILE))
def test_hostile_file_leaves_nothing(shard: Path, tmp_path: Path, how: str) -> None:
    file = rewritten(
        pack_shard(shard, tmp_path / "packed.zip"),
        HOSTILE[how],  # type: ignore[arg-type]
    )
    target = tmp_path / "deep" / "er" / "target"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError):
        unpack_shard(file, target)
    assert list((target / "shards").iterdir()) == []
    made = {tmp_path / "deep", tmp_path / "deep" / "er", target, target / "shards"}
    assert set(tmp_path.rglob("*")) == set(before) | made
    assert not Path("/tmp/evil.npy").exists()


def test_compressed_or_double_or_cut_file_is_refused(shard: Path, tmp_path: Path) -> None:
    file = pack_shard(shard, tmp_path / "packed.zip")
    bomb = rewritten(file, lambda e: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="is compressed"):
        unpack_shard(bomb, tmp_path / "other")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("a.npy", b"twice")
    with pytest.raises(DataError, match="a name twice"):
        unpack_shard(file, tmp_path / "other")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="is no packed shard, or is damaged"):
        unpack_shard(file, tmp_path / "other")
    assert list((tmp_path / "other" / "shards").iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
from mlpop.errors import DataError
from mlpop.datasets.packed_shards import pack_shard, unpack_shard
from mlpop.datasets.shards import write_shard
import numpy as np
from mlpop.datasets.shards import SimulationRow
here = Path(sys.argv[1])
rows = [SimulationRow(index=0, seed="s", maps={"a": np.zeros((400, 400))})]
shard = here / "whole" / "shards" / write_shard(here / "whole", 0, rows).name
file = pack_shard(shard, here / "packed.zip")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for attempt in (
    lambda: write_shard(here / "full", 0, rows),
    lambda: pack_shard(shard, here / "full.zip"),
    lambda: unpack_shard(file, here / "full"),
):
    try:
        attempt()
    except DataError as error:
        print(error)
"""


def test_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    """S24: the limit on the size of files stands for a disk that is full."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert "full/shards/shard-00000: cannot be written: " in lines[0]
    assert lines[1] == f"{tmp_path / 'full.zip'}: cannot be written: {os.strerror(errno.EFBIG)}"
    assert "packed.zip: cannot be unpacked: " in lines[2]
    assert finished_shards(tmp_path / "full") == {}
    assert list((tmp_path / "full" / "shards").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "packed.zip", "whole"]
