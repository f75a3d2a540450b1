"""Reading the catalogue of observed pulsars, whatever its form, into one table.

The table has the columns `psrcat.COLUMNS`, named and measured as psrcat does it. It is the whole
catalogue: `selection` makes the cuts.

References:
    Manchester, Hobbs, Teoh & Hobbs 2005, AJ 129, 1993.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlpop.errors import DataError
from mlpop.population.catalogue.psrcat import COLUMNS, NUMBER_COLUMNS, TEXT_COLUMNS, read_psrcat_db

REQUIRED = ("PSRJ", "P0", "P1", "RAJD", "DECJD", "Gl", "Gb", "ASSOC", "SURVEY")
"""Columns without which no sample can be selected."""
MISSING = ("", "*", "nan", "none", "null")
"""What stands for an absent value, in any case."""


def read_catalogue(path: Path) -> pd.DataFrame:
    """Read a catalogue file.

    Args:
        path: a `psrcat.db` in the catalogue's own format; or a CSV, either as psrcat's web page
            writes it (separated by semicolons, a line of names, a line of units, unnamed columns
            of errors and references) or plain (one line of names, separated by commas).

    Returns:
        One row a pulsar with `COLUMNS`: text (empty where absent) and float64 (NaN where absent).

    Raises:
        DataError: the file cannot be read, lacks one of `REQUIRED`, holds a value that is not a
            number, or names a pulsar twice.
    """
    table = _read_csv(path) if path.suffix.lower() == ".csv" else read_psrcat_db(path)
    return _checked(table, str(path))


def download_catalogue() -> pd.DataFrame:
    """Download the newest catalogue through psrqpy; a table as `read_catalogue` returns it.

    Raises:
        DataError: the catalogue cannot be downloaded, or has not the expected columns.
    """
    import psrqpy

    try:
        raw = psrqpy.QueryATNF().pandas
    except Exception as error:
        # psrqpy passes on whatever requests, tarfile and its own parser raise
        raise DataError(
            f"psrqpy could not download the ATNF catalogue: {error}; "
            "download psrcat.db by hand and give its path instead"
        ) from error
    source = raw.rename(columns={"GL": "Gl", "GB": "Gb"})
    for name in ("ASSOC", "TYPE", "BINCOMP"):
        # psrqpy keeps only the first entry under the name, and the whole under this one
        if f"{name}_ORIG" in source.columns:
            source[name] = source[f"{name}_ORIG"]
    absent = [name for name in REQUIRED if name not in source.columns]
    if absent:
        raise DataError(f"psrqpy's catalogue lacks {', '.join(absent)}")
    table = pd.DataFrame(index=source.index)
    for name in COLUMNS:
        column = source.get(name)
        if name in TEXT_COLUMNS:
            table[name] = "" if column is None else [_text(value) for value in column]
        else:
            table[name] = np.nan if column is None else column.astype(np.float64)
    return _checked(table.reset_index(drop=True), "psrqpy")


def read_table(path: Path) -> pd.DataFrame:
    """Read any CSV with named columns as text: comma or semicolon, with or without units.

    Args:
        path: the file. The first line gives the names; a second line whose entries are empty or
            in parentheses gives units and is dropped. Columns without a name are dropped.

    Returns:
        One row a line; every cell is a stripped string, empty where absent.

    Raises:
        DataError: the file cannot be read, is empty, names a column twice, or a line has more
            entries than there are columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    first = text.split("\n", 1)[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    lines = [
        (number, [cell.strip() for cell in cells])
        for number, cells in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1)
        if any(cell.strip() for cell in cells)
    ]
    if not lines:
        raise DataError(f"{path}: is empty")
    header = lines[0][1]
    names = [name for name in header if name not in ("", "#")]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: column '{name}' is there {names.count(name)} times")
    body = lines[2:] if len(lines) > 1 and _is_units(lines[1][1]) else lines[1:]
    rows = []
    for number, cells in body:
        if len(cells) > len(header) and any(cells[len(header) :]):
            raise DataError(
                f"{path}:{number}: has {len(cells)} entries, but the header has {len(header)}"
            )
        row = dict(zip(header, cells, strict=False))
        rows.append({name: _text(row.get(name, "")) for name in names})
    return pd.DataFrame(rows, columns=names, dtype=object)


def numbers(table: pd.DataFrame, name: str, source: str) -> np.ndarray:
    """Turn a column of a table as text into numbers: (n,) float64, NaN where absent.

    Raises:
        DataError: an entry is not a finite number.
    """
    values = np.full(len(table), np.nan)
    for row, text in enumerate(table[name]):
        if not text:
            continue
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = np.inf
        if not np.isfinite(values[row]):
            label = table.iloc[row].get("PSRJ", f"row {row}")
            raise DataError(f"{source}: {label}: {name} must be a finite number, but is '{text}'")
    return values


def _read_csv(path: Path) -> pd.DataFrame:
    raw = read_table(path)
    by_upper = {name.upper(): name for name in COLUMNS}
    raw = raw.rename(columns={name: by_upper.get(name.upper(), name) for name in raw.columns})
    absent = [name for name in REQUIRED if name not in raw.columns]
    if absent:
        raise DataError(
            f"{path}: lacks the column{'s' if len(absent) > 1 else ''} {', '.join(absent)}; "
            f"found {', '.join(raw.columns)}"
        )
    table = pd.DataFrame(index=raw.index)
    for name in TEXT_COLUMNS:
        table[name] = raw[name] if name in raw.columns else ""
    for name in NUMBER_COLUMNS:
        table[name] = numbers(raw, name, str(path)) if name in raw.columns else np.nan
    return table


def _is_units(cells: list[str]) -> bool:
    return any(cells) and all(not c or (c[0] == "(" and c[-1] == ")") for c in cells)


def _text(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower() in MISSING else text


def _checked(table: pd.DataFrame, source: str) -> pd.DataFrame:
    table = table[list(COLUMNS)]
    if table.empty:
        raise DataError(f"{source}: holds no pulsar")
    unnamed = np.flatnonzero(table["PSRJ"] == "")
    if unnamed.size:
        raise DataError(f"{source}: the pulsar in row {unnamed[0] + 1} has no PSRJ")
    twice = table["PSRJ"][table["PSRJ"].duplicated()]
    if not twice.empty:
        raise DataError(f"{source}: {twice.iloc[0]} is there more than once")
    return table
