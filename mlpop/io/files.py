"""Writing so that a file is there whole or not at all, and digests of files."""

import csv
import hashlib
import io
import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlpop.config.reading import (
    Unreadable,
    check_text,
    missing_file,
    parse_json,
    read_text,
    unique_fields,
)
from mlpop.errors import DataError

logger = logging.getLogger(__name__)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` to a temporary neighbour of `path`, flush it to disk, and rename it.

    Raises:
        DataError: the file cannot be written.
    """
    with _appearing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def make_way(path: Path) -> None:
    """Move away a folder that lies where a file is to be written; remove a link, and say so."""
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        names = (path.with_name(f"{path.name}.in-the-way-{k}") for k in itertools.count())
        other = path.rename(next(name for name in names if not name.exists()))
        logger.warning("%s: a folder was where a file belongs; it is now %s", path, other)


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """Give a temporary neighbour of `path` to be written, which then takes its place.

    Raises:
        DataError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: Path, values: Any) -> None:
    """Write `values` as indented JSON, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_array(path: Path, values: NDArray) -> None:
    """Write one array as `.npy`, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a data file that holds one JSON object.

    Raises:
        DataError: the file is missing, not JSON, names a field twice, or holds something else.
    """
    try:
        values = parse_json(read_text(path), partial(unique_fields, path, DataError))
    except FileNotFoundError:
        raise DataError(missing_file(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a comma-separated table, whole or not at all.

    Floats are written with the fewest digits that read back as the same bits; None is empty.
    """
    spelling = {True: "true", False: "false"}
    with _appearing(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([spelling[v] if isinstance(v, bool) else v for v in row])
        text.flush()
        text.detach()


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a comma-separated table: its header and its rows as text.

    Raises:
        DataError: the file is missing or unreadable, has no header, repeats a column, or a row
            has another number of fields.
    """
    rows = csv_rows(path)
    return next(rows), list(rows)


def csv_rows(path: Path) -> Iterator[list[str]]:
    """Yield the header of a comma-separated table, then its rows, as text; see `read_csv`."""
    try:
        check_text(path)
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = (row for row in csv.reader(text) if row)
            header = next(rows, None)
            if header is None:
                raise DataError(f"{path}: the file is empty; expected a header row")
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise DataError(f"{path}: column {', '.join(repeated)} appears more than once")
            yield header
            for number, row in enumerate(rows):
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: row {number} has {len(row)} fields, the header has {len(header)}"
                    )
                yield row
    except FileNotFoundError:
        raise DataError(missing_file(path)) from None
    except (OSError, Unreadable, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from None


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(content: Any) -> str:
    """Hexadecimal SHA-256 of `content` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
