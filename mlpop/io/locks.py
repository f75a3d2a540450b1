"""Folders that one launch at a time may write."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlpop.errors import DataError

logger = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def alone_in(folder: Path, *, above: bool = False) -> Iterator[None]:
    """Keep other launches from clearing away what this one is writing; wait where one is there.

    The folder is made where it is missing. With `above` the lock is kept in the folder above,
    because the content of this one is a mirror.

    Raises:
        DataError: the folder cannot be made or written.
    """
    lock = FileLock((folder.parent if above else folder) / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("%s: another launch is filling this folder; waiting for it", folder)
            lock.acquire()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
