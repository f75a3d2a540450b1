"""Shards to a dataset: index file, manifest, statistics, and a digest of the content."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from mlpop.io.files import csv_rows, read_json_object, write_csv, write_json

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


@dataclass(frozen=True, eq=False)
class Contents:
    """The simulations of a dataset; their records are read again, shard by shard.

    Attributes:
        shards: records of all shards.
        order: places in `shards` in the order of their simulations; None where the simulations of
            shards are mixed.
        usable: (N,) whether simulation k gave maps.
        counts: simulations by status.
        failures: simulations by status and reason, those that failed.
        extra: names of what simulators report, besides what every manifest has.
    """

    shards: Collection[ShardRecord]
    order: NDArray[np.intp] | None
    usable: NDArray[np.bool_]
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    extra: tuple[str, ...]

    def rows(self) -> Iterator[tuple[ShardRecord, SimulationRow]]:
        """Yield the simulations in the order of their index, each with its shard."""
        if self.order is None:
            mixed = ((shard, row) for shard in self.shards for row in shard.rows)
            yield from sorted(mixed, key=lambda pair: pair[1].index)
            return
        shards = self.shards
        if (self.order != np.arange(len(self.order))).any():
            unordered = list(self.shards)
            shards = [unordered[k] for k in self.order]
        for shard in shards:
            for row in sorted(shard.rows, key=lambda row: row.index):
                yield shard, row

    def reasons(self) -> str:
        """Return the commonest reasons of failures, for a message."""
        common = Counter(self.failures).most_common(3)
        return "commonest reasons: " + "; ".join(f"{count} x {name}" for name, count in common)


def assemble(
    folder: Path,
    labels: Sequence[str],
    theta: NDArray[np.float64],
    channels: Sequence[str],
    shards: Collection[ShardRecord],
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
    contents = contents_of(folder, shards, len(theta))
    write_csv(
        folder / MANIFEST_CSV,
        [*MANIFEST_COLUMNS, *(THETA_PREFIX + label for label in labels), *contents.extra],
        _manifest(contents, theta),
    )
    if generator is not None:
        write_json(folder / GENERATOR_JSON, generator.model_dump(mode="json"))
    check_success(contents, min_success_fraction, source=str(folder))
    if not contents.usable.any():
        raise DataError(f"{folder}: no usable simulation; {contents.reasons()}")
    pictures = generator is not None and generator.data_type == "image"

    def table() -> Iterator[list[str | float]]:
        for shard, row in contents.rows():
            if row.status not in USABLE:
                continue
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
            yield [*cells, *(float(value) for value in theta[row.index])]

    header = [*(INPUT_PREFIX + channel for channel in channels), *labels]
    if labels:
        write_json(folder / FULL_STATISTICS, label_statistics(theta[contents.usable], labels))
    write_csv(folder / FULL_CSV, header, table())
    indices = tuple(np.flatnonzero(contents.usable).tolist())
    return Assembled(folder / FULL_CSV, indices, contents.counts)


def check_success(contents: Contents, min_success_fraction: float | None, *, source: str) -> None:
    """Refuse a set of simulations of which too many failed.

    Raises:
        DataError: says how many failed and the commonest reasons.
    """
    number, usable = len(contents.usable), int(contents.usable.sum())
    if min_success_fraction is None or usable >= min_success_fraction * number - 1e-9:
        return
    raise DataError(
        f"{source}: {number - usable} of {number} simulations failed: a fraction of "
        f"{usable / number:.3f} is usable, min_success_fraction asks for "
        f"{min_success_fraction}; {contents.reasons()}"
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
        rows = csv_rows(manifest)
        header = next(rows)
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


def contents_of(folder: Path, shards: Collection[ShardRecord], number: int) -> Contents:
    """Look through the shards of a dataset of `number` simulations in a folder.

    Raises:
        DataError: simulations are missing or twice in the shards, or there are others.
    """
    status = np.full(number, -1, dtype=np.int8)
    holder = np.full(number, -1, dtype=np.int32)
    names: list[str] = []
    ranges = np.zeros((len(shards), 2), dtype=np.int64)
    beyond: list[int] = []
    failures: Counter[str] = Counter()
    extra: set[str] = set()
    for place, shard in enumerate(shards):
        names.append(shard.name)
        found = [row.index for row in shard.rows]
        ranges[place] = (min(found), max(found)) if found else (0, -1)
        for row in shard.rows:
            extra.update(flatten(row.info))
            if row.status not in USABLE:
                failures[f"{row.status}: {row.message or 'no message'}"] += 1
            if not 0 <= row.index < number:
                beyond.append(row.index)
                continue
            if holder[row.index] >= 0:
                raise DataError(
                    f"{folder}: simulation {row.index} is in {names[holder[row.index]]} and in "
                    f"{shard.name}"
                )
            holder[row.index], status[row.index] = place, STATUSES.index(row.status)
    missing = np.flatnonzero(holder < 0)
    if len(missing):
        named = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        raise DataError(f"{folder}: no finished shard holds the simulations {named}")
    if beyond:
        raise DataError(
            f"{folder}: the shards hold simulation {min(beyond)}, theta has {number} rows: "
            "they belong to another set of parameters"
        )
    order = np.argsort(ranges[:, 0], kind="stable")
    apart = bool((ranges[order][1:, 0] > ranges[order][:-1, 1]).all())
    counts = {str(name): int((status == k).sum()) for k, name in enumerate(STATUSES)}
    usable = np.isin(status, [STATUSES.index(name) for name in USABLE])
    left = sorted(extra - set(MANIFEST_COLUMNS))
    return Contents(shards, order if apart else None, usable, counts, failures, tuple(left))


def flatten(info: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `info` without nesting: names of inner values are joined by colons."""
    flat: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}:")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _manifest(contents: Contents, theta: NDArray[np.float64]) -> Iterator[list[Any]]:
    for _, row in contents.rows():
        flat = flatten(row.info)
        yield [
            *(row.index, row.seed, row.status, row.attempts, float(row.seconds), row.message),
            *(float(value) for value in theta[row.index]),
            *(flat.get(key) for key in contents.extra),
        ]


def _picture(folder: Path, shard: ShardRecord, channel: str, index: int) -> str:
    packed = np.load(folder / SHARDS_FOLDER / shard.name / f"{channel}.npy", mmap_mode="r")
    name = f"{channel}_{index}.png"
    write_image(folder / name, packed[shard.position[index]])
    return name
