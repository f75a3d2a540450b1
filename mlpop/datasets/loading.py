"""Datasets as arrays: labels and maps, read from single or packed files."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlpop.config.fields import INPUT_PREFIX
from mlpop.datasets.image import read_red
from mlpop.datasets.index import Cell, Cells, DatasetIndex, Filter
from mlpop.datasets.precision import BEYOND, Observations, float32_holds, is_beyond, narrowed
from mlpop.datasets.shards import RECORD_FILE, check_array
from mlpop.errors import DataError
from mlpop.io.arrays import read_npy
from mlpop.io.columns import WHOLE
from mlpop.io.files import read_json_object
from mlpop.io.scratch import BLOCK, LARGE, let_go, scratch_array

MOST_OPEN = 64
"""Packed files at a time; a process may usually open 1024."""
FEW_OPEN = 4
"""Packed files at a time where they are read one after the other."""

Resize = Literal["none", "pad"]


@dataclass(frozen=True)
class Dataset:
    """Labels and maps of N simulations.

    Attributes:
        theta: (N, D) labels in physical units.
        x: (N, C, H, W) maps as stored, or (N, C) where a channel is one number; float32, or
            float64 where that would lose what varies (`datasets.precision`). H runs
            over the period (or right ascension) and W over its derivative (or declination); for
            pictures H runs down the picture and W to its right. A large one is a memory map of a
            file without a name (`io.scratch`): read it by blocks.
        labels: D names.
        channels: C names.
        source: the index file.
    """

    theta: NDArray[np.float64]
    x: Observations = field(repr=False)
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    source: Path

    def __len__(self) -> int:
        return len(self.x)


def load_dataset(
    path: Path,
    *,
    filter_inputs: Filter | None = None,
    filter_labels: Filter | None = None,
    resize: Resize = "none",
    numbers: int = 0,
) -> Dataset:
    """Load a dataset.

    Args:
        path: its index file.
        filter_inputs: maps to load, as positions in the header or names, in the wanted order;
            None loads all.
        filter_labels: labels to load, likewise.
        resize: `pad` fills smaller maps up with their own lowest value; `none` refuses maps of
            unequal shape.
        numbers: so many of the last channels are one number each, which fills a map.

    Raises:
        DataError: a file, column or value is missing or broken; the message names file, row and
            column.
    """
    index = DatasetIndex.read(path)
    channels = index.select_channels(filter_inputs)
    labels = index.select_labels(filter_labels)
    if not len(index):
        raise DataError(f"{path}: no row below the header")
    theta = index.label_values(labels)
    x = _load_maps(index, channels, resize, numbers)
    return Dataset(theta, x, labels, channels, path)


def load_observed(
    path: Path,
    *,
    filter_inputs: Filter | None = None,
    resize: Resize = "none",
    numbers: int = 0,
) -> Dataset:
    """Load an observed sample: one row, its labels unknown, `theta` (1, 0); x is float64.

    Args:
        path: its index file, `dataset_atnf.csv`.
        filter_inputs: maps to load; None loads every map that is there.
        resize, numbers: as `load_dataset`.

    Raises:
        DataError: there is not exactly one row, or a chosen map is missing or broken.
    """
    index = DatasetIndex.read(path)
    if len(index) != 1:
        raise DataError(f"{path}: an observed sample has one row, found {len(index)}")
    if filter_inputs is None:
        empty = index.empty_columns
        filter_inputs = [c for c in index.channels if INPUT_PREFIX + c not in empty]
    channels = index.select_channels(filter_inputs)
    x = _load_maps(index, channels, resize, numbers, whole=True)
    return Dataset(np.empty((1, 0)), x, (), channels, path)


def x_shape(index: DatasetIndex, channels: tuple[str, ...], numbers: int = 0) -> tuple[int, ...]:
    """Shape of one x made of these channels, by the maps of the first row.

    So many of the last channels are one number each, which fills a map.

    Raises:
        DataError: a map is missing or broken, or the maps cannot be stacked.
    """
    shapes = [next(stored_maps(index, channel)).shape for channel in channels]
    return (len(channels), *_common_shape(index, channels, shapes, "none", numbers))


def stored_maps(index: DatasetIndex, channel: str) -> Iterator[NDArray]:
    """Maps of a channel one by one, in the number type of the file."""
    files = PackedFiles(FEW_OPEN)
    for number, cell in enumerate(index.cells(channel)):
        place = index.place(number, channel)
        if cell.row is None:
            yield read_single(cell.path, place)
        else:
            files.add(cell.path, place)
            packed = files[cell.path]
            yield packed[_packed_row(packed, cell, index, number, channel)]


def _load_maps(
    index: DatasetIndex,
    channels: tuple[str, ...],
    resize: Resize,
    num_numbers: int,
    *,
    whole: bool = False,
) -> Observations:
    """Stack the maps; `whole` leaves them float64 in any case."""
    if not channels:
        raise DataError(f"{index.path}: no map is chosen")
    cells = {channel: index.cells(channel) for channel in channels}
    arrays: dict[Path, Any] = {}
    files = PackedFiles(FEW_OPEN)
    shapes = []
    for channel in channels:
        for path, numbers in cells[channel].by_file():
            first = int(numbers[0])
            if cells[channel][first].row is not None and path not in files:
                place = index.place(first, channel)
                _check_packed(path, arrays, place)
                files.add(path, place)
        first_cell = cells[channel][0]
        shapes.append(
            read_single(first_cell.path, index.place(0, channel)).shape
            if first_cell.row is None
            else files[first_cell.path].shape[1:]
        )
    target = _common_shape(index, channels, shapes, resize, num_numbers)
    # a column of numbers must be seen whole to tell; maps, which fill the memory, each by itself
    for kind in (np.float32, np.float64) if target and not whole else (np.float64,):
        x = scratch_array((len(index), len(channels), *target), kind, index.path.parent)
        if all(
            [
                _fill(x, c, index, channel, cells[channel], files, shape)
                for c, (channel, shape) in enumerate(zip(channels, shapes, strict=True))
            ]
        ):
            break
    return x if target or whole else narrowed(x)


def _fill(
    x: NDArray,
    c: int,
    index: DatasetIndex,
    channel: str,
    cells: Cells,
    files: "PackedFiles",
    shape: tuple[int, ...],
) -> bool:
    """Fill channel c of x; return whether its numbers hold what varies in its maps."""
    held = True
    out = x[:, c]
    of_one = max(1, math.prod(shape or out.shape[1:]) * 8)
    waiting = 0
    for path, all_numbers in cells.by_file():
        for start in range(0, len(all_numbers), max(1, BLOCK // of_one)):
            numbers = all_numbers[start : start + max(1, BLOCK // of_one)]
            block = _block(index, channel, cells, files, path, numbers)
            if block.shape[1:] != shape:
                raise DataError(
                    f"{index.place(int(numbers[0]), channel)}: the map has shape "
                    f"{block.shape[1:]}, the map of row 0 has {shape}"
                )
            finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
            if not finite.all():
                bad = index.place(int(numbers[int(np.argmin(finite))]), channel)
                raise DataError(f"{bad}: the map has values that are not finite")
            if is_beyond(block):
                first = next(n for n, one in zip(numbers, block, strict=True) if is_beyond(one))
                raise DataError(f"{index.place(int(first), channel)}: the map has {BEYOND}")
            if out.dtype == np.float32 and block.ndim > 1:
                held &= float32_holds(block, tuple(range(1, block.ndim)))
            if block.ndim < out.ndim:
                if out.dtype == np.float32:
                    held &= float32_holds(block, (0,))
                block = block.reshape(-1, *(1 for _ in out.shape[1:]))
                out[numbers] = block.astype(out.dtype)
            else:
                out[numbers] = _pad(block.astype(out.dtype), out.shape[1:])
            waiting += len(numbers) * of_one
            if waiting > LARGE:
                let_go(x)
                waiting = 0
    let_go(x)
    return held


def _block(
    index: DatasetIndex,
    channel: str,
    cells: Cells,
    files: "PackedFiles",
    path: Path,
    numbers: NDArray[np.int64],
) -> NDArray:
    """Return the maps of some cells of one file."""
    if path not in files:
        return read_single(path, index.place(int(numbers[0]), channel))[None]
    packed, rows = files[path], cells.rows[numbers]
    wrong = (rows == WHOLE) | (rows >= len(packed))
    if wrong.any():
        number = int(numbers[int(np.argmax(wrong))])
        _packed_row(packed, cells[number], index, number, channel)
    block: NDArray = packed[rows]
    let_go(packed)
    return block


def _packed_row(
    packed: NDArray, cell: Cell, index: DatasetIndex, number: int, channel: str
) -> int:
    if cell.row is None:
        raise DataError(
            f"{index.place(number, channel)}: {cell.path} packs several maps; "
            "write its path with '#row'"
        )
    if cell.row >= len(packed):
        raise DataError(
            f"{index.place(number, channel)}: row {cell.row} of {cell.path}, "
            f"which holds {len(packed)}"
        )
    return cell.row


def _common_shape(
    index: DatasetIndex,
    channels: tuple[str, ...],
    shapes: list[tuple[int, ...]],
    resize: Resize,
    num_numbers: int,
) -> tuple[int, ...]:
    num_maps = len(channels) - num_numbers
    for channel, shape in zip(channels[num_maps:], shapes[num_maps:], strict=True):
        if shape:
            raise DataError(
                f"{index.path}: channel {channel} must hold one number, found a map of shape "
                f"{shape}"
            )
    if num_numbers and () in shapes[:num_maps]:
        number = channels[shapes.index(())]
        raise DataError(f"{index.path}: channel {number} must hold maps, found one number")
    return stacked_shape(index.path, channels, shapes[:num_maps], resize)


def stacked_shape(
    source: Path, channels: Sequence[str], shapes: Sequence[tuple[int, ...]], resize: Resize
) -> tuple[int, ...]:
    """Return the shape that the maps of all channels have, or get by padding.

    Raises:
        DataError: `resize` is "none" and they differ, or they differ in the number of axes.
    """
    for c, shape in enumerate(shapes):
        if len(shape) != len(shapes[0]):
            raise DataError(
                f"{source}: maps cannot be stacked: channel 0 ({channels[0]}) has "
                f"{len(shapes[0])} axes, channel {c} ({channels[c]}) has {len(shape)}"
            )
        for axis, (first, here) in enumerate(zip(shapes[0], shape, strict=True)):
            if first != here and resize == "none":
                raise DataError(
                    f"{source}: maps of unequal shape cannot be stacked: on map axis {axis} "
                    f"channel 0 ({channels[0]}) has size {first}, channel {c} ({channels[c]}) "
                    f"has size {here}; choose maps of one shape or set resize to 'pad'"
                )
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))


def _pad(block: NDArray, shape: tuple[int, ...]) -> NDArray:
    if block.shape[1:] == shape:
        return block
    lowest = block.reshape(len(block), -1).min(axis=1)
    padded = np.empty((len(block), *shape), dtype=block.dtype)
    padded[...] = lowest.reshape(-1, *(1 for _ in shape))
    padded[(slice(None), *(slice(0, size) for size in block.shape[1:]))] = block
    return padded


def read_single(path: Path, place: str) -> NDArray:
    """Read a file of one map, which messages call `place`; its numbers as they are stored.

    Raises:
        DataError: it is missing or broken, or no map.
    """
    if path.suffix == ".png":
        return read_red(path)
    if path.suffix != ".npy":
        raise DataError(f"{place}: {path}: expected a .npy or a .png file")
    try:
        values = read_npy(path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{place}: {path}: cannot be read: {error}") from None
    if values.ndim > 2 or values.dtype.kind not in "fiub":
        raise DataError(
            f"{place}: {path}: expected one map of numbers with 2 axes, "
            f"found shape {values.shape} of type {values.dtype}"
        )
    return values


class PackedFiles:
    """Files of packed maps, mapped into memory; few are open at a time, however many there are."""

    def __init__(self, most_open: int | None = None) -> None:
        self._most_open = MOST_OPEN if most_open is None else most_open
        self._places: dict[Path, str] = {}
        self._open: dict[Path, NDArray] = {}

    def add(self, path: Path, place: str) -> None:
        """Take in a file, which messages call `place`."""
        self._places.setdefault(path, place)

    def __contains__(self, path: Path) -> bool:
        return path in self._places

    def __getitem__(self, path: Path) -> NDArray:
        packed = self._open.pop(path, None)
        if packed is None:
            packed = _open_packed(path, self._places[path])
            while len(self._open) >= self._most_open:
                # a mapped file is closed when nothing refers to it
                del self._open[next(iter(self._open))]
        self._open[path] = packed
        return packed

    def __getstate__(self) -> dict[str, Any]:
        # a memory map would be sent as its content
        return self.__dict__ | {"_open": {}}


def _open_packed(path: Path, place: str) -> NDArray:
    try:
        values = read_npy(path, mapped=True)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{place}: {path}: cannot be read: {error}") from None
    if values.ndim not in (1, 3):
        raise DataError(
            f"{place}: {path}: expected packed maps of shape (n, H, W), found {values.shape}"
        )
    return values


def _check_packed(path: Path, arrays: dict[Path, Any], place: str) -> None:
    """Compare a packed file with the record of its shard; of every record `arrays` are kept."""
    record = path.parent / RECORD_FILE
    if not record.is_file():
        return
    if record not in arrays:
        arrays[record] = read_json_object(record).get("arrays", {})
    expected = arrays[record].get(path.stem)
    if expected is None:
        raise DataError(f"{place}: {path} is not among the arrays of {record}")
    try:
        check_array(path, expected)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
