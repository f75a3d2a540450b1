"""Columns of an index file as numbers: a million rows take a few bytes a cell, not an object."""

import re
from array import array
from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

_PACKED = re.compile(r"(?P<path>.+\.npy)#(?P<row>\d{1,18})")
WHOLE = -1
"""The row of a cell that names a file of one map."""


def number_in(text: str) -> float:
    """Return the number that a text is.

    Raises:
        ValueError: it is none. `1_000` and digits of other scripts, which Python reads, are none.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"could not convert string to float: '{text}'")
    return float(text)


class PathColumn:
    """Cells that name maps: `shards/shard-00012/a.npy#3`, or a file of one map."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._known: dict[str, int] = {}
        self._codes, self._rows = array("i"), array("q")
        self._odd: dict[int, str] = {}

    def append(self, text: str) -> None:
        """Take in the next cell."""
        packed = _PACKED.fullmatch(text)
        name, row = (packed["path"], int(packed["row"])) if packed else (text, WHOLE)
        code = self._known.get(name)
        if code is None:
            code = self._known[name] = len(self._names)
            self._names.append(name)
        if packed and str(row) != packed["row"]:
            self._odd[len(self._codes)] = text
        self._codes.append(code)
        self._rows.append(row)

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def names(self) -> Sequence[str]:
        """The files as written, each once, in the order of their first cells."""
        return self._names

    @property
    def codes(self) -> NDArray[np.int32]:
        """(N,) which of `names` each cell has."""
        return np.frombuffer(self._codes, np.int32) if self._codes else np.empty(0, np.int32)

    @property
    def packed_rows(self) -> NDArray[np.int64]:
        """(N,) row in the file, `WHOLE` where it is a file of one map."""
        return np.frombuffer(self._rows, np.int64) if self._rows else np.empty(0, np.int64)

    def text(self, row: int) -> str:
        """Return a cell as written."""
        if row in self._odd:
            return self._odd[row]
        name, place = self._names[self._codes[row]], self._rows[row]
        return name if place == WHOLE else f"{name}#{place}"

    @property
    def is_empty(self) -> bool:
        """Whether no cell has a value."""
        return not any(self._names)


class NumberColumn:
    """Cells that hold numbers; what is no finite number, or written otherwise, is kept as text."""

    def __init__(self) -> None:
        self._values = array("d")
        self._texts: dict[int, str] = {}
        self._bad: int | None = None

    def append(self, text: str) -> None:
        """Take in the next cell."""
        try:
            value = number_in(text)
        except ValueError:
            value = float("nan")
        place = len(self._values)
        if not isfinite(value) and self._bad is None:
            self._bad = place
        if repr(value) != text:
            self._texts[place] = text
        self._values.append(value)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> NDArray[np.float64]:
        """(N,) the numbers."""
        return np.frombuffer(self._values, np.float64) if self._values else np.empty(0)

    @property
    def first_bad(self) -> int | None:
        """The first row without a finite number; None where all have one."""
        return self._bad

    def text(self, row: int) -> str:
        """Return a cell as written."""
        return self._texts[row] if row in self._texts else repr(self._values[row])

    @property
    def is_empty(self) -> bool:
        """Whether no cell has a value."""
        return len(self._texts) == len(self._values) and not any(self._texts.values())


Column = PathColumn | NumberColumn
