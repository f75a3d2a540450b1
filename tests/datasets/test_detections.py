"""Arrays with different numbers of rows in a shard, and the detections read back from them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.random import SeedSequence

from mlpop.datasets.details import load_details
from mlpop.datasets.detections import detected, seed_of
from mlpop.datasets.packed_shards import pack_shard, unpack_shard
from mlpop.datasets.shards import SimulationRow, finished_shards, write_shard
from mlpop.errors import DataError

COUNTS = {0: 4, 2: 0, 3: 1}


def row(index: int) -> SimulationRow:
    seed = f"SeedSequence(9, spawn_key=(3, 1, {index}))"
    if index not in COUNTS:
        return SimulationRow(index, seed, "failed", message="on purpose")
    rng = np.random.default_rng(index)
    count = COUNTS[index]
    spin = rng.random((count, 3))
    if count > 1:
        spin[1, 2] = np.nan
    maps = {
        "m": rng.random((2, 2)),
        "detected_PMPS_sky": rng.random((count, 4)).astype(np.float32),
        "detected_PMPS_spin": spin,
    }
    return SimulationRow(index, seed, maps=maps)


def check(folder: Path) -> None:
    found = list(detected(folder))
    assert [one.row.index for one in found] == list(COUNTS)
    for one in found:
        wanted = row(one.row.index).maps
        np.testing.assert_array_equal(
            one.catalogues["PMPS"]["P_dot"], wanted["detected_PMPS_spin"][:, 1]
        )
        np.testing.assert_array_equal(
            one.catalogues["PMPS"]["pm_dec"], wanted["detected_PMPS_sky"][:, 3].astype(float)
        )
        assert one.seed.spawn_key == (3, 1, one.row.index)


def test_detections_come_back_simulation_by_simulation(tmp_path: Path) -> None:
    record = write_shard(tmp_path, 0, [row(0), row(1)])
    write_shard(tmp_path, 1, [row(2), row(3)])
    assert record.rows[0].status == "ok"  # a pulsar without a flux spoils no simulation
    check(tmp_path)
    moved = tmp_path / "moved"
    for number in (0, 1):
        file = tmp_path / f"shard-0000{number}.zip"
        unpack_shard(pack_shard(tmp_path / "shards" / f"shard-0000{number}", file), moved)
    check(moved)
    assert finished_shards(moved)[0].digest == record.digest


def test_detections_are_no_details(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [row(0), row(3)])
    assert load_details(tmp_path / "dataset_full.csv", ("m",)) == {}


def test_a_set_without_detections_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished shards"):
        list(detected(tmp_path))
    write_shard(tmp_path, 0, [SimulationRow(0, "1", maps={"m": np.ones((2, 2))})])
    with pytest.raises(DataError, match="keeps no detected pulsars; .*keep_detections"):
        list(detected(tmp_path))


@pytest.mark.parametrize("key", [(), (3,), (3, 1, 5)])
def test_seeds_are_read_as_they_are_written(key: tuple[int, ...]) -> None:
    text = f"SeedSequence(12345678901234567890, spawn_key={key})"
    seed = seed_of(SimulationRow(0, text))
    assert seed.spawn_key == key
    same = SeedSequence(12345678901234567890, spawn_key=key)
    np.testing.assert_array_equal(seed.generate_state(4), same.generate_state(4))
    with pytest.raises(DataError, match="its seed 'x' cannot be read"):
        seed_of(SimulationRow(0, "x"))
