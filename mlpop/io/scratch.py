"""Arrays that may be larger than memory: the large ones lie in files without a name.

The system writes the pages of such a file to disk when memory runs short, and the file is gone
with the last array that refers to it, however the process ends.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mlpop.errors import DataError

LARGE = 64 * 2**20
"""From this size on an array lies in a file [byte]."""

BLOCK = 16 * 2**20
"""What is worked on at a time [byte]."""


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike, near: Path) -> NDArray[Any]:
    """Return an array to be filled.

    Args:
        shape: of the array.
        dtype: of its numbers.
        near: the folder on whose disk a large one lies; if it cannot be written, TMPDIR.

    Raises:
        DataError: the disk has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    folder = near if os.access(near, os.W_OK) else None
    try:
        with tempfile.TemporaryFile(prefix=".mlpop-", dir=folder) as file:
            # a disk that is full is to be known now: later it would end the process
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise DataError(
            f"{folder or tempfile.gettempdir()}: no room for {size / 2**30:.3g} GiB of maps while "
            f"they are used: {error.strerror or error}"
        ) from error


def let_go(array: NDArray[Any]) -> None:
    """Take the pages of an array that lies in a file out of this process's memory.

    They are in the file, or on the way to it, and come back when they are used.
    """
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap):
        mapped.madvise(mmap.MADV_DONTNEED)


class RowsAhead:
    """Asks the system for rows of an array in a large file before they are read, and for no more.

    The system takes whoever reads a row here and a row there for one who reads on, and fetches
    what follows too: with rows of 24 kB, 32 times what was wanted.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        mapped = getattr(array, "_mmap", None)
        self._map = mapped if isinstance(mapped, mmap.mmap) and array.nbytes >= LARGE else None
        self._of_one = array.strides[0]
        # what is mapped begins at a multiple of the granularity, the array at its offset
        self._first = (getattr(array, "offset", None) or 0) % mmap.ALLOCATIONGRANULARITY
        self._told = False

    def __call__(self, rows: Iterable[int]) -> None:
        """Let these rows be read while something else is done."""
        if self._map is None:
            return
        if not self._told:
            # not before: whoever reads in order first gains by what follows
            self._map.madvise(mmap.MADV_RANDOM)
            self._told = True
        for row in rows:
            start = self._first + row * self._of_one
            page = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, page, start + self._of_one - page)


def blocks(array: NDArray[Any], multiple: int = 1) -> Iterator[slice]:
    """Yield the rows of an array in blocks of about `BLOCK` bytes, and let go of each.

    `multiple`: of which the rows of a block are one.
    """
    of_one = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
    step = max(1, BLOCK // (of_one * multiple)) * multiple
    for start in range(0, len(array), step):
        yield slice(start, min(start + step, len(array)))
        let_go(array)


def taken(array: NDArray[Any], which: NDArray[np.bool_], near: Path) -> NDArray[Any]:
    """Return the rows for which `which` (n,) is true, kept as `scratch_array` does."""
    if array.nbytes < LARGE:
        return np.asarray(array[which])
    kept = scratch_array((int(which.sum()), *array.shape[1:]), array.dtype, near)
    place = 0
    for rows in blocks(array):
        block = array[rows][which[rows]]
        kept[place : place + len(block)] = block
        place += len(block)
        let_go(kept)
    return kept


def together(arrays: Sequence[NDArray[Any]], near: Path) -> NDArray[Any]:
    """Return the rows of all arrays as one, kept as `scratch_array` does."""
    if sum(array.nbytes for array in arrays) < LARGE:
        return np.concatenate(arrays)
    count, kind = sum(map(len, arrays)), np.result_type(*arrays)
    joined = scratch_array((count, *arrays[0].shape[1:]), kind, near)
    place = 0
    for array in arrays:
        for rows in blocks(array):
            joined[place : place + rows.stop - rows.start] = array[rows]
            place += rows.stop - rows.start
            let_go(joined)
    return joined
