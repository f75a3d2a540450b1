"""The documented exchange file of stellar databases, `final_pop_dyn.csv`, in and out.

An unnamed index column, two header lines (name, unit), a row a star; all settings lie beside it
in `configuration.json`.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from mlpop.config.base import read_json
from mlpop.config.blocks.dynamics import KICK_PARAMETERS, DynamicsConfig
from mlpop.config.reading import Unreadable, refuse_foreign
from mlpop.errors import ConfigError, DataError
from mlpop.population.stars.build import CHUNK, DYNAMIC_COLUMNS, UNITS, Columns, complete_columns

_HEADER_LINES = 2
_BLOCK = 1 << 23  # bytes read at once
_SPELLINGS = {"year": "yr", "years": "yr", "radians": "rad", "km s^-1": "km/s", "km s-1": "km/s"}


def read_configuration(path: Path) -> DynamicsConfig:
    """Read the settings of an imported database, its `configuration.json`.

    Settings that do not concern the stars are passed over, as are those that are null.

    Raises:
        DataError: a needed setting is missing, or a value is not allowed.
    """
    try:
        values = {key: value for key, value in read_json(path).items() if value is not None}
        kick_model = values.get("kick_model")
        parameters = set(KICK_PARAMETERS.get(str(kick_model), ())) - {"vk_extent"}
        needed = ["NS_number", "t_age_max", "h_c", "kick_model", *sorted(parameters)]
        missing = [key for key in needed if key not in values]
        if missing:
            raise DataError(f"{path}: settings are missing: {', '.join(missing)}")
        settings = {key: values[key] for key in DynamicsConfig.model_fields if key in values}
        if "seed_dyn" in values:
            settings["seed"] = values["seed_dyn"]
        for name in ("NS_number", "seed", "resolution", "arm_number"):
            if isinstance(settings.get(name), float) and settings[name].is_integer():
                settings[name] = int(settings[name])
        unused = {name for names in KICK_PARAMETERS.values() for name in names}
        unused -= set(KICK_PARAMETERS.get(str(kick_model), ()))
        if settings.get("sample_edm") is True:
            unused |= {"spiral_arms", "arm_number", "radial_model", "resolution"}
        for name in unused:
            settings.pop(name, None)
        return DynamicsConfig.parse(settings, source=str(path))
    except ConfigError as error:
        raise DataError(str(error)) from None


def read_csv(path: Path, config: DynamicsConfig) -> Iterator[Columns]:
    """Read the stars of a CSV file, a piece at a time, with every derived column of `build.UNITS`.

    Raises:
        DataError: see `StellarDatabase.import_csv`.
    """
    names = _check_header(path)
    rows = 0
    try:
        with arrow_csv.open_csv(
            path,
            read_options=arrow_csv.ReadOptions(
                column_names=names, skip_rows=_HEADER_LINES, block_size=_BLOCK, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=DYNAMIC_COLUMNS,
                column_types=dict.fromkeys(DYNAMIC_COLUMNS, pyarrow.float64()),
            ),
        ) as batches:
            for batch in batches:
                values = {
                    name: batch.column(name).to_numpy(zero_copy_only=False)
                    for name in DYNAMIC_COLUMNS
                }
                _check_values(path, values, rows, config.t_age_max)
                rows += batch.num_rows
                if rows <= config.NS_number:
                    yield complete_columns(values, config)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if rows != config.NS_number:
        raise DataError(
            f"{path}: {rows} stars, but NS_number in its configuration is {config.NS_number}: "
            "the file is truncated or belongs to another configuration"
        )


def write_csv(path: Path, columns: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write the documented CSV file and `configuration.json` beside it.

    Raises:
        DataError: one of the files exists or cannot be written.
    """
    settings = path.parent / "configuration.json"
    for file in (path, settings):
        if file.exists():
            raise DataError(f"{file}: exists already; choose another folder")
    n = int(header["n_stars"])
    work = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with work.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(["", *DYNAMIC_COLUMNS])
            writer.writerow(["", *(UNITS[name] for name in DYNAMIC_COLUMNS)])
            for start in range(0, n, CHUNK):
                part = slice(start, min(start + CHUNK, n))
                frame = pd.DataFrame(
                    {name: columns[name][part] for name in DYNAMIC_COLUMNS},
                    index=pd.RangeIndex(part.start, part.stop),
                )
                frame.to_csv(out, header=False, lineterminator="\n")
        values = {**header["config"], "seed_dyn": header["config"].get("seed")}
        values.pop("seed", None)
        settings.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        work.rename(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from None
    finally:
        work.unlink(missing_ok=True)


def _check_header(path: Path) -> list[str]:
    """Return the names of all columns, after checking names, units and the end of the file."""
    try:
        with path.open("rb") as raw:
            refuse_foreign(raw.read(_BLOCK))
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            names, units = next(lines, []), next(lines, [])
        with path.open("rb") as raw:
            raw.seek(0, os.SEEK_END)
            raw.seek(max(0, raw.tell() - 1))
            complete = raw.read(1) == b"\n"
    except Unreadable as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    missing = [name for name in DYNAMIC_COLUMNS if name not in names]
    if missing:
        raise DataError(
            f"{path}: columns are missing: {', '.join(missing)}; found: {', '.join(names[1:])}"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: columns appear twice: {', '.join(repeated)}")
    by_name = dict(zip(names, units, strict=False))
    for name in DYNAMIC_COLUMNS:
        unit = by_name.get(name, "").strip(" []()").lower()
        if _SPELLINGS.get(unit, unit) != UNITS[name]:
            raise DataError(
                f"{path}: line 2: column '{name}' must be in {UNITS[name]}, "
                f"found '{by_name.get(name, '')}'"
            )
    if not complete:
        raise DataError(f"{path}: the last line has no end: the file is truncated")
    return [name or "(index)" for name in names]


def _check_values(
    path: Path, values: Mapping[str, NDArray[np.float64]], first: int, t_age_max: float
) -> None:
    for name, column in values.items():
        if name == "age":
            bad, rule = ~((column > 0.0) & (column <= t_age_max)), f"in (0, {t_age_max:g}] yr"
        elif name == "r":
            bad, rule = ~((column >= 0.0) & np.isfinite(column)), "finite and not negative"
        else:
            bad, rule = ~np.isfinite(column), "finite"
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{path}: line {first + row + _HEADER_LINES + 1}: {name} must be {rule}, "
                f"found {column[row]:g}"
            )
