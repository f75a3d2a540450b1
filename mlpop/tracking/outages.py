"""Stores that are away for a while: what may pass, how long to wait, what to say in the end."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mlpop.config.fields import S3Uri
from mlpop.errors import MlpopError, TrackingError
from mlpop.io.errors import StoreAway
from mlpop.io.patience import Patience, persist
from mlpop.io.s3 import ObjectStore
from mlpop.tracking.signals import stopping
from mlpop.tracking.store import few_retries, translated

KEPT = "what is finished is kept on disk, and `--resume` goes on from it"

PROBE_SECONDS = 5.0

# Errors of MLflow that no waiting mends.
_FOR_GOOD = {
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
_DISK = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS}
_SHAPE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.ENODEV),
}
"""Something else is where a file or a folder should be."""
_FULL = ("disk is full", "No space left", "Disk quota exceeded", "File too large")
_DISK_TEXTS = (*_FULL, "readonly database", "Permission denied")

Value = TypeVar("Value")


def passes(error: Exception) -> bool:
    """Whether a store that failed like this may work again by itself.

    A refusal, a full disk or a missing file stays; a connection that fails, a server that is
    overloaded or a locked database may pass.
    """
    if isinstance(error, StoreAway):
        return True
    if not isinstance(error, TrackingError):
        return False
    verdicts = [verdict for e in _causes(error) if (verdict := _verdict(e)) is not None]
    return bool(verdicts) and all(verdicts)


def patiently(attempt: Callable[[], Value], what: str, patience: Patience | None = None) -> Value:
    """Return `attempt()`, tried again until a deadline while the store is away.

    Args:
        attempt: one request; whatever it raises becomes a TrackingError that names `what`.
        what: the run, artifact or place that it is about.
        patience: how long; by default as `MLPOP_STORE_DEADLINE` says. After a signal to stop
            there is one attempt.

    Raises:
        TrackingError: the store refuses, or was away until the deadline. Then the message says
            what is kept, and how to go on.
    """
    patience = patience or Patience.from_environment()

    def once(_: float) -> Value:
        with few_retries(), translated(what):
            return attempt()

    try:
        return persist(once, patience, passing=lambda e: passes(e) and not stopping(), what=what)
    except TrackingError as error:
        if not passes(error):
            raise
        raise TrackingError(f"{error}; tried for {patience.deadline:g} s; {KEPT}") from error


@contextmanager
def resumable() -> Iterator[None]:
    """Let the error of a store that is away, or of a full disk, say what is kept, how to go on."""
    try:
        yield
    except MlpopError as error:
        full = any(text in str(error) for text in _FULL)
        if KEPT in str(error) or not (full or passes(error)):
            raise
        raise type(error)(f"{error}; {'make room: ' if full else ''}{KEPT}") from error


def answers(tracking_uri: str, artifact_uri: str) -> bool:
    """Whether the servers behind a run can be reached at all: asked within seconds.

    MLflow's own requests try for minutes, and how often is one setting for the whole process; a
    thread in the background must not change it.

    Args:
        tracking_uri: of the tracking store.
        artifact_uri: where the artifacts of the run are.
    """
    if tracking_uri.startswith(("http://", "https://")):
        import requests

        try:
            requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=PROBE_SECONDS)
        except requests.RequestException:
            return False
    if artifact_uri.startswith("s3://"):
        try:
            store = ObjectStore(patience=Patience(PROBE_SECONDS))
            store.head(S3Uri(artifact_uri) / ".mlpop-probe")
        except StoreAway:
            return False
        except (MlpopError, ValueError):
            # refused is not away: the request itself will tell
            return True
    return True


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error.__cause__
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _verdict(error: BaseException) -> bool | None:
    """Whether this cause may pass; None where it says nothing."""
    home = type(error).__module__.partition(".")[0]
    if any(text in str(error) for text in _DISK_TEXTS):
        return False
    if isinstance(error, StoreAway):
        return True
    if home == "mlflow":
        return getattr(error, "error_code", "INTERNAL_ERROR") not in _FOR_GOOD
    if home in ("botocore", "s3transfer"):
        from mlpop.io.errors import is_passing

        return isinstance(error, Exception) and is_passing(error)
    if home in ("requests", "urllib3", "sqlalchemy", "sqlite3", "http"):
        return True
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno not in _DISK | _SHAPE
    return None
