"""What a run keeps in the tracking store, put back into local folders: for a resume anywhere."""

import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mlpop.datasets.packed_shards import PACKED_NAME, unpack_shard
from mlpop.datasets.shards import SHARDS_FOLDER, finished_shards
from mlpop.errors import DataError, TrackingError
from mlpop.experiment.output_tree import existing_parent
from mlpop.io.locks import alone_in
from mlpop.tracking.artifacts import (
    BrokenManifest,
    Record,
    download,
    fetched,
    file_record,
    listed,
    local_path,
    manifest_records,
    read_manifest,
    require_safe,
    stored_record,
)
from mlpop.tracking.store import Store

logger = logging.getLogger(__name__)

THREADS = 4
SHARD = re.compile(rf"[^/]+/{SHARDS_FOLDER}/[^/]+")


class Downloads:
    """Artifacts that are read back to be verified, kept to be restored: each is fetched once.

    Nothing is copied of a store on this machine. Copies that nobody takes go with this object.

    Args:
        near: the copies lie in a hidden folder here, or where this is to be made, on the disk of
            what is restored; by default among the temporary files.
        shards: whether packed shards are kept too.
    """

    def __init__(self, near: Path | None = None, *, shards: bool = True) -> None:
        self._near = near
        self._shards = shards
        self._folder: Path | None = None
        self._records: dict[tuple[str, str], Record] = {}

    def read_back(self, store: Store, run_id: str, name: str, expected: Record) -> Record:
        """Read an artifact back, keep it, and return its record.

        One that was before what the manifest says, `expected`, is not read again.

        Raises:
            TrackingError: it is missing or cannot be read.
            DataError: the disk refuses.
        """
        if self._records.get((run_id, name)) != expected:
            skipped = SHARD.fullmatch(name) and not self._shards
            if skipped or local_path(store.client, run_id, name) is not None:
                record = stored_record(store.client, run_id, name)
            else:
                copy = self._copy(run_id, name)
                download(store.client, run_id, name, copy)
                record = file_record(copy)
            self._records[run_id, name] = record
        return self._records[run_id, name]

    def take(self, store: Store, run_id: str, name: str, path: Path) -> None:
        """Move the copy of an artifact to `path`, or fetch the artifact; see `download`."""
        if self._folder is not None and (copy := self._copy(run_id, name)).is_file():
            shutil.move(copy, path)
        else:
            download(store.client, run_id, name, path)

    @contextmanager
    def opened(self, store: Store, run_id: str, name: str) -> Iterator[Path]:
        """Give an artifact as a local file to be read within the block; see `fetched`."""
        if self._folder is not None and (copy := self._copy(run_id, name)).is_file():
            yield copy
        else:
            with fetched(store.client, run_id, name) as path:
                yield path

    def forget(self, run_id: str) -> None:
        """Delete what is left of a run's copies."""
        if self._folder is not None:
            shutil.rmtree(self._folder / run_id, ignore_errors=True)

    def _copy(self, run_id: str, name: str) -> Path:
        try:
            if self._folder is None:
                near = None if self._near is None else existing_parent(self._near)
                self._folder = Path(tempfile.mkdtemp(prefix=".mlpop-", dir=near))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / run_id / require_safe(name)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"artifact {name}: cannot be kept: {error}") from error
        return path


def restore_shards(
    store: Store, run_id: str, kind: str, folder: Path, downloads: Downloads | None = None
) -> dict[str, Record]:
    """Put the shards that a run keeps into a dataset's folder; only those that it lacks.

    A shard that was damaged on the way or in the store is named in a warning and left out; it
    will be simulated again, to the same bits.

    Args:
        kind: `training` or `test`.
        downloads: has artifacts that were fetched already.

    Returns:
        Records of the artifacts that were fetched, by name.

    Raises:
        TrackingError: the store cannot be read, or lists names that leave their folder.
        DataError: the folder cannot be written, or holds other shards than the run.
    """
    above = f"{kind}/{SHARDS_FOLDER}"
    names = {}
    for name in listed(store.client, run_id, above):
        if match := PACKED_NAME.fullmatch(name.removeprefix(f"{above}/")):
            names[int(match[1])] = name
    if not names:
        return {}
    expected = expected_records(store, run_id)
    source = downloads or Downloads()
    with alone_in(folder):
        missing = sorted(names.keys() - finished_shards(folder).keys())
        with (
            tempfile.TemporaryDirectory(prefix="mlpop-") as scratch,
            ThreadPoolExecutor(THREADS, "restore-shards") as pool,
        ):

            def restore(number: int) -> Record | None:
                name, packed = names[number], Path(scratch, f"{number}.zip")
                source.take(store, run_id, name, packed)
                return _restore_shard(run_id, name, number, folder, packed, expected.get(name))

            records = dict(zip(missing, pool.map(restore, missing), strict=True))
    restored = {names[number]: record for number, record in records.items() if record is not None}
    if restored:
        logger.info("%s: %d shards restored from run %s", folder, len(restored), run_id)
    return restored


def restore_files(
    store: Store,
    run_id: str,
    names: Iterable[str] | Mapping[str, str],
    folder: Path,
    downloads: Downloads | None = None,
) -> dict[str, Path]:
    """Put artifacts of a run into a local folder; see `restore_paths`.

    `names` may be a mapping from the names to paths in the folder, by default the same.

    Returns:
        Name -> local file.

    Raises:
        TrackingError: an artifact is missing, differs from the manifest, or its name or its path
            would leave the folder. Files that were put back until then stay: they are whole.
        DataError: the folder cannot be written.
    """
    targets = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    paths = {
        require_safe(name): folder / require_safe(str(target)) for name, target in targets.items()
    }
    for name, path in paths.items():
        if not path.resolve().is_relative_to(folder.resolve()):
            raise TrackingError(f"artifact {name!r}: {path} is not in {folder}; a link leads out")

    restore_paths(store, run_id, paths, downloads)
    return paths


def restore_paths(
    store: Store, run_id: str, paths: Mapping[str, Path], downloads: Downloads | None = None
) -> None:
    """Put artifacts of a run at local paths; those stay that the manifest says are there.

    `downloads` has those that were fetched already.

    Raises:
        TrackingError: an artifact is missing, or differs from the manifest.
        DataError: a file cannot be written.
    """
    expected, source = expected_records(store, run_id), downloads or Downloads()

    def restore(name: str) -> None:
        path, record = paths[name], expected.get(name)
        if record is None or not path.is_file() or file_record(path) != record:
            _restore_file(store, run_id, name, path, record, source)

    with ThreadPoolExecutor(THREADS, "restore-files") as pool:
        list(pool.map(restore, paths))


def expected_records(store: Store, run_id: str) -> dict[str, Record]:
    """Return name -> record of what a run's manifest lists, empty without one that can be used."""
    try:
        manifest = read_manifest(store.client, run_id)
    except BrokenManifest as error:
        logger.warning("%s; it counts as missing", error)
        return {}
    return {} if manifest is None else manifest_records(manifest)


def _restore_shard(
    run_id: str, name: str, number: int, folder: Path, file: Path, expected: Record | None
) -> Record | None:
    try:
        record = file_record(file)
        if expected is not None and record != expected:
            raise DataError(f"SHA-256 {record.sha256[:12]}…, {expected.sha256[:12]}… expected")
        unpack_shard(file, folder, number=number)
    except DataError as error:
        logger.warning("artifact %s of run %s: %s; not restored", name, run_id, error)
        return None
    finally:
        file.unlink(missing_ok=True)
    return record


def _restore_file(
    store: Store, run_id: str, name: str, path: Path, expected: Record | None, source: Downloads
) -> None:
    """Copy one artifact of a run to `path`, whole or not at all, over what is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            fresh = Path(scratch, path.name)
            source.take(store, run_id, name, fresh)
            record = file_record(fresh)
            if expected is not None and record != expected:
                raise TrackingError(
                    f"artifact {name} of run {run_id}: SHA-256 {record.sha256[:12]}…, its "
                    f"manifest says {expected.sha256[:12]}…: it was changed in the store"
                )
            fresh.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
