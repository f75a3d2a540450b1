"""Maps read sample by sample, for sets that do not fit into memory and for colour pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlpop.config.fields import INPUT_PREFIX
from mlpop.datasets.image import read_pixels, read_red
from mlpop.datasets.index import Cells, DatasetIndex
from mlpop.datasets.loading import PackedFiles, Resize, read_single, stacked_shape
from mlpop.datasets.precision import BEYOND, Observations, float32_holds, is_beyond
from mlpop.datasets.scaling import Mode, scale_inputs
from mlpop.errors import DataError
from mlpop.io.files import read_csv

Kind = Literal["array", "image", "rgb"]

SUFFIX: dict[Kind, str] = {"array": ".npy", "image": ".png", "rgb": ".png"}


def read_index(path: Path, kind: Kind) -> DatasetIndex:
    """Read an index file; for `rgb` its column 0 is the picture, whatever its name.

    Raises:
        DataError: the file is missing or broken, or has no rows.
    """
    if kind == "rgb":
        header, rows = read_csv(path)
        first = INPUT_PREFIX + header[0].removeprefix(INPUT_PREFIX)
        index = DatasetIndex.of_rows(path, (first, *header[1:]), rows)
    else:
        index = DatasetIndex.read(path)
    if not len(index):
        raise DataError(f"{path}: no row below the header")
    return index


class MapReader:
    """The scaled maps of any rows of a dataset; small enough to be sent to other processes.

    Args:
        index: the index file.
        channels: C names of maps; for `rgb` the one picture.
        kind: `array` reads `.npy` files, single or packed; `image` the red channel of pictures;
            `rgb` the three colours of one picture.
        scaling: of every map by its own pixels.
        resize: `pad` fills smaller maps up with their own lowest value.

    Raises:
        DataError: a map is missing, is no file of this kind, or the maps of row 0 have shapes
            that cannot be stacked.
    """

    def __init__(
        self,
        index: DatasetIndex,
        channels: Sequence[str],
        kind: Kind,
        scaling: Mode,
        resize: Resize = "none",
    ) -> None:
        self.source = index.path
        self.channels = tuple(channels)
        self.kind = kind
        self.scaling = scaling
        self._cells: list[Cells] = [index.cells(channel) for channel in channels]
        self._packed = PackedFiles()
        for channel, cells in zip(channels, self._cells, strict=True):
            for row, cell in enumerate(cells):
                if cell.path.suffix != SUFFIX[kind]:
                    raise DataError(
                        f"{self._place(row, channel)}: expected a {SUFFIX[kind]} file, "
                        f"found {cell.path}"
                    )
        self.shape = self._stacked_shape(resize)

    def __len__(self) -> int:
        return len(self._cells[0])

    @property
    def nbytes(self) -> int:
        """Memory that all maps take [bytes]."""
        return len(self) * int(np.prod(self.shape)) * 4

    def read(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return the scaled maps (len(rows), C, H, W).

        Raises:
            DataError: a map is missing or broken, or of another shape than that of row 0.
        """
        return scale_inputs(np.stack([self.stored(row) for row in rows]), self.scaling)

    def stored(self, row: int) -> Observations:
        """Return the maps (C, H, W) of a row as they are in the files.

        They are float64 where float32 would lose what varies in a map.

        Raises:
            DataError: as `read`.
        """
        if self.kind == "rgb":
            return self._checked(row, 0, self._raw(row, 0), self.shape)
        maps = [
            _padded(self._checked(row, c, self._raw(row, c), self._shapes[c]), self.shape[1:])
            for c in range(len(self.channels))
        ]
        return np.stack(maps)

    def _raw(self, row: int, channel: int) -> Observations:
        cell = self._cells[channel][row]
        if self.kind == "rgb":
            return read_rgb(cell.path)
        if self.kind == "image":
            return read_red(cell.path)
        where = self._place(row, self.channels[channel])
        if cell.row is None:
            values = read_single(cell.path, where)
        else:
            self._packed.add(cell.path, where)
            packed = self._packed[cell.path]
            if cell.row >= len(packed):
                raise DataError(f"{where}: row {cell.row} of {cell.path}: it has {len(packed)}")
            values = packed[cell.row]
        if values.ndim != 2 or values.dtype.kind not in "fiub":
            raise DataError(
                f"{where}: {cell.path}: expected a map of numbers with 2 axes, found shape "
                f"{values.shape} of type {values.dtype}"
            )
        return values.astype(np.float32 if float32_holds(values, (0, 1)) else np.float64)

    def _checked(
        self, row: int, channel: int, values: Observations, shape: tuple[int, ...]
    ) -> Observations:
        where = self._place(row, self.channels[channel])
        if values.shape != shape:
            raise DataError(
                f"{where}: the map has shape {values.shape}, the map of row 0 has {shape}"
            )
        if not np.isfinite(values).all():
            raise DataError(f"{where}: the map has values that are not finite")
        if is_beyond(values):
            raise DataError(f"{where}: the map has {BEYOND}")
        return values

    def _stacked_shape(self, resize: Resize) -> tuple[int, ...]:
        shapes = [self._raw(0, c).shape for c in range(len(self.channels))]
        self._shapes = shapes
        if self.kind == "rgb":
            return shapes[0]
        return len(shapes), *stacked_shape(self.source, self.channels, shapes, resize)

    def _place(self, row: int, channel: str) -> str:
        return f"{self.source}: row {row}, column '{INPUT_PREFIX}{channel}'"


def read_rgb(path: Path) -> NDArray[np.float32]:
    """Return the colours of a picture, (3, height, width) in [0, 1].

    Raises:
        DataError: the file is missing or no picture.
    """
    return np.moveaxis(read_pixels(path, "RGB"), -1, 0).astype(np.float32) / np.float32(255)


def _padded(values: Observations, shape: tuple[int, ...]) -> Observations:
    if values.shape == shape:
        return values
    padded = np.full(shape, values.min(), dtype=values.dtype)
    padded[tuple(slice(0, size) for size in values.shape)] = values
    return padded
