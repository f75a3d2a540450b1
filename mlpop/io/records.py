"""Records that a store keeps, read with a schema and limits: a store may hold anything.

Whatever is torn, empty, of another shape, too large or too deep is a `BrokenRecord`, and what it
stands for counts as not done: never as something else.
"""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from mlpop.config.reading import is_shallow
from mlpop.errors import DataError, TrackingError

LARGEST_JSON = 64 * 2**20  # [byte] a manifest of 100 000 shards has 15 MB
DEEPEST_JSON = 64
LONGEST_NUMBER = 18  # digits of a number in a tag

Content = TypeVar("Content")
OBJECT = TypeAdapter(dict[str, Any])
NPY_MAGIC = b"\x93NUMPY"
ODD_CONTENT = (
    DataError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What code raises that is given a record of another shape than it expects."""


NO_FILE = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
"""What the system says of a place where something else than a file is."""


class BrokenRecord(TrackingError):
    """A record of a store is there but says nothing that can be used."""


def read_record(path: Path, what: str, schema: TypeAdapter[Content]) -> Content:
    """Read a JSON record.

    Args:
        path: the file.
        what: what messages call it.
        schema: what it must be; fields that the schema does not name are allowed.

    Raises:
        BrokenRecord: it is no JSON, larger or deeper than any record is, or of another shape.
    """
    with malformed(what):
        size = path.stat().st_size
        if size > LARGEST_JSON:
            raise BrokenRecord(f"{what}: {size} bytes, at most {LARGEST_JSON} are read")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not is_shallow(values, DEEPEST_JSON):
            raise BrokenRecord(f"{what}: is nested deeper than {DEEPEST_JSON} levels")
        try:
            return schema.validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            shape = "is no JSON object" if not place else f"{place}: {first['msg'].lower()}"
            raise BrokenRecord(f"{what}: {shape}") from None


def read_numbers(path: Path, what: str) -> NDArray[Any]:
    """Read an `.npy` file of numbers, as many as it says it has.

    Raises:
        BrokenRecord: it is no such file, holds objects, or has another size than its header says.
    """
    with malformed(what), path.open("rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise BrokenRecord(f"{what}: is no .npy file")
        file.seek(0)
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        held = os.fstat(file.fileno()).st_size - file.tell()
        if dtype.hasobject or dtype.kind not in "biuf":
            raise BrokenRecord(f"{what}: holds {dtype}, not numbers")
        if math.prod(shape) * dtype.itemsize != held:
            raise BrokenRecord(
                f"{what}: holds {held} bytes, an array of shape {shape} has "
                f"{math.prod(shape) * dtype.itemsize}"
            )
        file.seek(0)
        values: NDArray[Any] = np.load(file, allow_pickle=False)
        return values


def tag_number(tags: Mapping[str, str], key: str) -> int | None:
    """Return the whole number of at least 0 that a tag holds; None if it holds none."""
    text = tags.get(key, "")
    plain = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    return int(text) if plain else None


@contextmanager
def malformed(what: str) -> Iterator[None]:
    """Turn what a block raises that meets another shape than it expects into a `BrokenRecord`."""
    try:
        yield
    except TrackingError:
        raise
    except OSError as error:
        kind = BrokenRecord if error.errno in NO_FILE else TrackingError
        raise kind(f"{what}: cannot be read: {error.strerror or error}") from error
    except ODD_CONTENT as error:
        reason = str(error)[:300] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"has no {reason}"
        raise BrokenRecord(f"{what}: {reason}") from error
