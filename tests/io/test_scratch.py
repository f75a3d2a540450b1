"""Large arrays lie in files without names, and are the same arrays."""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from mlpop.errors import DataError
from mlpop.io import scratch
from mlpop.io.scratch import RowsAhead, blocks, let_go, scratch_array, taken, together


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is a large one."""
    monkeypatch.setattr(scratch, "LARGE", 1)
    monkeypatch.setattr(scratch, "BLOCK", 64)


def anonymous(value: np.ndarray) -> bool:
    return getattr(value, "_mmap", None) is None


def test_small_arrays_are_in_memory_and_large_ones_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert anonymous(scratch_array((4, 4), np.float64, tmp_path))
    monkeypatch.setattr(scratch, "LARGE", 128)
    large = scratch_array((4, 4), np.float64, tmp_path)
    assert not anonymous(large)
    assert (large.shape, large.dtype) == ((4, 4), np.float64)
    assert list(tmp_path.iterdir()) == []
    held = {path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir())}
    assert any(path.startswith(str(tmp_path)) for path in held)
    del large
    held = {path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir())}
    assert not any(path.startswith(str(tmp_path)) for path in held)


def test_what_was_let_go_is_still_there(tiny: None, tmp_path: Path) -> None:
    values = scratch_array((1000, 3), np.float32, tmp_path)
    values[:] = np.arange(3000).reshape(1000, 3)
    let_go(values)
    let_go(values[:, 1])
    np.testing.assert_array_equal(values, np.arange(3000).reshape(1000, 3))
    let_go(np.zeros(3))


@pytest.mark.parametrize("multiple", [1, 3, 100])
def test_blocks_are_all_rows_in_order(tiny: None, multiple: int) -> None:
    values = np.zeros((50, 2, 2))
    found = list(blocks(values, multiple))
    assert np.concatenate([np.arange(50)[rows] for rows in found]).tolist() == list(range(50))
    assert all((rows.stop - rows.start) % multiple == 0 for rows in found[:-1])
    assert (len(found) > 1) == (multiple < 50)


def test_rows_taken_and_joined_by_blocks_are_those_of_numpy(tiny: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=(37, 2, 5)).astype(np.float32), rng.normal(size=(5, 2, 5))
    which = rng.random(37) < 0.4
    kept = taken(one, which, tmp_path)
    assert not anonymous(kept)
    np.testing.assert_array_equal(kept, one[which])
    joined = together([one, two, one], tmp_path)
    assert joined.dtype == np.float64
    np.testing.assert_array_equal(joined, np.concatenate([one, two, one]))


def test_a_disk_without_room_is_told(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"no room for .* GiB of maps .* No space left"):
        scratch_array((10,), np.float64, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_not_used(tiny: None, tmp_path: Path) -> None:
    values = scratch_array((10,), np.float64, tmp_path / "gone")
    values[:] = 1.0
    assert values.sum() == 10


def resident_pages(array: np.memmap) -> np.ndarray:
    """Return which pages of the file of an array are in memory."""
    first = array.ctypes.data - array.ctypes.data % mmap.PAGESIZE
    count = -(-(array.ctypes.data + array.nbytes - first) // mmap.PAGESIZE)
    vector = (ctypes.c_ubyte * count)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert (
        libc.mincore(ctypes.c_void_p(first), ctypes.c_size_t(count * mmap.PAGESIZE), vector) == 0
    )
    return np.frombuffer(vector, np.uint8) & 1 > 0


def test_rows_that_are_asked_for_come_without_what_follows_them(
    tmp_path: Path, tiny: None
) -> None:
    path = tmp_path / "x.npy"
    x = np.arange(200 * 6 * 1024, dtype=np.float32).reshape(200, -1)
    np.save(path, x)
    array = np.load(path, mmap_mode="c")
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident_pages(array).any():
        pytest.skip("the disk of this folder is memory")
    ahead, wanted = RowsAhead(array), [3, 60, 61, 150]
    ahead(wanted)
    np.testing.assert_array_equal(array[wanted], x[wanted])
    # six pages a row, and one more where it does not begin with a page
    assert resident_pages(array).sum() <= 7 * len(wanted)
    RowsAhead(x)([1])
