"""Arrays of simulations that no network sees, in the shards beside the maps."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.datasets.layout import DETAILS
from mlpop.datasets.shards import RAGGED, SHARDS_FOLDER, finished_shards
from mlpop.errors import DataError
from mlpop.io.arrays import read_npy
from mlpop.io.files import write_array

Details = dict[str, NDArray[np.float32]]


def load_details(csv: Path, channels: tuple[str, ...]) -> Details:
    """Return name -> array (N, ...) of the usable simulations, in the order of an index file.

    Args:
        csv: the index file of a simulated set.
        channels: all that its simulator calls so; further arrays of its shards are details.
    """
    folder = csv.parent
    found: dict[str, dict[int, NDArray]] = {}
    for record in finished_shards(folder).values():
        further = set(record.channels).difference(channels)
        for name in (name for name in further if not name.startswith(RAGGED)):
            packed = np.load(folder / SHARDS_FOLDER / record.name / f"{name}.npy")
            rows = {index: packed[row] for index, row in record.position.items()}
            found.setdefault(name, {}).update(rows)
    return {
        name: np.stack([rows[index] for index in sorted(rows)]).astype(np.float32)
        for name, rows in sorted(found.items())
    }


def write_observed_details(folder: Path, details: Mapping[str, NDArray]) -> list[Path]:
    """Write the details of an observed sample: `details/<name>.npy` beside its index file."""
    paths = [folder / DETAILS / f"{name}.npy" for name in details]
    for path, values in zip(paths, details.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_array(path, values)
    return paths


def load_observed_details(folder: Path) -> Details:
    """Return name -> array of an observed sample; empty if it was written without.

    Raises:
        DataError: a file is broken.
    """
    return {path.stem: read_array(path) for path in sorted((folder / DETAILS).glob("*.npy"))}


def read_array(path: Path) -> NDArray[np.float32]:
    """Read one array of numbers.

    Raises:
        DataError: it is missing, broken, or has values that are not finite.
    """
    try:
        values = read_npy(path).astype(np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not np.isfinite(values).all():
        raise DataError(f"{path}: has values that are not finite")
    return np.asarray(values)
