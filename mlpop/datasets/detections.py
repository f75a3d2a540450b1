"""Detected pulsars of finished simulations, as their shards keep them beside the maps."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from mlpop.datasets.shards import (
    RAGGED,
    ROWS_SUFFIX,
    SHARDS_FOLDER,
    ShardRecord,
    SimulationRow,
    finished_shards,
)
from mlpop.errors import DataError
from mlpop.maps.detected import detected_catalogues

_SEED = re.compile(r"SeedSequence\((\d+), spawn_key=\(([\d, ]*)\)\)")

Catalogues = Mapping[str, Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class Detected:
    """A finished simulation.

    Attributes:
        row: its record.
        catalogues: catalogue -> (n,) column by name.
    """

    row: SimulationRow
    catalogues: Catalogues

    @property
    def seed(self) -> SeedSequence:
        """What its random numbers came from."""
        return seed_of(self.row)


def detected_of_shard(folder: Path, record: ShardRecord) -> Iterator[Detected]:
    """Yield the usable simulations of a shard of the dataset in `folder`, in their order.

    Raises:
        DataError: the shard keeps no detected pulsars.
    """
    shard = folder / SHARDS_FOLDER / record.name
    names = [n for n in record.channels if n.startswith(RAGGED) and not n.endswith(ROWS_SUFFIX)]
    if record.position and not names:
        raise DataError(
            f"{shard}: keeps no detected pulsars; simulate the set with compute.keep_detections "
            "true"
        )
    arrays = {name: np.load(shard / f"{name}.npy") for name in names}
    ends = {
        name: np.cumsum(np.load(shard / f"{name}{ROWS_SUFFIX}.npy")).tolist() for name in names
    }
    for row in record.rows:
        if row.index not in record.position:
            continue
        place = record.position[row.index]
        parts = {
            name: arrays[name][(ends[name][place - 1] if place else 0) : ends[name][place]]
            for name in names
        }
        yield Detected(row, detected_catalogues(parts))


def detected(folder: Path) -> Iterator[Detected]:
    """Yield all usable simulations of a dataset, shard by shard.

    Raises:
        DataError: there are no shards, or one keeps no detected pulsars.
    """
    records = finished_shards(folder)
    if not records:
        raise DataError(f"{folder}: holds no finished shards of `mlpop simulate` or `mlpop sbi`")
    for number in sorted(records):
        yield from detected_of_shard(folder, records[number])


def seed_of(row: SimulationRow) -> SeedSequence:
    """Return the seed that a record names.

    Raises:
        DataError: it names none.
    """
    found = _SEED.fullmatch(row.seed)
    if found is None:
        raise DataError(f"simulation {row.index}: its seed '{row.seed}' cannot be read")
    key = tuple(int(part) for part in found[2].split(",") if part.strip())
    return SeedSequence(int(found[1]), spawn_key=key)
