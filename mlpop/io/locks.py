"""Locks between processes, and the one folder for those that belong to no other folder.

They hold on file systems without `flock` too, and between users that share a folder.
"""

import errno
import functools
import logging
import multiprocessing.util
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from mlpop.errors import DataError

logger = logging.getLogger(__name__)

LOCK = ".lock"
NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What `flock` says on a file system without locks: NFS without its lock service, some Lustre."""

LONGEST_SOCKET = 107
"""Bytes of the path of a unix socket, see unix(7)."""

ROOM_FOR_SOCKET = 34
"""Of those, what multiprocessing appends: `/pymp-xxxxxxxx/listener-xxxxxxxx`."""

EVERYBODY = 0o666
PLACES = ("/tmp", "/var/tmp", "/dev/shm")
"""Where a folder for sockets may be, before what `TMPDIR` says."""


class NotLocked(DataError):
    """Another process holds the lock, or its file or folder cannot be had."""


@contextmanager
def locked(path: Path, *, timeout: float = -1.0, waiting: str = "") -> Iterator[None]:
    """Hold a lock for the length of a block; users who may write in its folder share it.

    Where the file system has no `flock` the lock is a file beside it that names its process; one
    of a process of this machine that died is removed.

    Args:
        path: of the lock file.
        timeout: longest wait [s]; negative waits for ever.
        waiting: said in the log if another process holds it.

    Raises:
        NotLocked: it cannot be had, or the file cannot be opened.
    """
    lock = _acquired(path, timeout, waiting)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone_in(folder: Path, *, above: bool = False) -> Iterator[None]:
    """Keep other launches from clearing away what this one is writing; wait where one is there.

    The folder is made where it is missing. With `above` the lock is kept in the folder above,
    because the content of this one is a mirror.

    Raises:
        DataError: the folder cannot be made or written.
    """
    make_folder(folder)
    path = (folder.parent if above else folder) / LOCK
    with locked(path, waiting=f"{folder}: another launch is filling this folder; waiting for it"):
        yield


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        NotLocked: it cannot be made; the message says what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror or error}{_advice(folder, error)}"
        raise NotLocked(f"{folder}: cannot be written: {reason}") from error


@functools.cache
def private_folder() -> Path:
    """Return a folder of this user alone, with a path short enough for sockets.

    It is the same for all processes of a user on a machine, whatever `TMPDIR` says.

    Raises:
        DataError: there is none; the message says what to set.
    """
    places = [*PLACES, tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", "")]
    reasons = []
    for place in dict.fromkeys(places):
        folder = Path(place, f"mlpop-{os.getuid()}")
        if not place:
            continue
        if len(os.fsencode(folder)) + ROOM_FOR_SOCKET > LONGEST_SOCKET:
            reasons.append(f"{place} is too long for the path of a socket")
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.lstat()
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror or error}")
            continue
        mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
        if mine and os.access(folder, os.W_OK):
            folder.chmod(0o700)
            return folder
        reasons.append(f"{folder}: belongs to somebody else")
    raise DataError(
        "no folder for locks and sockets, of which the paths have at most "
        f"{LONGEST_SOCKET} bytes: {'; '.join(reasons)}; set TMPDIR to a folder of your own with "
        f"a path of at most {LONGEST_SOCKET - ROOM_FOR_SOCKET} bytes"
    )


def make_room_for_sockets() -> None:
    """Let multiprocessing put its sockets into a short folder where `TMPDIR` is too long.

    To be called before its fork server is used: it makes its folder once, by `tempfile`, and
    removes it at the end of the process.

    Raises:
        DataError: there is no short folder; the message says what to set.
    """
    if len(os.fsencode(tempfile.gettempdir())) + ROOM_FOR_SOCKET <= LONGEST_SOCKET:
        return
    before = tempfile.tempdir
    tempfile.tempdir = str(private_folder())
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = before


def _acquired(path: Path, timeout: float, waiting: str) -> BaseFileLock:
    try:
        return _held(FileLock(path, mode=EVERYBODY), timeout, waiting)
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise NotLocked(
                f"{path}: cannot be locked: {error.strerror or error}{_advice(path, error)}"
            ) from error
        _warn_once(path.parent, error.strerror)
    soft = path.with_name(f"{path.name}.soft")
    try:
        return _held(SoftFileLock(soft), timeout, f"{waiting} (its lock is {soft})")
    except OSError as error:
        raise NotLocked(
            f"{soft}: cannot be locked: {error.strerror or error}{_advice(soft, error)}"
        ) from error


def _held(lock: BaseFileLock, timeout: float, waiting: str) -> BaseFileLock:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting:
            logger.info("%s", waiting)
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            raise NotLocked(
                f"{lock.lock_file}: another process has held this lock for {timeout:g} s; end it, "
                "or delete the file if there is none"
            ) from None
    return lock


def _advice(path: Path, error: OSError) -> str:
    """Return what to do where another user's file or folder is in the way."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    there = next(place for place in (path, *path.parents) if place.exists())
    place, right = (there, "rw") if there.is_file() else (there, "rwx")
    return (
        f": {place} belongs to another user, who can mend it with `chmod a+{right} {place}`; or "
        "give a folder of your own"
    )


@functools.cache
def _warn_once(folder: Path, reason: str) -> None:
    logger.warning(
        "%s: its file system has no locks (%s): lock files are used instead; a launch on another "
        "machine that dies leaves its own behind, to be deleted by hand",
        folder,
        reason,
    )
