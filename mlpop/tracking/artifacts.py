"""Files of a run that can be trusted: sent one by one, listed with digests, checked when read.

MLflow keeps no checksums, and sending a folder is not atomic. So files go singly, and a manifest
with the SHA-256 of each goes last of all: a run without a manifest that verifies is not complete.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mlpop.errors import TrackingError
from mlpop.io.embedded_store import is_readable, read_run
from mlpop.io.files import make_way, sha256_of
from mlpop.io.moved_store import local_folder
from mlpop.io.records import BrokenRecord, read_record
from mlpop.tracking.address import sqlite_file
from mlpop.tracking.outages import patiently
from mlpop.tracking.store import translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

MANIFEST = "COMPLETE.json"
MANIFEST_SCHEMA = 1


class BrokenManifest(BrokenRecord):
    """The manifest of a run is there but says nothing that can be trusted."""


@dataclass(frozen=True)
class Record:
    """What the manifest says of one artifact: its SHA-256 in hex, and its size."""

    sha256: str
    bytes: int


class _Entry(BaseModel):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    version: int = Field(alias="schema")
    digest: str
    artifacts: dict[str, _Entry]


_MANIFEST = TypeAdapter(_Manifest)


def file_record(path: Path) -> Record:
    """Return digest and size of a file."""
    return Record(sha256_of(path), path.stat().st_size)


def send(client: "MlflowClient", run_id: str, path: Path, name: str | None = None) -> Record:
    """Store one file as an artifact; wait for a store that is away.

    Args:
        client: MLflow client.
        run_id: the run.
        path: the file.
        name: path among the artifacts with `/`, by default the file's name at the top.

    Returns:
        What a manifest has to say of it.

    Raises:
        TrackingError: the file is missing or cannot be stored.
    """
    what = f"artifact {name or path.name} of run {run_id}"
    return patiently(lambda: send_once(client, run_id, path, name), what)


def send_once(client: "MlflowClient", run_id: str, path: Path, name: str | None = None) -> Record:
    """Store one file as an artifact, in one attempt; see `send`."""
    target = PurePosixPath(name or path.name)
    if not path.is_file():
        raise TrackingError(f"{path}: no such file, to be stored as artifact {target}")
    folder = None if target.parent == PurePosixPath(".") else str(target.parent)
    with translated(f"artifact {target} of run {run_id}"), _named(path, target.name) as local:
        record = file_record(path)
        if (place := _embedded_folder(client, run_id)) is not None:
            make_way(place / target)
        try:
            client.log_artifact(run_id, str(local), folder)
        except OSError as error:
            place = local_folder(client.get_run(run_id).info.artifact_uri or "")
            if place is None or error.errno is None:
                raise
            reason = f"{place}: cannot be written: {error.strerror}"
            raise TrackingError(f"artifact {target} of run {run_id}: {reason}") from error
    return record


def commit(
    client: "MlflowClient",
    run_id: str,
    files: Mapping[str, Path],
    earlier: Mapping[str, Record] | None = None,
) -> dict[str, Any]:
    """Store files and, last of all, the manifest that makes the run count as complete.

    Args:
        client: MLflow client.
        run_id: the run.
        files: name among the artifacts -> file.
        earlier: records of artifacts that were sent before.

    Returns:
        The manifest.

    Raises:
        TrackingError: a file is missing, cannot be stored, or was stored with another size. The
            manifest is then not written.
    """
    records = dict(earlier or {})
    for name, path in files.items():
        records[name] = send(client, run_id, path, name)
    sizes = _stored_sizes(client, run_id, records)
    for name, record in records.items():
        if sizes.get(name) != record.bytes:
            raise TrackingError(
                f"run {run_id}: artifact {name} has {sizes.get(name, 'no')} bytes in the store, "
                f"{record.bytes} were sent; nothing is marked complete"
            )
    artifacts = {
        name: {"sha256": records[name].sha256, "bytes": records[name].bytes}
        for name in sorted(records)
    }
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "run_id": run_id,
        "digest": _content_digest(records),
        "artifacts": artifacts,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MANIFEST)
        path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        send(client, run_id, path, MANIFEST)
    return manifest


def read_manifest(client: "MlflowClient", run_id: str) -> dict[str, Any] | None:
    """Return the manifest of a run, None if it has none.

    Raises:
        BrokenManifest: it is not a manifest, was cut off, or was changed.
        TrackingError: the store cannot be read.
    """
    if MANIFEST not in listed(client, run_id):
        return None
    what = f"{MANIFEST} of run {run_id}"
    try:
        with fetched(client, run_id, MANIFEST) as path:
            checked = read_record(path, f"{what}: cannot be read", _MANIFEST)
            manifest = checked.model_dump(by_alias=True)
            records = manifest_records(manifest)
    except BrokenRecord as error:
        raise BrokenManifest(str(error)) from None
    schema = manifest["schema"]
    if schema != MANIFEST_SCHEMA:
        raise BrokenManifest(f"{what}: schema {schema}, this mlpop reads {MANIFEST_SCHEMA}")
    if manifest["digest"] != _content_digest(records):
        raise BrokenManifest(f"{what}: its digest does not fit its list")
    return manifest


def manifest_records(manifest: Mapping[str, Any]) -> dict[str, Record]:
    """Return name -> record of the artifacts that a manifest lists."""
    return {
        str(name): Record(str(entry["sha256"]), int(entry["bytes"]))
        for name, entry in manifest["artifacts"].items()
    }


def verify(
    client: "MlflowClient", run_id: str, read_back: Callable[[str, Record], Record] | None = None
) -> list[str]:
    """Read every artifact of a run back and compare it with the manifest.

    Args:
        client: MLflow client.
        run_id: the run.
        read_back: reads an artifact of which the manifest says this and returns its record, by
            default without keeping a copy.

    Returns:
        One line for everything that is wrong; empty if the run is complete and whole.

    Raises:
        TrackingError: the store itself cannot be read.
    """
    try:
        manifest = read_manifest(client, run_id)
    except BrokenManifest as error:
        return [str(error)]
    if manifest is None:
        return [f"{MANIFEST} is missing"]
    wrong = []
    expected = manifest_records(manifest)
    sizes = _stored_sizes(client, run_id, expected)
    for name, record in expected.items():
        if name not in sizes:
            wrong.append(f"{name}: missing")
        elif sizes[name] != record.bytes:
            wrong.append(f"{name}: {sizes[name]} bytes, {record.bytes} expected")
        else:
            read = read_back(name, record) if read_back else stored_record(client, run_id, name)
            found = read.sha256
            if found != record.sha256:
                wrong.append(f"{name}: SHA-256 {found[:12]}…, {record.sha256[:12]}… expected")
    return wrong


def stored_record(client: "MlflowClient", run_id: str, name: str) -> Record:
    """Read an artifact back and return its record.

    Raises:
        TrackingError: it is missing or cannot be read.
    """
    with fetched(client, run_id, name) as path:
        return file_record(path)


@contextmanager
def fetched(client: "MlflowClient", run_id: str, name: str) -> Iterator[Path]:
    """Give an artifact as a local file to be read within the block, without a copy if it is local.

    Raises:
        TrackingError: it is missing or cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="mlpop-") as folder:
        path = local_path(client, run_id, name)
        if path is None:
            path = Path(folder, PurePosixPath(name).name)
            download(client, run_id, name, path)
        yield path


def local_path(client: "MlflowClient", run_id: str, name: str) -> Path | None:
    """Return the file in which the store keeps an artifact, None if it is not on this machine.

    Raises:
        BrokenRecord: it is a link to another folder, or to itself.
        TrackingError: the store cannot be read.
    """
    folder = _embedded_folder(client, run_id)
    if folder is not None and "%" not in require_safe(name):
        path = folder / name
        try:
            inside = path.resolve().is_relative_to(folder.resolve())
        except (OSError, RuntimeError):
            raise BrokenRecord(
                f"artifact {name!r} of run {run_id}: {path} is a link that leads to itself"
            ) from None
        if not inside:
            raise BrokenRecord(f"artifact {name!r} of run {run_id}: leads out of its folder")
        if not path.exists():
            raise TrackingError(f"artifact {name} of run {run_id}: No such artifact: '{name}'")
        return path.absolute()

    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository = _repository(client, run_id)
    if not isinstance(repository, LocalArtifactRepository):
        return None
    with translated(f"artifact {name} of run {run_id}"):
        return Path(repository.get_local_path(require_safe(name)))


def download(client: "MlflowClient", run_id: str, name: str, path: Path) -> None:
    """Copy an artifact to exactly this file, whatever the store says of its name.

    Args:
        client: MLflow client.
        run_id: the run.
        name: of the artifact, with `/`.
        path: a file that does not matter yet: it may be left half-written by an error.

    Raises:
        TrackingError: it is missing, cannot be read, or its name leaves the artifacts.
    """
    what = f"artifact {require_safe(name)} of run {run_id}"
    repository = _repository(client, run_id)

    # MLflow's public way follows the store's own listing to local paths
    patiently(lambda: repository._download_file(name, str(path)), what)


def listed(client: "MlflowClient", run_id: str, folder: str | None = None) -> dict[str, int]:
    """Return name -> size of the artifacts directly in a folder of a run.

    Raises:
        TrackingError: the store cannot be read, or lists a name that is not in that folder.
    """
    what = f"artifacts of run {run_id}"
    try:
        items = patiently(lambda: client.list_artifacts(run_id, folder), what)
    except TrackingError:
        # MLflow gives up where one of them is a link that leads to itself
        place = _embedded_folder(client, run_id)
        if place is None or not (place / (folder or "")).is_dir():
            raise
        files = [path for path in (place / (folder or "")).iterdir() if path.is_file()]
        return {str(PurePosixPath(folder or "", p.name)): p.stat().st_size for p in files}
    sizes = {item.path: int(item.file_size or 0) for item in items if not item.is_dir}
    for name in sizes:
        if str(PurePosixPath(require_safe(name)).parent) != (folder or "."):
            raise TrackingError(f"{what}: the store lists {name!r}, which is not in {folder!r}")
    return sizes


def require_safe(name: str) -> str:
    """Return the name of an artifact, if it stays within its folder.

    Raises:
        TrackingError: it is absolute, has `..`, or a character that no name has.
    """
    path = PurePosixPath(name)
    odd = "\\" in name or "\0" in name or str(path) != name
    if not name or odd or path.is_absolute() or ".." in path.parts:
        raise TrackingError(
            f"artifact {name!r}: its name would leave the folder it belongs to; nothing is "
            "read or written"
        )
    return name


def _embedded_folder(client: "MlflowClient", run_id: str) -> Path | None:
    """Return the folder of a run's artifacts where that is known without MLflow, else None."""
    database = sqlite_file(client.tracking_uri)
    if database is None or not is_readable(database):
        return None
    with translated(f"artifacts of run {run_id}"):
        run = read_run(database, run_id)
    return None if run is None else local_folder(run.info.artifact_uri or "")


def _repository(client: "MlflowClient", run_id: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    def attempt() -> Any:
        uri = client.get_run(run_id).info.artifact_uri
        return get_artifact_repository(uri, tracking_uri=client.tracking_uri)

    return patiently(attempt, f"artifacts of run {run_id}")


@contextmanager
def _named(path: Path, name: str) -> Iterator[Path]:
    """Give `path` under another file name: MLflow names an artifact after its file."""
    if path.name == name:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, name)
        try:
            other.symlink_to(path.absolute())
        except OSError:
            shutil.copyfile(path, other)
        yield other


def _stored_sizes(
    client: "MlflowClient", run_id: str, names: Mapping[str, Record]
) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for folder in sorted({str(PurePosixPath(require_safe(name)).parent) for name in names}):
        sizes |= listed(client, run_id, None if folder == "." else folder)
    return sizes


def _content_digest(records: Mapping[str, Record]) -> str:
    lines = (f"{name} {records[name].sha256}\n" for name in sorted(records))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
