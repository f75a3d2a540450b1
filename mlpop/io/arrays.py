"""Reading `.npy` files of which nothing is known yet: the header is compared with the size."""

import math
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.config.reading import FOREIGN, Unreadable


def check_npy(path: Path) -> None:
    """Compare what the header of a `.npy` file says with the file's size, before it is read.

    Raises:
        OSError: it cannot be read.
        Unreadable: it is no `.npy` file, or shorter or longer than its header says.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("is no regular file")
    with path.open("rb") as file:
        start = file.read(16)
        kind = next((k for magic, k in FOREIGN.items() if start.startswith(magic)), "")
        if not start.startswith(b"\x93NUMPY"):
            raise Unreadable(f"is {kind}, no .npy file" if kind else "is no .npy file")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            reader = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, kind_of_number = reader(file)
        except (ValueError, EOFError, TypeError, SyntaxError) as error:
            raise Unreadable(f"has a broken header: {str(error)[:200]}") from None
        begins = file.tell()
    if kind_of_number.hasobject:
        raise Unreadable("holds Python objects, not numbers")
    expected = math.prod(shape) * kind_of_number.itemsize
    if status.st_size - begins != expected:
        raise Unreadable(
            f"holds {status.st_size - begins} bytes of numbers, but the shape {shape} of type "
            f"{kind_of_number} that its header gives takes {expected}: cut off or damaged"
        )


def read_npy(path: Path, *, mapped: bool = False) -> NDArray:
    """Read a `.npy` file; `mapped` leaves the numbers on disk until they are used.

    Raises:
        OSError: it cannot be read.
        Unreadable: as `check_npy`.
    """
    check_npy(path)
    return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
