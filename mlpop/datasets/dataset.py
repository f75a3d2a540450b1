"""Shards to a dataset: index file, manifest, statistics, and a digest of the content."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.fields import INPUT_PREFIX
from mlpop.datasets.image import write_image
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import FULL_CSV, FULL_STATISTICS, GENERATOR_JSON, MANIFEST_CSV
from mlpop.datasets.loading import stored_maps
from mlpop.datasets.scaling import label_statistics
from mlpop.datasets.shards import (
    SHARDS_FOLDER,
    STATUSES,
    USABLE,
    ShardRecord,
    SimulationRow,
)
from mlpop.errors import DataError
from mlpop.io.files import read_csv, read_json_object, write_csv, write_json

MANIFEST_COLUMNS = ("index", "seed", "status", "attempts", "seconds", "message")
THETA_PREFIX = "theta:"


@dataclass(frozen=True)
class Assembled:
    """What became of the simulations of a dataset.

    Attributes:
        csv: the index file.
        indices: simulation behind each of its rows.
        counts: simulations by status.
    """

    csv: Path
    indices: tuple[int, ...]
    counts: Mapping[str, int]


def assemble(
    folder: Path,
    labels: Sequence[str],
    theta: NDArray[np.float64],
    channels: Sequence[str],
    shards: Iterable[ShardRecord],
    *,
    min_success_fraction: float | None = None,
    generator: GeneratorConfig | None = None,
) -> Assembled:
    """Write `dataset_full.csv`, `manifest.csv` and `statistics_full.json` of finished shards.

    Args:
        folder: the dataset's folder, with its `shards/`.
        labels: D names of the columns of `theta`.
        theta: (N, D) parameters of every simulation, failed ones too; row k is index k.
        channels: maps in the order of the index file's columns.
        shards: records of all shards.
        min_success_fraction: smallest accepted fraction of usable simulations; None accepts any.
        generator: how the maps were made; kept as `generator.json`, so that an observed sample
            can be checked against it. Its `data_type` `image` writes a picture of each map.

    Raises:
        DataError: simulations are missing or twice in the shards, a channel is missing, or too
            few simulations are usable (the manifest is written even then).
    """
    theta = np.asarray(theta, dtype=np.float64)
    if theta.ndim != 2 or theta.shape[1] != len(labels):
        raise DataError(f"theta has shape {theta.shape}; expected (N, {len(labels)})")
    located = _rows_by_index(folder, shards, len(theta))
    rows = [row for _, row in located]
    write_csv(folder / MANIFEST_CSV, *_manifest(rows, labels, theta))
    if generator is not None:
        write_json(folder / GENERATOR_JSON, generator.model_dump(mode="json"))
    counts = {str(status): sum(row.status == status for row in rows) for status in STATUSES}
    usable = [(shard, row) for shard, row in located if row.status in USABLE]
    check_success(rows, min_success_fraction, source=str(folder))
    if not usable:
        raise DataError(f"{folder}: no usable simulation; {_reasons(rows)}")
    pictures = generator is not None and generator.data_type == "image"
    table = []
    for shard, row in usable:
        missing = [channel for channel in channels if channel not in shard.channels]
        if missing:
            raise DataError(
                f"{folder}: {shard.name} lacks the maps {', '.join(missing)}; "
                f"found {', '.join(shard.channels)}"
            )
        if pictures:
            cells = [_picture(folder, shard, channel, row.index) for channel in channels]
        else:
            cells = [shard.cell(channel, row.index) for channel in channels]
        table.append([*cells, *(float(value) for value in theta[row.index])])
    header = [*(INPUT_PREFIX + channel for channel in channels), *labels]
    indices = tuple(row.index for _, row in usable)
    if labels:
        write_json(folder / FULL_STATISTICS, label_statistics(theta[list(indices)], labels))
    write_csv(folder / FULL_CSV, header, table)
    return Assembled(folder / FULL_CSV, indices, counts)


def check_success(
    rows: Sequence[SimulationRow], min_success_fraction: float | None, *, source: str
) -> None:
    """Refuse a set of simulations of which too many failed.

    Raises:
        DataError: says how many failed and the commonest reasons.
    """
    usable = sum(row.status in USABLE for row in rows)
    if min_success_fraction is None or usable >= min_success_fraction * len(rows) - 1e-9:
        return
    raise DataError(
        f"{source}: {len(rows) - usable} of {len(rows)} simulations failed: a fraction of "
        f"{usable / len(rows):.3f} is usable, min_success_fraction asks for "
        f"{min_success_fraction}; {_reasons(rows)}"
    )


def dataset_digest(folder: Path, *, index_file: str = FULL_CSV) -> str:
    """SHA-256 of a dataset's content: theta, maps, and the status of every simulation.

    Timing, host, worker count, the number of simulations in a shard and the paths of the files
    do not enter, so equal digests mean equal data.

    Raises:
        DataError: a file is missing or broken.
    """
    digest = hashlib.sha256()
    manifest = folder / MANIFEST_CSV
    if manifest.is_file():
        header, rows = read_csv(manifest)
        names = [n for n in header if n in ("index", "status") or n.startswith(THETA_PREFIX)]
        places = [header.index(name) for name in names]
        for row in rows:
            digest.update("\x1f".join(row[k] for k in places).encode() + b"\x1e")
    index = DatasetIndex.read(folder / index_file)
    digest.update("\x1f".join(index.header).encode() + b"\x1e")
    labels = [label for label in index.labels if label not in index.empty_columns]
    digest.update(index.label_values(labels).astype("<f8").tobytes())
    for channel in index.channels:
        if INPUT_PREFIX + channel in index.empty_columns:
            continue
        for values in stored_maps(index, channel):
            content = np.ascontiguousarray(values)
            content = content.astype(content.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{content.dtype.str}{content.shape}".encode())
            digest.update(content.tobytes())
    return digest.hexdigest()


def read_generator(folder: Path) -> GeneratorConfig | None:
    """How the maps of the dataset in `folder` were made, if it says so.

    Raises:
        DataError, ConfigError: the file is there but broken.
    """
    path = folder / GENERATOR_JSON
    if not path.is_file():
        return None
    return GeneratorConfig.parse(read_json_object(path), str(path))


def _rows_by_index(
    folder: Path, shards: Iterable[ShardRecord], number: int
) -> list[tuple[ShardRecord, SimulationRow]]:
    located: dict[int, tuple[ShardRecord, SimulationRow]] = {}
    for shard in shards:
        for row in shard.rows:
            if row.index in located:
                raise DataError(
                    f"{folder}: simulation {row.index} is in {located[row.index][0].name} "
                    f"and in {shard.name}"
                )
            located[row.index] = (shard, row)
    missing = [index for index in range(number) if index not in located]
    if missing:
        named = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        raise DataError(f"{folder}: no finished shard holds the simulations {named}")
    beyond = sorted(index for index in located if not 0 <= index < number)
    if beyond:
        raise DataError(
            f"{folder}: the shards hold simulation {beyond[0]}, theta has {number} rows: "
            "they belong to another set of parameters"
        )
    return [located[index] for index in range(number)]


def _manifest(
    rows: Sequence[SimulationRow], labels: Sequence[str], theta: NDArray[np.float64]
) -> tuple[list[str], list[list[Any]]]:
    flat = [_flatten(row.info) for row in rows]
    extra = sorted({key for info in flat for key in info} - set(MANIFEST_COLUMNS))
    header = [*MANIFEST_COLUMNS, *(THETA_PREFIX + label for label in labels), *extra]
    table = [
        [
            *(row.index, row.seed, row.status, row.attempts, float(row.seconds), row.message),
            *(float(value) for value in theta[row.index]),
            *(info.get(key) for key in extra),
        ]
        for row, info in zip(rows, flat, strict=True)
    ]
    return header, table


def _flatten(info: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}:")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _reasons(rows: Sequence[SimulationRow]) -> str:
    failures = Counter(
        f"{row.status}: {row.message or 'no message'}" for row in rows if row.status not in USABLE
    )
    named = [f"{count} x {reason}" for reason, count in failures.most_common(3)]
    return "commonest reasons: " + "; ".join(named)


def _picture(folder: Path, shard: ShardRecord, channel: str, index: int) -> str:
    packed = np.load(folder / SHARDS_FOLDER / shard.name / f"{channel}.npy", mmap_mode="r")
    name = f"{channel}_{index}.png"
    write_image(folder / name, packed[shard.position[index]])
    return name
