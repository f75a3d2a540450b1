"""Tables that a user gives beside the catalogue: fluxes of a census, corrected periods."""

from pathlib import Path

import numpy as np
import pandas as pd

from mlpop.errors import DataError
from mlpop.population.catalogue.observed_catalogue import numbers, read_table

_MOST_HARMONIC = 100.0
"""A corrected period is at most so many times longer or shorter than the listed one."""
_FLUXES_MJY = (1e-3, 1e3)
"""Half of a census lie well within these [mJy]."""


def read_tpa(path: Path) -> pd.DataFrame:
    """Read the census of the Thousand-Pulsar-Array programme (Posselt et al. 2023).

    The CSV has the columns PSRJ and ch6flux [mJy at 1429 MHz]; others are ignored. A flux that is
    absent becomes NaN.

    Raises:
        DataError: a column is missing, a flux is not positive, or a pulsar is there twice.
    """
    raw = _named_table(path, ("PSRJ", "ch6flux"))
    flux = numbers(raw, "ch6flux", str(path))
    for psrj, value in zip(raw["PSRJ"][flux <= 0.0], flux[flux <= 0.0], strict=True):
        raise DataError(f"{path}: {psrj}: ch6flux must be positive, but is {value} mJy")
    check_fluxes(flux, f"{path}: half of the ch6flux")
    return pd.DataFrame({"PSRJ": raw["PSRJ"], "ch6flux": flux})


def check_fluxes(flux: np.ndarray, half: str) -> None:
    """Refuse fluxes (n,), NaN where absent, that cannot be in mJy; messages begin with `half`.

    Raises:
        DataError: half of them are above or below what a census has.
    """
    middle = float(np.nanmedian(flux)) if np.isfinite(flux).any() else 1.0
    if not _FLUXES_MJY[0] <= middle <= _FLUXES_MJY[1]:
        raise DataError(
            f"{half} are {'above' if middle > 1.0 else 'below'} {middle:g}: they must be given in "
            "mJy"
        )


def read_corrections(path: Path) -> pd.DataFrame:
    """Read corrected periods.

    The CSV has the column PSRJ and either `factor`, the true period over that in the catalogue, or
    `P0`, the true period [s]. The one that is not there is NaN in every row of the table.

    Raises:
        DataError: columns are missing, both are given, a value is absent or not positive, or a
            pulsar is there twice.
    """
    raw = _named_table(path, ("PSRJ",))
    names = [name for name in ("factor", "P0") if name in raw.columns]
    if len(names) != 1:
        raise DataError(
            f"{path}: needs either a column 'factor' or a column 'P0', "
            f"but has {' and '.join(names) or 'neither'}"
        )
    [name] = names
    values = numbers(raw, name, str(path))
    if not (values > 0.0).all():
        psrj, text = raw[["PSRJ", name]].iloc[int(np.argmin(values > 0.0))]
        raise DataError(f"{path}: {psrj}: {name} must be positive, but is '{text}'")
    columns = {"PSRJ": raw["PSRJ"], "factor": np.nan, "P0": np.nan}
    return pd.DataFrame({**columns, name: values})


def _named_table(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    raw = read_table(path)
    absent = [name for name in required if name not in raw.columns]
    if absent:
        raise DataError(
            f"{path}: lacks the column {', '.join(absent)}; found {', '.join(raw.columns)}"
        )
    twice = raw["PSRJ"][raw["PSRJ"].duplicated()]
    if not twice.empty:
        raise DataError(f"{path}: {twice.iloc[0]} is there more than once")
    return raw


def corrected(catalogue: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Return the catalogue with the corrected P0 [s], and P1 changed by the same factor.

    Raises:
        DataError: a pulsar is not in the catalogue or has no P0 there, or its periods differ by
            more than a harmonic can.
    """
    unknown = sorted(set(corrections["PSRJ"]) - set(catalogue["PSRJ"]))
    if unknown:
        raise DataError(
            f"corrected periods of pulsars that are not in the catalogue: {', '.join(unknown)}; "
            "use the J names of the catalogue"
        )
    table = catalogue.copy()
    row = pd.Index(table["PSRJ"]).get_indexer(corrections["PSRJ"])
    listed = table["P0"].to_numpy()[row]
    if np.isnan(listed).any():
        name = corrections["PSRJ"].iloc[int(np.argmax(np.isnan(listed)))]
        raise DataError(f"corrected period of {name}: the catalogue has no P0 to correct")
    factor = corrections["factor"].fillna(corrections["P0"] / listed).to_numpy()
    odd = (factor > _MOST_HARMONIC) | (factor < 1.0 / _MOST_HARMONIC)
    if odd.any():
        first = int(np.argmax(odd))
        raise DataError(
            f"corrected period of {corrections['PSRJ'].iloc[first]}: is {factor[first]:g} times "
            f"that of the catalogue, {listed[first]:g} s; a harmonic is at most {_MOST_HARMONIC} "
            "times off: give `factor` as true over listed period, or `P0` in seconds"
        )
    for name in ("P0", "P1"):
        values = table[name].to_numpy(copy=True)
        values[row] *= factor
        table[name] = values
    return table
