"""Data at `s3://...` as local files: mirrored into the cache, checked, and used again."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Any

from mlpop.config.fields import Location, S3Uri
from mlpop.datasets.packed_shards import PACKED_NAME, unpack_shard
from mlpop.datasets.shards import SHARDS_FOLDER, read_shard
from mlpop.errors import DataError
from mlpop.io.cache import cache_folder
from mlpop.io.files import read_json_object, sha256_of, write_json
from mlpop.io.locks import alone_in
from mlpop.io.s3 import ObjectInfo, ObjectStore

STATE_FILE = ".mirror.json"
FILE_SUFFIXES = (".json", ".npy", ".pickle", ".png", ".pt", ".safetensors")
"""Suffixes by which a URI names one file; any other names a folder."""
THREADS = 4

logger = getLogger(__name__)


def localized(location: Location) -> Path:
    """Return a local path with the content of `location`.

    A path comes back as it is. What lies in an object store is mirrored into the cache: a single
    file, a folder with all that is below it, or, for an index file `.csv`, the folder that it is
    in. Files that are there already and unchanged are not fetched again. Packed shards become
    folders, so that a dataset that mlpop wrote there is a dataset here.

    Args:
        location: a path, or `s3://bucket/...`.

    Raises:
        DataError: there is nothing at `location`, its content is damaged, or the disk refuses.
        StoreAway, TrackingError: the store cannot be used.
    """
    if not isinstance(location, S3Uri):
        return location
    store = ObjectStore()
    if location.suffix == ".csv":
        return _mirror(store, location.parent, needed=location.name) / location.name
    if location.suffix in FILE_SUFFIXES:
        info = store.head(location)
        if info is None:
            raise DataError(f"{location}: no such object at {store.settings}")
        return _update(store, location, {location.name: info}) / location.name
    return _mirror(store, location, needed=None)


def _mirror(store: ObjectStore, uri: S3Uri, needed: str | None) -> Path:
    prefix = f"{uri}/"
    objects = {item.uri.removeprefix(prefix): item for item in store.list(uri)}
    if not objects or (needed is not None and needed not in objects):
        what = uri if needed is None else uri / needed
        raise DataError(f"{what}: there is nothing at {store.settings} under this name")
    return _update(store, uri, objects)


def _place(store: ObjectStore, uri: S3Uri) -> Path:
    key = hashlib.sha256(f"{store.settings.endpoint}\n{uri}".encode()).hexdigest()[:16]
    return cache_folder() / "s3" / key / (uri.name or uri.bucket)


def _update(store: ObjectStore, uri: S3Uri, objects: dict[str, ObjectInfo]) -> Path:
    """Make the folder of `uri` hold these objects, by their paths in it, and no earlier ones."""
    folder = _place(store, uri)
    with alone_in(folder, above=True):
        recorded = _recorded_files(folder)
        files = {
            name: recorded[name]
            for name, info in objects.items()
            if _is_good(folder / name, recorded.get(name, {}), info)
        }
        for name in recorded.keys() - files.keys():
            path = folder / name
            if PACKED_NAME.fullmatch(path.name):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)
        missing = [name for name in objects if name not in files]
        if not missing:
            return folder
        logger.info("%s: fetching %d of %d objects", folder, len(missing), len(objects))
        # what a killed launch had fetched is fetched again, never taken for good
        write_json(folder / STATE_FILE, files)
        with ThreadPoolExecutor(THREADS, "mirror") as pool:
            entries = pool.map(lambda name: _fetch(store, folder, name, objects[name]), missing)
            files |= dict(zip(missing, entries, strict=True))
        write_json(folder / STATE_FILE, files)
    return folder


def _recorded_files(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / STATE_FILE
    if not path.is_file():
        return {}
    try:
        return {str(name): dict(entry) for name, entry in read_json_object(path).items()}
    except (DataError, TypeError, ValueError) as error:
        logger.warning("%s: %s; everything is fetched again", path, error)
        return {}


def _is_good(path: Path, entry: dict[str, Any], info: ObjectInfo) -> bool:
    """Whether what is here is the object as it is stored now, down to its content."""
    if (entry.get("etag"), entry.get("bytes")) != (info.etag, info.bytes) or not info.etag:
        return False
    try:
        if "shard" in entry:
            shard = path.with_suffix("")
            return _shard_digest(shard, _states(shard)) == str(entry["shard"])
        return _digest(path, _states(path)) == str(entry.get("sha256"))
    except (DataError, OSError):
        return False


def _states(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of change of a file, or of the files in a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    status = ((file.name, file.stat()) for file in files)
    return tuple((name, s.st_size, s.st_mtime_ns) for name, s in status)


@cache
def _digest(path: Path, _states: object) -> str:
    """SHA-256 of a file, taken once in a process while the file stays as it is."""
    return sha256_of(path)


@cache
def _shard_digest(shard: Path, _states: object) -> str:
    """Digest of a shard that is whole, taken once in a process likewise."""
    return read_shard(shard).digest


def _fetch(store: ObjectStore, folder: Path, name: str, info: ObjectInfo) -> dict[str, Any]:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.name.startswith("."):
        raise DataError(f"{info.uri}: its name cannot be that of a file in the mirror")
    # the listing may be older than the object by now
    newest = store.download(info.uri, path)
    entry: dict[str, Any] = {"etag": newest.etag, "bytes": newest.bytes}
    if path.parent.name == SHARDS_FOLDER and PACKED_NAME.fullmatch(path.name):
        number = int(path.stem.removeprefix("shard-"))
        record = unpack_shard(path, path.parent.parent, number=number, replace=True)
        path.unlink()
        return entry | {"shard": record.digest}
    return entry | {"sha256": _digest(path, _states(path))}
