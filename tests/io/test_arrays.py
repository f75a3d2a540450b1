"""A `.npy` file whose header does not fit its content is refused before memory is asked for."""

import io
from pathlib import Path

import numpy as np
import pytest

from mlpop.config.reading import Unreadable
from mlpop.io.arrays import read_npy


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_2_0(
        buffer, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((10**12, 10**6)), r"the shape \(1000000000000, 1000000\)"),
        (header((4,)) + b"\0" * 24, "holds 24 bytes of numbers, but the shape .* takes 32"),
        (header((2,)) + b"\0" * 24, "takes 16: cut off or damaged"),
        (header((1,), "|O") + b"\0" * 8, "Python objects"),
        (npz(), "is a zip archive"),
        (b"", "is no .npy file"),
        (b"text", "is no .npy file"),
        (b"\x93NUMPY", "broken header"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "broken header"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_an_odd_file_is_one_sentence(
    content: bytes, message: str, mapped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=message):
        read_npy(path, mapped=mapped)


@pytest.mark.parametrize("values", [np.float32(3), np.arange(6).reshape(2, 3), np.empty((0, 2))])
def test_a_good_file_is_read(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values)
    np.testing.assert_array_equal(read_npy(tmp_path / "x.npy"), values)


def test_a_device_is_no_array() -> None:
    with pytest.raises(Unreadable, match="no regular file"):
        read_npy(Path("/dev/zero"))
