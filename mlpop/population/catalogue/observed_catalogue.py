"""Reading the catalogue of observed pulsars, whatever its form, into one table.

The table has the columns `psrcat.COLUMNS`, named and measured as psrcat does it. It is the whole
catalogue: `selection` makes the cuts.

References:
    Manchester, Hobbs, Teoh & Hobbs 2005, AJ 129, 1993.
"""

import csv
import re
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlpop.config.reading import Unreadable, missing_file, read_text
from mlpop.errors import DataError
from mlpop.io.columns import number_in
from mlpop.io.files import sha256_of
from mlpop.population.catalogue.doubts import check_ranges, doubts, silent
from mlpop.population.catalogue.psrcat import (
    COLUMNS,
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    catalogue_version,
    read_psrcat_db,
    read_psrcat_text,
)

REQUIRED = ("PSRJ", "P0", "P1", "RAJD", "DECJD", "Gl", "Gb", "ASSOC", "SURVEY")
"""Columns without which no sample can be selected."""
DELIMITERS = ",;\t|"
"""What may separate the columns of a CSV."""
MISSING = ("", "*", "nan", "none", "null", "na", "n/a", "-", "--")
"""What stands for an absent value, in any case."""
BY_HAND = (
    "without a network, copy psrcat.db from https://www.atnf.csiro.au/research/pulsar/psrcat and "
    "name it: mlpop observe --set source=/path/to/psrcat.db"
)
"""What to do where the catalogue cannot be downloaded."""


def read_catalogue(path: Path) -> pd.DataFrame:
    """Read a catalogue file.

    Args:
        path: a `psrcat.db` in the catalogue's own format; or a CSV, either as psrcat's web page
            writes it (separated by semicolons, a line of names, a line of units, unnamed columns
            of errors and references) or plain (one line of names, separated by commas).

    Returns:
        One row a pulsar with `COLUMNS`: text (empty where absent) and float64 (NaN where absent).
        Its `attrs` are `source`, `version` (None where the file does not say), `sha256` of the
        file, `absent`, columns that it lacks or has nothing in, and `doubts`: what a reader must
        know, a sentence each.

    Raises:
        DataError: the file cannot be read, is cut off, lacks one of `REQUIRED`, holds a value that
            is not a number or that no pulsar has, or names a pulsar twice.
    """
    is_csv = path.suffix.lower() == ".csv" or _begins_as_csv(path)
    raw, absent = _read_csv(path) if is_csv else (read_psrcat_db(path), ())
    table = _checked(raw, str(path), absent)
    table.attrs["sha256"] = sha256_of(path)
    if not is_csv:
        table.attrs["version"] = catalogue_version(read_psrcat_text(path))
    with path.open("rb") as file:
        file.seek(-1, 2)
        if file.read() not in (b"\n", b"\r"):
            table.attrs["doubts"].append(
                "The file does not end with a line end: it may be cut off."
            )
    return table


def _begins_as_csv(path: Path) -> bool:
    """Whether the first line of a file names columns of a catalogue, whatever its ending."""
    first = read_psrcat_text(path).split("\n", 1)[0]
    names = {name.strip().upper() for name in re.split(f"[{DELIMITERS}]", first)}
    return {"PSRJ", "P0"} <= names


def download_catalogue() -> pd.DataFrame:
    """Download the newest catalogue through psrqpy; a table as `read_catalogue` returns it.

    Where the catalogue's server cannot be reached, the copy that psrqpy keeps is taken, and its
    age is among the doubts.

    Raises:
        DataError: the catalogue cannot be downloaded, or has not the expected columns.
    """
    import psrqpy

    try:
        # without it psrqpy takes the copy of its first download for ever; with it and no copy it
        # fails, as it would take that copy away
        query = psrqpy.QueryATNF(checkupdate=_psrqpy_copy() is not None)
    except Exception as error:
        # psrqpy passes on whatever requests, tarfile and its own parser raise
        reason = " ".join(str(error).split())[:300]
        tarball = _psrqpy_copy()
        if tarball is None:
            raise DataError(
                f"psrqpy could not download the ATNF catalogue: {reason}; {BY_HAND}"
            ) from error
        return _read_copy(tarball, reason)
    raw = query.pandas
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
    table = _checked(table.reset_index(drop=True), "psrqpy")
    tarball = _psrqpy_copy()
    table.attrs["version"] = _version_of(query)
    table.attrs["sha256"] = None if tarball is None else sha256_of(tarball)
    if tarball is None:
        table.attrs["doubts"].append(
            "psrqpy downloaded nothing: it took the catalogue of an earlier query, of an unknown "
            f"day, from its cache {psrqpy.utils.CACHEDIR}; empty that to have the newest."
        )
    return table


def _read_copy(tarball: Path, reason: str) -> pd.DataFrame:
    """Read the catalogue that psrqpy downloaded once, since it could not now for this reason."""
    try:
        with tarfile.open(tarball) as archive, tempfile.TemporaryDirectory() as folder:
            member = archive.extractfile("psrcat_tar/psrcat.db")
            assert member is not None
            file = Path(folder, "psrcat.db")
            file.write_bytes(member.read())
            table = read_catalogue(file)
    except (OSError, EOFError, KeyError, tarfile.TarError, DataError) as error:
        raise DataError(
            f"psrqpy could not download the ATNF catalogue: {reason}; and its copy {tarball} "
            f"cannot be read: {error}; {BY_HAND}"
        ) from None
    day = datetime.fromtimestamp(tarball.stat().st_mtime, UTC).date()
    table.attrs["source"], table.attrs["sha256"] = "psrqpy", sha256_of(tarball)
    table.attrs["doubts"].append(
        f"The catalogue could not be downloaded ({reason}): this is the copy of {day} that psrqpy "
        f"keeps in {tarball}, version {table.attrs['version'] or 'not known'}; it may be old."
    )
    return table


def _version_of(query: Any) -> str | None:
    version = getattr(query, "get_version", None)
    return None if version is None else str(version)


def _psrqpy_copy() -> Path | None:
    """Return the file in which psrqpy keeps the catalogue, if it is there."""
    from psrqpy import utils

    path = Path(utils.CACHEDIR, utils.DEFAULTCACHENAME)
    return path if path.is_file() else None


def read_table(path: Path) -> pd.DataFrame:
    """Read any CSV with named columns as text, with or without a line of units.

    Args:
        path: the file, separated by one of `DELIMITERS`. The first line gives the names;
            a second line whose entries are empty or in parentheses gives units and is dropped.
            Columns without a name are dropped.

    Returns:
        One row a line; every cell is a stripped string, empty where absent.

    Raises:
        DataError: the file cannot be read, is empty, names a column twice, or a line has more
            entries than there are columns, or ends before the last one.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DataError(missing_file(path)) from None
    except (OSError, Unreadable) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    first = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        lines = [
            (number, [cell.strip() for cell in cells])
            for number, cells in enumerate(
                csv.reader(text.splitlines(), delimiter=delimiter, strict=True), start=1
            )
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}: it may be cut off") from None
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
        last = max(place for place, name in enumerate(header) if name in names)
        if len(cells) <= last:
            raise DataError(
                f"{path}:{number}: has {len(cells)} entries, but the header has {len(header)}: "
                f"'{header[len(cells)] or header[last]}' and what follows are missing; the file "
                "may be cut off"
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
            values[row] = number_in(text)
        except ValueError:
            values[row] = np.inf
        if not np.isfinite(values[row]):
            label = table.iloc[row].get("PSRJ", f"row {row}")
            raise DataError(
                f"{source}: {label}: {name} must be a finite number, but is '{text}'; write a "
                "decimal point, and nothing where it is not known"
            )
    return values


def _read_csv(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a CSV; also return the columns that it lacks."""
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
    return table, tuple(name for name in COLUMNS if name not in raw.columns)


def _is_units(cells: list[str]) -> bool:
    return any(cells) and all(not c or (c[0] == "(" and c[-1] == ")") for c in cells)


def _text(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower() in MISSING else text


def _checked(table: pd.DataFrame, source: str, absent: Sequence[str] = ()) -> pd.DataFrame:
    table = table[list(COLUMNS)].copy()
    if table.empty:
        raise DataError(f"{source}: holds no pulsar")
    unnamed = np.flatnonzero(table["PSRJ"] == "")
    if unnamed.size:
        raise DataError(f"{source}: the pulsar in row {unnamed[0] + 1} has no PSRJ")
    twice = table["PSRJ"][table["PSRJ"].str.replace("^j", "J", regex=True).duplicated()]
    if not twice.empty:
        raise DataError(f"{source}: {twice.iloc[0]} is there more than once")
    check_ranges(table, source)
    absent = [*absent, *(name for name in silent(table) if name not in absent)]
    found = list(doubts(table, absent))
    table.attrs.update(
        source=source, version=None, sha256=None, doubts=found, absent=tuple(absent)
    )
    return table
