"""The index file of a dataset: a row a simulation, columns of map paths, columns of labels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mlpop.config.fields import INPUT_PREFIX, expanded
from mlpop.config.messages import Refused
from mlpop.errors import DataError
from mlpop.io.columns import WHOLE, Column, NumberColumn, PathColumn
from mlpop.io.files import csv_rows, sha256_of

Filter = Sequence[int | str]


@dataclass(frozen=True)
class Cell:
    """Where one map lies: a file, and the row in it where the file packs many maps."""

    path: Path
    row: int | None = None


@dataclass(frozen=True, eq=False)
class Cells(Sequence[Cell]):
    """The cells of a channel.

    Attributes:
        paths: files that they name.
        codes: (N,) which of them each cell names.
        rows: (N,) row in the file, `WHOLE` where it is a file of one map.
    """

    paths: tuple[Path, ...]
    codes: NDArray[np.int32]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, number: int) -> Cell: ...
    @overload
    def __getitem__(self, number: slice) -> "Cells": ...
    def __getitem__(self, number: int | slice) -> "Cell | Cells":
        if isinstance(number, slice):
            return Cells(self.paths, self.codes[number], self.rows[number])
        row = int(self.rows[number])
        return Cell(self.paths[self.codes[number]], None if row == WHOLE else row)

    def by_file(self) -> Iterator[tuple[Path, NDArray[np.int64]]]:
        """Yield every file with the numbers (n,) of the cells that name it, in their order."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.cumsum(np.bincount(self.codes, minlength=len(self.paths)))
        yield from zip(self.paths, np.split(order, ends[:-1]), strict=True)


@dataclass(frozen=True)
class DatasetIndex:
    """An index file as read.

    Attributes:
        path: the CSV file.
        header: names of all columns, in order.
        columns: what is in them.
    """

    path: Path
    header: tuple[str, ...]
    columns: tuple[Column, ...]

    @classmethod
    def read(cls, path: Path) -> "DatasetIndex":
        """Read an index file.

        Raises:
            DataError: the file is missing or broken, or has no `input:` column.
        """
        rows = csv_rows(path)
        header = next(rows)
        if padded := next((name for name in header if name != name.strip()), None):
            raise DataError(
                f"{path}: the column {padded!r} begins or ends with a space; take spaces around "
                "the commas away"
            )
        if separator := next((s for s in ";\t|" if len(header) == 1 and s in header[0]), None):
            raise DataError(
                f"{path}: its columns are separated by {separator!r}; an index file has commas"
            )
        if not any(name.startswith(INPUT_PREFIX) for name in header):
            raise DataError(
                f"{path}: no column starts with '{INPUT_PREFIX}'; found {', '.join(header)}"
            )
        return cls.of_rows(path, header, rows)

    @classmethod
    def of_rows(
        cls, path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]
    ) -> "DatasetIndex":
        """Take in rows as text."""
        columns = tuple(PathColumn() if _is_input(name) else NumberColumn() for name in header)
        for row in rows:
            for column, text in zip(columns, row, strict=True):
                column.append(text)
        return cls(path, tuple(header), columns)

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @property
    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows, one after the other, as they are written."""
        return map(self.row, range(len(self)))

    def row(self, number: int) -> tuple[str, ...]:
        """Return a row as it is written."""
        return tuple(column.text(number) for column in self.columns)

    def _maps(self, channel: str) -> PathColumn:
        column = self.columns[self.header.index(INPUT_PREFIX + channel)]
        assert isinstance(column, PathColumn)
        return column

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the maps: the input columns without their prefix."""
        return tuple(c.removeprefix(INPUT_PREFIX) for c in self.header if _is_input(c))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels: all other columns."""
        return tuple(c for c in self.header if not _is_input(c))

    def select_channels(self, chosen: Filter | None) -> tuple[str, ...]:
        """Names of the chosen maps, in the given order.

        Args:
            chosen: positions in the header, names with or without `input:`, or None for all.

        Raises:
            DataError: a position is out of range or names a label, a name is unknown, or one
                is chosen twice.
        """
        return self._select(chosen, self.channels, "filter_inputs", inputs=True)

    def select_labels(self, chosen: Filter | None) -> tuple[str, ...]:
        """Names of the chosen labels, in the given order; as `select_channels`."""
        return self._select(chosen, self.labels, "filter_labels", inputs=False)

    def label_values(self, labels: Sequence[str]) -> NDArray[np.float64]:
        """Values of the labels: (N, D) float64.

        Raises:
            DataError: a value is empty, not a number or not finite.
        """
        columns = [self.columns[self.header.index(label)] for label in labels]
        values = np.empty((len(self), len(labels)))
        bad: list[tuple[int, int, str]] = []
        for d, column in enumerate(columns):
            assert isinstance(column, NumberColumn)
            values[:, d] = column.values
            if column.first_bad is not None:
                bad.append((column.first_bad, d, column.text(column.first_bad)))
        if bad:
            number, d, text = min(bad)
            raise DataError(
                f"{self.path}: row {number}, column '{labels[d]}': expected a finite "
                f"number, found '{text}'"
            )
        return values

    def kinds(self, channels: Sequence[str]) -> set[str]:
        """Return what the maps of these channels are by their names: `array`, `image` or both."""
        return {
            "image" if name.lower().endswith(".png") else "array"
            for channel in channels
            for name in self._maps(channel).names
        }

    def place(self, number: int, channel: str) -> str:
        """What messages call the cell of a channel in a row."""
        return f"{self.path}: row {number}, column '{INPUT_PREFIX}{channel}'"

    def cells(self, channel: str) -> "Cells":
        """Where the maps of a channel lie, one a row.

        A path that is not packed is sought from the CSV's folder, then by its last part in that
        folder, then as written. A packed one belongs to the dataset: the CSV's folder only.

        Raises:
            DataError: a cell is empty, its file is missing, or the path as written is another file
                than that beside the CSV.
        """
        column = self._maps(channel)
        codes, rows = column.codes, column.packed_rows
        _, firsts = np.unique(codes, return_index=True)
        paths = [
            self._locate(name, int(first), channel, packed=bool(rows[first] != WHOLE))
            for name, first in zip(column.names, firsts, strict=True)
        ]
        return Cells(tuple(paths), codes, rows)

    @property
    def empty_columns(self) -> tuple[str, ...]:
        """Columns without a value in any row, as an observed sample has them."""
        return tuple(
            name for name, column in zip(self.header, self.columns, strict=True) if column.is_empty
        )

    def _locate(self, name: str, number: int, channel: str, *, packed: bool) -> Path:
        place = self.place(number, channel)
        if not name:
            raise DataError(f"{place}: no map is given")
        try:
            written, folder = expanded(Path(name)), self.path.parent
        except Refused as error:
            raise DataError(f"{place}: the path of a map {error}") from None
        if packed:
            beside, elsewhere = [folder / written], []
        else:
            # a path of another system has its name in it all the same
            last = PureWindowsPath(name).name if "\\" in name else written.name
            beside = [] if written.is_absolute() else [folder / written]
            beside, elsewhere = [*beside, folder / last], [written]
        here = next((path for path in beside if path.is_file()), None)
        there = next((path for path in elsewhere if path.is_file()), None)
        if here is None and there is None:
            tried = ", ".join(dict.fromkeys(map(str, (*elsewhere, *beside))))
            raise DataError(f"{place}: no such map file '{name}'; tried {tried}")
        if here is None or there is None or here.samefile(there):
            return here or there or written
        if here.stat().st_size != there.stat().st_size or sha256_of(here) != sha256_of(there):
            raise DataError(
                f"{place}: '{name}' fits two files that differ, {here.resolve()} beside the index "
                f"file and {there.resolve()}: if this dataset is a copy, write paths relative to "
                "its index file"
            )
        return here

    def _select(
        self, chosen: Filter | None, available: tuple[str, ...], field: str, *, inputs: bool
    ) -> tuple[str, ...]:
        if chosen is None:
            return available
        kind, other = ("an input", "a label") if inputs else ("a label", "an input")
        names = []
        for item in chosen:
            if isinstance(item, str):
                name = item.removeprefix(INPUT_PREFIX) if inputs else item
                if name not in available:
                    raise DataError(
                        f"{self.path}: {field}: no column '{item}' that is {kind}; "
                        f"found {', '.join(available) or 'none'}"
                    )
                names.append(name)
                continue
            if not 0 <= item < len(self.header):
                raise DataError(
                    f"{self.path}: {field}: index {item} is out of range; "
                    f"the header has the columns 0 to {len(self.header) - 1}"
                )
            column = self.header[item]
            if _is_input(column) != inputs:
                raise DataError(
                    f"{self.path}: {field}: column {item} ('{column}') is {other}, not {kind}"
                )
            names.append(column.removeprefix(INPUT_PREFIX))
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"{self.path}: {field}: {', '.join(repeated)} is chosen twice")
        return tuple(names)


def _is_input(column: str) -> bool:
    return column.startswith(INPUT_PREFIX)
