"""Details lie in the shards beside the maps, and in a folder beside an observed sample."""

from pathlib import Path

import numpy as np
import pytest

from mlpop.datasets.dataset import assemble
from mlpop.datasets.details import load_details, load_observed_details, write_observed_details
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.shards import SimulationRow, finished_shards, write_shard
from mlpop.errors import DataError


def test_details_of_usable_simulations_in_order(tmp_path: Path) -> None:
    def row(index: int) -> SimulationRow:
        maps = {"m": np.zeros((2, 2)), "stars": np.full((3,), float(index))}
        return SimulationRow(index, "seed", maps=maps)

    write_shard(tmp_path, 1, [row(3), row(2)])
    write_shard(tmp_path, 0, [row(0), SimulationRow(1, "seed", "failed")])
    shards = finished_shards(tmp_path).values()
    csv = assemble(tmp_path, ["a"], np.zeros((4, 1)), ["m"], shards).csv
    assert DatasetIndex.read(csv).channels == ("m",)
    (stars,) = load_details(csv, ("m",)).values()
    np.testing.assert_array_equal(stars, [[0] * 3, [2] * 3, [3] * 3])
    assert load_details(tmp_path / "elsewhere" / csv.name, ("m",)) == {}


def test_details_of_an_observed_sample(tmp_path: Path) -> None:
    assert load_observed_details(tmp_path) == {}
    (path,) = write_observed_details(tmp_path, {"stars": np.arange(3.0)})
    assert path == tmp_path / "details" / "stars.npy"
    np.testing.assert_array_equal(load_observed_details(tmp_path)["stars"], [0, 1, 2])
    np.save(path, [0.0, np.nan])
    with pytest.raises(DataError, match="not finite"):
        load_observed_details(tmp_path)
    path.write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot be read"):
        load_observed_details(tmp_path)
