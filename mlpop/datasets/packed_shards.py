"""A shard as one file: an uncompressed zip of its folder, the same bytes for the same files.

It is what travels: to the artifacts of a run, and to a dataset in an object store.
"""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlpop.datasets.shards import (
    RECORD_FILE,
    SHARDS_FOLDER,
    ShardRecord,
    publish_shard,
    read_shard,
    shard_name,
)
from mlpop.errors import DataError
from mlpop.io.files import read_json_object, sync_folder

PACKED_NAME = re.compile(r"shard-(\d{5,})\.zip")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
_MODE = 0o100644 << 16
_LARGEST_RECORD = 64 * 2**20  # [byte]


def packed_name(number: int) -> str:
    """Return the name of the file of shard `number`: `shard-00012.zip`."""
    return f"{shard_name(number)}.zip"


def pack_shard(shard: Path, target: Path) -> Path:
    """Write a finished shard, a folder, as the file `target`; return that.

    Its bytes depend on the shard's files alone.

    Raises:
        DataError: the shard is damaged, or the file cannot be written.
    """
    record = read_shard(shard)
    names = [RECORD_FILE, *sorted(f"{channel}.npy" for channel in record.channels)]
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name in names:
                _add(archive, shard / name, name)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


@contextmanager
def packed(shard: Path) -> Iterator[Path]:
    """Give a shard as one file within the block.

    Raises:
        DataError: as `pack_shard`.
    """
    with tempfile.TemporaryDirectory(prefix="mlpop-", ignore_cleanup_errors=True) as folder:
        yield pack_shard(shard, Path(folder, f"{shard.name}.zip"))


def unpack_shard(
    file: Path, dataset: Path, *, number: int | None = None, replace: bool = False
) -> ShardRecord:
    """Put a packed shard into the dataset's `shards/`; it appears whole or not at all.

    A shard that is there whole already, with the same content, stays; a damaged one is replaced.

    Args:
        file: the zip.
        dataset: folder of the dataset.
        number: of the shard that is expected; None takes any.
        replace: whether a whole shard with another content gives way.

    Raises:
        DataError: the file is no packed shard, holds names or sizes that its record does not
            list, its arrays differ from their SHA-256, a shard with another content is there, or
            the disk refuses.
    """
    shards = dataset / SHARDS_FOLDER
    try:
        shards.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".shard-unpacked.", dir=shards))
    except OSError as error:
        raise DataError(f"{shards}: cannot be written: {error.strerror or error}") from error
    try:
        temporary.chmod(0o755)
        found = _extract(file, temporary)
        if number is not None and found != number:
            raise DataError(f"{file}: holds shard {found}, expected shard {number}")
        record = read_shard(temporary, name=shard_name(found))
        target = shards / record.name
        sync_folder(temporary)
        publish_shard(temporary, target, record, replace=replace)
        return record
    except OSError as error:
        raise DataError(f"{file}: cannot be unpacked: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.external_attr = _MODE
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(entry, "w") as sink:
        shutil.copyfileobj(source, sink, 2**20)


def _extract(file: Path, folder: Path) -> int:
    """Extract the files of a packed shard that its record lists; return the shard's number."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            _check_entries(file, entries, len(archive.infolist()))
            _copy(archive, entries[RECORD_FILE], folder)
            number = _check_record(file, folder / RECORD_FILE, entries)
            for name, entry in entries.items():
                if name != RECORD_FILE:
                    _copy(archive, entry, folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{file}: is no packed shard, or is damaged: {error}") from None
    return number


def _check_entries(file: Path, entries: dict[str, zipfile.ZipInfo], count: int) -> None:
    for name, entry in entries.items():
        if name != Path(name).name or name in (".", "..") or "\\" in name or entry.is_dir():
            raise DataError(f"{file}: holds the name {name!r}, which leaves the shard's folder")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise DataError(f"{file}: {name} is compressed; packed shards are not")
    if RECORD_FILE not in entries or count != len(entries):
        raise DataError(f"{file}: is no packed shard: no {RECORD_FILE}, or a name twice")
    if entries[RECORD_FILE].file_size > _LARGEST_RECORD:
        raise DataError(f"{file}: {RECORD_FILE} is larger than {_LARGEST_RECORD} bytes")


def _check_record(file: Path, record: Path, entries: dict[str, zipfile.ZipInfo]) -> int:
    values = read_json_object(record)
    number, arrays = values.get("number"), values.get("arrays")
    if not isinstance(number, int) or number < 0 or not isinstance(arrays, dict):
        raise DataError(f"{file}: {RECORD_FILE} does not say which shard it is of")
    listed = {f"{channel}.npy" for channel in arrays} | {RECORD_FILE}
    if listed != set(entries):
        differing = ", ".join(sorted(listed ^ set(entries)))
        raise DataError(f"{file}: its files are not those of its record: {differing}")
    for channel, expected in arrays.items():
        if entries[f"{channel}.npy"].file_size != expected.get("bytes"):
            raise DataError(f"{file}: {channel}.npy has another size than its record says")
    return number


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    with archive.open(entry) as source, (folder / entry.filename).open("xb") as sink:
        shutil.copyfileobj(source, sink, 2**20)
        sink.flush()
