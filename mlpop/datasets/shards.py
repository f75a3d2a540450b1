"""Shards: the maps of a group of simulations, written once, by the worker that made them.

A shard is a folder `<dataset>/shards/shard-00012/` with one packed array `<channel>.npy` of shape
(n, ...) a channel, and `shard.json`: a record of every simulation, usable or not, and the size
and SHA-256 of every array. It appears by one rename, so it is there whole or not at all.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from mlpop.datasets.precision import BEYOND, is_beyond
from mlpop.errors import DataError
from mlpop.io.files import json_digest, read_json_object, sha256_of, sync_folder

SCHEMA = 1
SHARDS_FOLDER = "shards"
RECORD_FILE = "shard.json"

RAGGED, ROWS_SUFFIX = "detected_", "_rows"
"""Arrays of which simulations have different numbers of rows: packed one after the other, with
the number of rows of each in `<name>_rows.npy`. They may hold values that are not finite."""

Status = Literal["ok", "limit", "failed", "timeout", "invalid"]
STATUSES: tuple[Status, ...] = ("ok", "limit", "failed", "timeout", "invalid")
USABLE: tuple[Status, ...] = ("ok", "limit")
"""Statuses whose maps enter a dataset; `limit` ended at the birth-rate cap and is flagged."""

logger = getLogger(__name__)


@dataclass(frozen=True)
class SimulationRow:
    """One simulation, or its recorded failure.

    Attributes:
        index: number of the simulation in its dataset.
        seed: what its random numbers came from, as text that a person can use again.
        status: see `STATUSES`.
        attempts: how often it was tried.
        seconds: time of the last attempt [s].
        message: reason of a failure, else empty.
        info: what the simulator reports (detections, birth rates): JSON values only.
        maps: array by channel, all channels in every usable row; empty for a failure.
    """

    index: int
    seed: str
    status: Status = "ok"
    attempts: int = 1
    seconds: float = 0.0
    message: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, NDArray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ShardRecord:
    """What `shard.json` says.

    Attributes:
        name: name of the shard's folder.
        number: number of the shard.
        channels: names of the packed arrays.
        rows: the simulations, without maps, in the order of their index.
        position: row in the packed arrays by simulation index, usable simulations only.
        arrays: `{"bytes", "sha256", "shape", "dtype"}` of each channel's file.
    """

    name: str
    number: int
    channels: tuple[str, ...]
    rows: tuple[SimulationRow, ...]
    position: Mapping[int, int]
    arrays: Mapping[str, Mapping[str, Any]]

    @property
    def digest(self) -> str:
        """SHA-256 of the content: indices, seeds, statuses and arrays, but no timing."""
        content = {
            "rows": [[row.index, row.seed, row.status] for row in self.rows],
            "arrays": {channel: self.arrays[channel]["sha256"] for channel in self.channels},
        }
        return json_digest(content)

    def cell(self, channel: str, index: int) -> str:
        """Cell of an index file: `shards/shard-00012/<channel>.npy#3`."""
        return f"{SHARDS_FOLDER}/{self.name}/{channel}.npy#{self.position[index]}"


def shard_name(number: int) -> str:
    """Return the name of the folder of shard `number`: `shard-00012`."""
    return f"shard-{number:05d}"


def write_shard(folder: Path, shard_index: int, rows: Sequence[SimulationRow]) -> ShardRecord:
    """Write the shard number `shard_index` of the dataset in `folder`.

    A usable row with a value that is not finite, or beyond float32, becomes `invalid`. Writing
    the same content again changes nothing; a damaged shard of that number is replaced.

    Raises:
        DataError: rows repeat an index, usable rows differ in channels or shapes, the shard is
            there with another content, or the disk refuses.
    """
    rows = sorted((_judge(row) for row in rows), key=lambda row: row.index)
    name = shard_name(shard_index)
    target = folder / SHARDS_FOLDER / name
    packed = _pack(rows, name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{name}.", dir=target.parent, ignore_cleanup_errors=True
        ) as temporary:
            Path(temporary).chmod(0o755)
            record = _write_files(Path(temporary), name, shard_index, rows, packed)
            publish_shard(Path(temporary), target, record)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    return record


def read_shard(shard: Path, *, name: str | None = None) -> ShardRecord:
    """Read the record of a finished shard, a folder, and check its files.

    Its `name` is that of the folder now, unless it is still on its way to another place.

    Raises:
        DataError: the record is missing or broken, or an array is missing, truncated or altered.
    """
    record = read_record(shard, name=name)
    try:
        for channel in record.channels:
            check_array(shard / f"{channel}.npy", record.arrays[channel])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shard / RECORD_FILE}: broken record: {error!r}; simulate this shard again"
        ) from None
    return record


def read_record(shard: Path, *, name: str | None = None) -> ShardRecord:
    """Read the record of a finished shard, a folder, and none of its files; see `read_shard`."""
    path = shard / RECORD_FILE
    values = read_json_object(path)
    if values.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: schema {values.get('schema')} is not readable here; expected {SCHEMA}"
        )
    try:
        stored = values["rows"]
        return ShardRecord(
            name=name or shard.name,
            number=int(values["number"]),
            channels=tuple(values["channels"]),
            rows=tuple(
                SimulationRow(**{k: v for k, v in row.items() if k != "position"})
                for row in stored
            ),
            position={r["index"]: r["position"] for r in stored if r["position"] is not None},
            arrays=values["arrays"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: broken record: {error!r}; simulate this shard again") from None


class ShardRecords(Sequence[ShardRecord]):
    """The records of finished shards that were checked, read again when they are asked for.

    Those of a million simulations do not fit into memory.

    Args:
        folder: of the dataset.
        numbers: of the shards, in order.
    """

    def __init__(self, folder: Path, numbers: Sequence[int]) -> None:
        self._folder, self._numbers = folder, tuple(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> ShardRecord: ...
    @overload
    def __getitem__(self, place: slice) -> "ShardRecords": ...
    def __getitem__(self, place: int | slice) -> "ShardRecord | ShardRecords":
        if isinstance(place, slice):
            return ShardRecords(self._folder, self._numbers[place])
        return read_record(self._folder / SHARDS_FOLDER / shard_name(self._numbers[place]))


def finished_shards(folder: Path) -> dict[int, ShardRecord]:
    """Shards of the dataset in `folder` that are whole, by number; see `each_finished_shard`."""
    return {record.number: record for record in each_finished_shard(folder)}


def each_finished_shard(folder: Path) -> Iterator[ShardRecord]:
    """Yield the shards of the dataset in `folder` that are whole.

    A damaged shard is named in a warning and left out, so that a resume makes it again.
    """
    for shard in sorted((folder / SHARDS_FOLDER).glob("shard-*")):
        if not re.fullmatch(r"shard-\d{5,}", shard.name):
            continue
        try:
            yield read_shard(shard)
        except DataError as error:
            logger.warning("%s; the shard will be made again", error)


def check_array(path: Path, expected: Mapping[str, Any]) -> None:
    """Compare one packed array with its entry in the shard's record.

    Raises:
        DataError: the file is missing, has another size, or another SHA-256.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing from its shard; simulate this shard again")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise DataError(
            f"{path}: {size} bytes where the shard's record says {expected['bytes']}: "
            "truncated or altered; simulate this shard again"
        )
    if sha256_of(path) != expected["sha256"]:
        raise DataError(
            f"{path}: content differs from the SHA-256 in the shard's record; "
            "simulate this shard again"
        )


def _judge(row: SimulationRow) -> SimulationRow:
    if row.status not in STATUSES:
        raise DataError(
            f"simulation {row.index}: status '{row.status}' is none of {', '.join(STATUSES)}"
        )
    if row.status not in USABLE:
        return replace(row, maps={})
    maps = {name: values for name, values in row.maps.items() if not name.startswith(RAGGED)}
    bad = [channel for channel, values in maps.items() if not np.isfinite(values).all()]
    large = [channel for channel, values in maps.items() if is_beyond(values)]
    if row.maps and not bad and not large:
        return row
    reason = f"values that are not finite in {', '.join(bad)}" if bad else "no maps"
    if large and not bad:
        reason = f"{', '.join(large)}: {BEYOND}"
    return replace(row, status="invalid", message=reason, maps={})


def _pack(rows: Sequence[SimulationRow], name: str) -> dict[str, NDArray]:
    indices = [row.index for row in rows]
    if len(set(indices)) != len(indices):
        raise DataError(f"{name}: a simulation index appears twice in {indices}")
    usable = [row for row in rows if row.maps]
    if not usable:
        return {}
    channels = list(usable[0].maps)
    for row in usable:
        if list(row.maps) != channels:
            raise DataError(
                f"{name}: simulation {row.index} has the channels {', '.join(row.maps)}, "
                f"simulation {usable[0].index} has {', '.join(channels)}"
            )
    packed = {}
    for channel in channels:
        if channel.startswith(RAGGED):
            parts = [row.maps[channel] for row in usable]
            packed[channel] = np.concatenate(parts)
            packed[channel + ROWS_SUFFIX] = np.array([len(part) for part in parts])
            continue
        shapes = {row.index: row.maps[channel].shape for row in usable}
        if len(set(shapes.values())) != 1:
            raise DataError(f"{name}: {channel} differs in shape between simulations: {shapes}")
        packed[channel] = np.stack([row.maps[channel] for row in usable])
    return packed


def _write_files(
    folder: Path,
    name: str,
    number: int,
    rows: Sequence[SimulationRow],
    packed: Mapping[str, NDArray],
) -> ShardRecord:
    arrays: dict[str, dict[str, Any]] = {}
    # Not forced to the disk one by one, which took a twentieth of a campaign: what a power failure
    # tears is found by its SHA-256 and made again.
    for channel, values in packed.items():
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        data = buffer.getbuffer()
        (folder / f"{channel}.npy").write_bytes(data)
        arrays[channel] = {
            "bytes": data.nbytes,
            "sha256": hashlib.sha256(data).hexdigest(),
            "shape": list(values.shape),
            "dtype": values.dtype.str,
        }
    usable = [row.index for row in rows if row.maps]
    position = {index: k for k, index in enumerate(usable)}
    bare = tuple(replace(row, maps={}, info=dict(row.info)) for row in rows)
    record = ShardRecord(name, number, tuple(packed), bare, position, arrays)
    stored = [vars(row) | {"position": position.get(row.index)} for row in bare]
    for entry in stored:
        del entry["maps"]
    content = {
        "schema": SCHEMA,
        "number": number,
        "digest": record.digest,
        "channels": list(packed),
        "rows": stored,
        "arrays": arrays,
    }
    with (folder / RECORD_FILE).open("w", encoding="utf-8") as file:
        # json.dump, and any indent, would not use the encoder in C
        file.write(json.dumps(content, default=_plain))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a simulator's info must hold JSON values, found {type(value).__name__}")


def publish_shard(
    temporary: Path, target: Path, record: ShardRecord, *, replace: bool = False
) -> None:
    """Rename a shard's temporary folder to its place; a damaged shard there gives way.

    With `replace` a whole shard with another content gives way too.

    Raises:
        DataError: a shard with another content is there.
        OSError: the disk refuses.
    """
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        _replace_shard(temporary, target, record, other_content=replace)
    sync_folder(target.parent)


def _replace_shard(
    temporary: Path, target: Path, record: ShardRecord, *, other_content: bool
) -> None:
    try:
        present = read_shard(target)
    except DataError as error:
        logger.warning("%s; replaced", error)
    else:
        if present.digest == record.digest:
            return
        if not other_content:
            raise DataError(
                f"{target}: is there with another content (digest {present.digest[:12]}, "
                f"now {record.digest[:12]}): same simulations must give the same maps; "
                "remove the folder if theta, seed or code changed on purpose"
            )
    doomed = Path(tempfile.mkdtemp(prefix=f".{record.name}.old.", dir=target.parent))
    target.rename(doomed / "replaced")
    temporary.rename(target)
    shutil.rmtree(doomed, ignore_errors=True)
