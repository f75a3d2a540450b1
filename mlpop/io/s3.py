"""One object store: objects sent, fetched, listed; each with the SHA-256 of its content.

Large objects travel in parts, several at a time, and are never held in memory whole. The digest
is kept in the object's metadata; a fetched file appears under its name only once it has been
compared with it.
"""

import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from mlpop.config.fields import S3Uri
from mlpop.errors import ConfigError, DataError, MlpopError, TrackingError
from mlpop.io.errors import NoSuchObject, StoreAway, is_passing, translated
from mlpop.io.files import sha256_of
from mlpop.io.patience import Patience, persist

SHA256 = "sha256"  # name of the digest in an object's metadata
PART_BYTES = 8 * 2**20
CONNECTIONS = 4  # of one transfer
LONGEST_SILENCE = 30.0  # [s] a connection that says nothing for so long is given up
# a request is tried twice by botocore, and the body of an answer is read twice
_TRIES_A_REQUEST = 4
_TIMEOUTS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, LONGEST_SILENCE)
_PREFLIGHT = Patience(deadline=15.0)

Value = TypeVar("Value")


@dataclass(frozen=True)
class StoreSettings:
    """Where the store is; holds no secret, so that it may travel to workers.

    Attributes:
        endpoint: its URL; None: Amazon's.
        verify_tls: whether its certificate is checked.
        addressing: `path`, `virtual` or `auto`: how requests name the bucket.
    """

    endpoint: str | None = None
    verify_tls: bool = True
    addressing: str = "auto"

    @classmethod
    def from_environment(cls) -> "StoreSettings":
        """Read the variables that MLflow reads too, so that one setting serves both."""
        variables = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        endpoints = [url for name in variables if (url := os.environ.get(name))]
        ignore = os.environ.get("MLFLOW_S3_IGNORE_TLS", "").lower() in ("true", "1")
        style = os.environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE") or "auto"
        return cls(endpoints[0] if endpoints else None, not ignore, style)

    def __str__(self) -> str:
        return self.endpoint or "Amazon S3"


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says of an object.

    Attributes:
        uri: its name.
        bytes: its size.
        etag: changes when the object is replaced.
        metadata: what was stored with it; empty in a listing.
    """

    uri: S3Uri
    bytes: int
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the content in hex, None where the sender did not say."""
        return self.metadata.get(SHA256)


@dataclass(frozen=True)
class ObjectStore:
    """An object store; can be pickled. Credentials are found as boto3 finds them.

    Every operation is tried until its deadline while failures may pass, then raises StoreAway;
    it ends at the deadline, or at most one read of the network later.
    """

    settings: StoreSettings = field(default_factory=StoreSettings.from_environment)
    patience: Patience = field(default_factory=Patience.from_environment)

    def upload(self, path: Path, uri: S3Uri, metadata: Mapping[str, str] | None = None) -> str:
        """Store a file as an object; it appears whole or not at all, and replaces one of its name.

        Returns:
            SHA-256 of the content in hex, which is kept in the object's metadata.

        Raises:
            StoreAway: the store cannot be reached.
            TrackingError: the store refuses.
            DataError: the file cannot be read, or changed meanwhile.
        """
        before = _state(path)

        def send(client: Any, progress: Any) -> None:
            with _transfers(client) as manager:
                manager.upload(str(path), uri.bucket, uri.key, extra, [progress]).result()

        try:
            digest = sha256_of(path)
            extra = {"Metadata": {**(metadata or {}), SHA256: digest}}
            self._transfer(send, uri)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        if _state(path) != before:
            raise DataError(f"{path}: changed while it was stored as {uri}; store it again")
        return digest

    def download(self, uri: S3Uri, path: Path) -> ObjectInfo:
        """Fetch an object into a file; it appears whole, and as it was sent, or not at all.

        Raises:
            NoSuchObject: there is none.
            StoreAway: the store cannot be reached.
            TrackingError: the store refuses.
            DataError: the content is not what was stored, or the file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
            os.close(handle)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
        temporary = Path(name)
        try:
            info = self._fetch(uri, temporary)
            temporary.chmod(0o644)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return info

    def head(self, uri: S3Uri) -> ObjectInfo | None:
        """Return what the store says of an object, None if there is none.

        Raises:
            StoreAway: the store cannot be reached.
            TrackingError: the store refuses, or there is no such bucket.
        """
        try:
            answer = self._call("head_object", uri, Bucket=uri.bucket, Key=uri.key)
        except NoSuchObject:
            self._require_bucket(uri)
            return None
        return _info(uri, answer)

    def list(self, folder: S3Uri) -> Iterator[ObjectInfo]:
        """Yield every object below a folder, in the order of their names.

        Raises:
            StoreAway: the store cannot be reached.
            TrackingError: the store refuses, or there is no such bucket.
            DataError: a name cannot be that of a file in the folder.
        """
        prefix = f"{folder.key}/" if folder.key else ""
        token: dict[str, str] = {}
        while True:
            page = self._call(
                "list_objects_v2", folder, Bucket=folder.bucket, Prefix=prefix, **token
            )
            for entry in page.get("Contents", ()):
                key = str(entry["Key"])
                if key.endswith("/"):
                    continue
                try:
                    uri = S3Uri(f"s3://{folder.bucket}/{key}")
                except ValueError as error:
                    raise DataError(f"{folder}: the name of an object {error}") from None
                if not key.startswith(prefix):
                    raise DataError(f"{folder}: the store lists {uri}, which is not in it")
                yield ObjectInfo(uri, int(entry["Size"]), str(entry.get("ETag", "")).strip('"'))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, uri: S3Uri) -> None:
        """Delete an object, if it is there."""
        self._call("delete_object", uri, Bucket=uri.bucket, Key=uri.key)

    def _fetch(self, uri: S3Uri, path: Path) -> ObjectInfo:
        """Fetch into `path`; a transfer that damaged the content is tried once more."""
        for attempt in (1, 2):
            info = self.head(uri)
            if info is None:
                raise NoSuchObject(f"{uri}: no such object at {self.settings}")

            def receive(client: Any, progress: Any) -> None:
                with path.open("wb") as file, _transfers(client) as manager:
                    manager.download(uri.bucket, uri.key, file, subscribers=[progress]).result()

            self._transfer(receive, uri)
            fault = _fault(path, info)
            if fault is None:
                return info
            newest = self.head(uri)
            if attempt == 2 and newest is not None and newest.etag == info.etag:
                raise DataError(f"{uri}: {fault}: it was damaged or replaced; store it again")
        raise DataError(f"{uri}: is being replaced while it is read; try again later")

    def _require_bucket(self, uri: S3Uri) -> None:
        try:
            self._call("head_bucket", uri, Bucket=uri.bucket)
        except NoSuchObject:
            raise TrackingError(
                f"{uri}: no such bucket '{uri.bucket}' at {self.settings}; make it, or correct "
                "its name"
            ) from None

    def _call(self, operation: str, uri: S3Uri, **arguments: Any) -> dict[str, Any]:
        def attempt(left: float) -> dict[str, Any]:
            return dict(getattr(self._client(left), operation)(**arguments))

        return self._persist(attempt, uri)

    def _transfer(self, operation: Callable[[Any, Any], None], uri: S3Uri) -> None:
        def attempt(left: float) -> None:
            from boto3.s3.transfer import ProgressCallbackInvoker

            over = threading.Event()
            timer = threading.Timer(left, over.set)
            timer.daemon = True
            timer.start()

            def watch(_: int) -> None:
                if over.is_set():
                    raise StoreAway(f"{uri}: not transferred within {self.patience.deadline:g} s")

            try:
                operation(self._client(left), ProgressCallbackInvoker(watch))
            finally:
                timer.cancel()

        self._persist(attempt, uri)

    def _persist(self, attempt: Callable[[float], Value], uri: S3Uri) -> Value:
        try:
            return persist(attempt, self.patience, passing=is_passing, what=str(uri))
        except MlpopError:
            raise
        except Exception as error:
            # some of botocore's are OSErrors too; the others are of the local disk
            if isinstance(error, OSError) and not is_passing(error):
                raise
            raise translated(error, str(uri), str(self.settings)) from error

    def _client(self, left: float) -> Any:
        longest = left / _TRIES_A_REQUEST
        timeout = max((t for t in _TIMEOUTS if t <= longest), default=_TIMEOUTS[0])
        return _client(self.settings, timeout, os.getpid())


def check_remote(remote: S3Uri, field: str) -> None:
    """Refuse a place at which objects cannot be stored and read.

    Raises:
        ConfigError: naming the field, and the reason.
    """
    store = ObjectStore(patience=_PREFLIGHT)
    uri = remote / f".mlpop-{uuid.uuid4().hex}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            sent, back = Path(folder, "sent"), Path(folder, "back")
            sent.write_text(uri.name)
            store.upload(sent, uri)
            store.download(uri, back)
        store.delete(uri)
    except MlpopError as error:
        raise ConfigError(f"{field}: '{remote}' cannot be used: {error}") from error


@lru_cache(maxsize=16)
def _client(settings: StoreSettings, timeout: float, _process: int) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint,
        verify=None if settings.verify_tls else False,
        config=Config(
            connect_timeout=min(timeout, 10.0),
            read_timeout=timeout,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=4 * CONNECTIONS,
            s3={"addressing_style": settings.addressing},
        ),
    )


def _transfers(client: Any) -> Any:
    from boto3.s3.transfer import TransferConfig
    from s3transfer.manager import TransferManager

    return TransferManager(
        client,
        TransferConfig(
            multipart_threshold=PART_BYTES,
            multipart_chunksize=PART_BYTES,
            max_concurrency=CONNECTIONS,
            num_download_attempts=2,
            io_chunksize=64 * 1024,
        ),
    )


def _info(uri: S3Uri, answer: Mapping[str, Any]) -> ObjectInfo:
    metadata = {str(k).lower(): str(v) for k, v in answer.get("Metadata", {}).items()}
    size, etag = int(answer["ContentLength"]), str(answer.get("ETag", "")).strip('"')
    return ObjectInfo(uri, size, etag, metadata)


def _fault(path: Path, info: ObjectInfo) -> str | None:
    size = path.stat().st_size
    if size != info.bytes:
        return f"{size} bytes came, {info.bytes} are stored"
    if info.sha256 is not None and (digest := sha256_of(path)) != info.sha256:
        return f"content differs from its SHA-256 ({digest[:12]}…, {info.sha256[:12]}… expected)"
    return None


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return status.st_size, status.st_mtime_ns
