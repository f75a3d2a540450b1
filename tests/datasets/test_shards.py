"""Shards: whole or not at all, the same content once, damage noticed."""

import json
import threading
from logging import WARNING
from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.shards import (
    SimulationRow,
    finished_shards,
    read_shard,
    write_shard,
)
from mlpop.errors import DataError


def row(index: int, *, value: float = 1.0, seconds: float = 0.5) -> SimulationRow:
    maps = {"a": np.full((2, 3), value + index), "b": np.full((4, 4), -value)}
    info = {"detections": {"PMPS": np.int64(7)}}
    return SimulationRow(index, f"9:{index}", seconds=seconds, info=info, maps=maps)


def failure(index: int, status: str = "failed") -> SimulationRow:
    return SimulationRow(index, f"9:{index}", status=status, message="no beamed star")  # type: ignore[arg-type]


def test_packed_arrays_hold_usable_rows_in_order(tmp_path: Path) -> None:
    record = write_shard(tmp_path, 12, [row(7), failure(6), row(5), failure(8, "timeout")])
    shard = tmp_path / "shards" / "shard-00012"
    assert sorted(p.name for p in shard.iterdir()) == ["a.npy", "b.npy", "shard.json"]
    packed = np.load(shard / "a.npy")
    assert packed.dtype == np.float64
    np.testing.assert_array_equal(packed, np.stack([np.full((2, 3), 6.0), np.full((2, 3), 8.0)]))
    assert [r.index for r in record.rows] == [5, 6, 7, 8]
    assert record.cell("b", 7) == "shards/shard-00012/b.npy#1"
    assert [p.name for p in shard.parent.iterdir()] == ["shard-00012"], "no temporary is left"


def test_record_on_disk_is_what_was_returned(tmp_path: Path) -> None:
    written = write_shard(tmp_path, 0, [row(0), failure(1)])
    read = read_shard(tmp_path / "shards" / "shard-00000")
    assert read.digest == written.digest
    assert (read.number, read.channels, read.position) == (0, ("a", "b"), {0: 0})
    assert read.rows[0].info == {"detections": {"PMPS": 7}}
    assert (read.rows[1].status, read.rows[1].message) == ("failed", "no beamed star")
    assert read.arrays == json.loads(json.dumps(written.arrays))


def test_same_content_again_changes_nothing(tmp_path: Path) -> None:
    write_shard(tmp_path, 3, [row(0), row(1)])
    path = tmp_path / "shards" / "shard-00003" / "shard.json"
    before = path.read_bytes()
    again = write_shard(tmp_path, 3, [row(1, seconds=77), row(0)])
    assert path.read_bytes() == before
    assert again.digest == read_shard(path.parent).digest


@pytest.mark.parametrize(
    "rows", [[row(0), row(1, value=2.0)], [row(0)], [row(0), failure(1)], [row(0), row(2)]]
)
def test_another_content_is_refused(tmp_path: Path, rows: list[SimulationRow]) -> None:
    write_shard(tmp_path, 3, [row(0), row(1)])
    before = read_shard(tmp_path / "shards" / "shard-00003").digest
    with pytest.raises(DataError, match="shard-00003: is there with another content"):
        write_shard(tmp_path, 3, rows)
    assert read_shard(tmp_path / "shards" / "shard-00003").digest == before
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["shard-00003"]


def test_digest_ignores_timing_and_attempts(tmp_path: Path) -> None:
    first = write_shard(tmp_path / "one", 0, [row(0, seconds=1.0)])
    second = write_shard(tmp_path / "two", 0, [row(0, seconds=2.0)])
    other = write_shard(tmp_path / "three", 0, [row(0, value=2.0)])
    assert first.digest == second.digest != other.digest
    failed = write_shard(tmp_path / "four", 0, [row(0), failure(1)])
    late = write_shard(tmp_path / "five", 0, [row(0), failure(1, "timeout")])
    assert failed.digest != late.digest


def test_concurrent_writers_agree(tmp_path: Path) -> None:
    failures: list[Exception] = []
    start = threading.Barrier(4)

    def write() -> None:
        start.wait()
        try:
            write_shard(tmp_path, 0, [row(k) for k in range(20)])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(read_shard(tmp_path / "shards" / "shard-00000").rows) == 20
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["shard-00000"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_maps_that_are_not_finite_become_invalid(tmp_path: Path, bad: float) -> None:
    broken = row(1)
    broken.maps["b"][2, 2] = bad
    record = write_shard(tmp_path, 0, [row(0), broken])
    assert [r.status for r in record.rows] == ["ok", "invalid"]
    assert record.rows[1].message == "values that are not finite in b"
    assert record.position == {0: 0}


def test_usable_row_without_maps_becomes_invalid(tmp_path: Path) -> None:
    record = write_shard(tmp_path, 0, [SimulationRow(0, "9:0", status="limit")])
    assert (record.rows[0].status, record.rows[0].message) == ("invalid", "no maps")
    assert record.arrays == {}


def test_rows_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="index appears twice"):
        write_shard(tmp_path, 0, [row(1), row(1)])
    odd = SimulationRow(1, "9:1", maps={"a": np.zeros((2, 4)), "b": np.zeros((4, 4))})
    with pytest.raises(DataError, match=r"a differs in shape between simulations: \{0: \(2, 3\)"):
        write_shard(tmp_path, 0, [row(0), odd])
    with pytest.raises(DataError, match="simulation 1 has the channels a, simulation 0 has a, b"):
        write_shard(tmp_path, 0, [row(0), SimulationRow(1, "9:1", maps={"a": np.zeros((2, 3))})])
    with pytest.raises(DataError, match="status 'done' is none of ok"):
        write_shard(tmp_path, 0, [failure(0, "done")])
    assert not (tmp_path / "shards").exists()


def damage(shard: Path, how: str) -> None:
    path = shard / "a.npy"
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[:-8])
    elif how == "altered":
        data[-1] ^= 1
        path.write_bytes(data)
    elif how == "missing":
        path.unlink()
    else:
        (shard / "shard.json").write_text('{"schema": 1, "number":')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", r"a\.npy: \d+ bytes where the shard's record says \d+: truncated"),
        ("altered", r"a\.npy: content differs from the SHA-256"),
        ("missing", r"a\.npy: missing from its shard"),
        ("record", r"shard\.json: cannot be read as JSON"),
    ],
)
def test_damage_is_refused_and_made_again(
    tmp_path: Path, how: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = write_shard(tmp_path, 0, [row(0), row(1)])
    write_shard(tmp_path, 1, [row(2)])
    damage(tmp_path / "shards" / "shard-00000", how)
    with pytest.raises(DataError, match=message):
        read_shard(tmp_path / "shards" / "shard-00000")
    with caplog.at_level(WARNING):
        assert [*finished_shards(tmp_path)] == [1]
    assert "will be made again" in caplog.text
    write_shard(tmp_path, 0, [row(0), row(1)])
    found = finished_shards(tmp_path)
    assert [*found] == [0, 1]
    assert found[0].digest == good.digest
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == [
        "shard-00000",
        "shard-00001",
    ]


def test_only_finished_shards_are_found(tmp_path: Path) -> None:
    assert finished_shards(tmp_path) == {}
    write_shard(tmp_path, 2, [row(0)])
    (tmp_path / "shards" / ".shard-00003.abc").mkdir()
    (tmp_path / "shards" / "shard-notes").mkdir()
    assert [*finished_shards(tmp_path)] == [2]


def test_another_schema_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [row(0)])
    path = tmp_path / "shards" / "shard-00000" / "shard.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(DataError, match="schema 99 is not readable here; expected 1"):
        read_shard(path.parent)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("a file")
    with pytest.raises(DataError, match="shard-00000: cannot be written"):
        write_shard(tmp_path, 0, [row(0)])
