"""The database format of the ATNF Pulsar Catalogue: `psrcat.db`.

A record is a block of lines `PARAMETER value [error] [reference]`, closed by a line that starts
with `@`; lines that start with `#` are comments. What psrcat derives when it is asked for a
parameter that a record does not hold is derived here in the same way: P0 and P1 from the
frequency, sky positions from sexagesimal or ecliptic coordinates, proper motions likewise.

psrqpy reads the format as well, but takes seconds, and keeps only the first association and the
first type of a pulsar, so that a globular cluster that is listed second would be lost.

References:
    Manchester, Hobbs, Teoh & Hobbs 2005, AJ 129, 1993.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mlpop.config.reading import Unreadable, missing_file, read_text
from mlpop.errors import DataError
from mlpop.io.columns import number_in

log = logging.getLogger(__name__)

TEXT_COLUMNS = ("PSRJ", "PSRB", "ASSOC", "SURVEY", "TYPE", "BINARY", "BINCOMP")
_ONCE = ("PSRJ", "PSRB", "RAJ", "DECJ", "ELONG", "ELAT", "P0", "P1", "F0", "F1")
"""What no record of the catalogue has twice."""
_LISTS = ("ASSOC", "SURVEY", "TYPE")
_MEASURED = ("PX", "POSEPOCH", "DM", "RM", "W50", "W10", "TAU_SC", "S400", "S1400", "S2000")
NUMBER_COLUMNS = (
    *("P0", "P1", "RAJD", "DECJD", "Gl", "Gb", "PMRA", "PMDEC", "DIST", "DIST_DM"),
    *_MEASURED,
)
COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
"""Columns of every catalogue table, in psrcat's names. Units: P0 [s], P1 [s/s]; RAJD, DECJD, Gl,
Gb [deg]; PMRA (times cos dec), PMDEC [mas/yr]; DIST, DIST_DM [kpc]; PX [mas]; POSEPOCH [MJD];
DM [pc cm^-3]; RM [rad/m^2]; W50, W10 [ms]; TAU_SC [s]; S400, S1400, S2000 [mJy]."""

OBLIQUITY = math.radians(84381.406 / 3600.0)
"""Mean obliquity of the ecliptic at J2000 (IAU 2006)."""
_POLE_RA, _POLE_DEC = math.radians(192.85948), math.radians(27.12825)
_NCP_L = 122.93192
"""North Galactic pole (J2000) and Galactic longitude of the celestial pole [deg]."""

Record = Mapping[str, str]


def read_psrcat_db(path: Path) -> pd.DataFrame:
    """Read a `psrcat.db`: one row a pulsar with `COLUMNS`, as `read_catalogue` returns it.

    Raises:
        DataError: the file cannot be read, is not in the format, or a spin or a position is not
            a number. Of other parameters, what is not a number is absent, with a warning.
    """
    rows = []
    for line, record in _records(path):
        where = f"{path}:{line}: {record.get('PSRJ', 'record')}"
        if "PSRJ" not in record:
            raise DataError(f"{where}: has no PSRJ")
        text = {name: record.get(name, "") for name in TEXT_COLUMNS}
        rows.append({**text, **_derive(record, where)})
    if not rows:
        raise DataError(
            f"{path}: holds no pulsar in psrcat's database format "
            "(lines 'PSRJ value', records closed by '@'); give the catalogue's psrcat.db, or a "
            "CSV whose name ends in .csv"
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def galactic(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn equatorial into Galactic coordinates, all (n,) [deg].

    J2000 right ascension and declination give longitude in [0, 360) and latitude.
    """
    turn, height = np.radians(ra) - _POLE_RA, np.radians(dec)
    x = np.sin(height) * math.cos(_POLE_DEC) - np.cos(height) * math.sin(_POLE_DEC) * np.cos(turn)
    y = np.cos(height) * np.sin(turn)
    z = np.sin(height) * math.sin(_POLE_DEC) + np.cos(height) * math.cos(_POLE_DEC) * np.cos(turn)
    longitude = np.mod(_NCP_L - np.degrees(np.arctan2(y, x)), 360.0)
    return longitude, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number at which each record starts, and the values of its parameters.

    Of a parameter that is given twice the first value counts, but lists are joined: release 1.67
    has two pulsars with two lines of surveys, neither of them complete.
    """
    record: dict[str, str] = {}
    start = number = 1
    for number, line in enumerate(read_psrcat_text(path).splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith("@"):
            if record:
                yield start, record
            record = {}
            continue
        if not record:
            start = number
        fields = line.split()
        if len(fields) < 2:
            continue
        name, value = fields[0], fields[1]
        if name in record and name in _LISTS:
            record[name] += f",{value}"
        elif name in record and name in _ONCE:
            raise DataError(
                f"{path}:{number}: {name} is there a second time ('{value}') in the record of "
                f"{record.get('PSRJ', 'a pulsar')} that begins in line {start}: two records run "
                "together, since the line '@---' between them is missing"
            )
        else:
            record.setdefault(name, value)
    if record:
        raise DataError(
            f"{path}: ends in line {number} inside the record of {record.get('PSRJ', 'a pulsar')}"
            ", without the line '@---' that closes every record: the file is cut off; get it again"
        )


def read_psrcat_text(path: Path) -> str:
    """Read the text of a `psrcat.db`.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        return read_text(path, errors="replace")
    except FileNotFoundError:
        raise DataError(missing_file(path)) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except Unreadable as error:
        text = f"{path}: {error}"
        if "SQLite" in text:
            text += (
                ": the form of psrcat 2, which mlpop does not read; give the text form psrcat.db "
                "of psrcat_pkg.tar.gz, or a CSV that psrcat wrote"
            )
        raise DataError(text) from None


def catalogue_version(text: str) -> str | None:
    """Return the version that the text of a `psrcat.db` gives in its line `#CATALOGUE 1.67`."""
    for line in text[:4096].splitlines():
        if line.startswith("#CATALOGUE") and len(line.split()) > 1:
            return line.split()[1]
    return None


def _derive(record: Record, where: str) -> dict[str, float]:
    numbers = {name: _lenient(record, name, where) for name in (*_MEASURED, "DIST_DM")}
    numbers["P0"], numbers["P1"] = _spin(record, where)
    ra, dec, pm_ra, pm_dec = _astrometry(record, where)
    longitude, latitude = galactic(np.array([ra]), np.array([dec]))
    numbers.update(RAJD=ra, DECJD=dec, PMRA=pm_ra, PMDEC=pm_dec)
    numbers.update(Gl=float(longitude[0]), Gb=float(latitude[0]))
    numbers["DIST"] = _best_distance(record, where)
    return numbers


def _number(record: Record, name: str, where: str) -> float:
    text = record.get(name)
    if text is None:
        return math.nan
    try:
        # some entries carry a Fortran exponent
        value = number_in(text.replace("D", "E").replace("d", "e"))
    except ValueError:
        raise DataError(f"{where}: {name} must be a number, but is '{text}'") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: {name} must be finite, but is '{text}'")
    return value


def _lenient(record: Record, name: str, where: str) -> float:
    try:
        return _number(record, name, where)
    except DataError as error:
        log.warning("%s; taken as absent", error)
        return math.nan


def _spin(record: Record, where: str) -> tuple[float, float]:
    """Return P0 [s] and P1 [s/s]."""
    p0, p1 = _number(record, "P0", where), _number(record, "P1", where)
    f0, f1 = _number(record, "F0", where), _number(record, "F1", where)
    for name, value in (("P0", p0), ("F0", f0)):
        if value <= 0.0:
            raise DataError(f"{where}: {name} must be positive, but is {value}")
    if math.isnan(p0):
        p0 = 1.0 / f0
    if math.isnan(p1):
        p1 = -f1 * p0 * p0
    return p0, p1


def _astrometry(record: Record, where: str) -> tuple[float, float, float, float]:
    """Return RAJD, DECJD [deg], PMRA and PMDEC [mas/yr]."""
    pm_ra, pm_dec = _number(record, "PMRA", where), _number(record, "PMDEC", where)
    if "RAJ" in record and "DECJ" in record:
        ra, dec = 15.0 * _sexagesimal(record, "RAJ", where), _sexagesimal(record, "DECJ", where)
        if "PMELONG" not in record or not math.isnan(pm_ra):
            return ra, dec, pm_ra, pm_dec
        longitude, latitude = _to_ecliptic(ra, dec)
    elif "ELONG" in record and "ELAT" in record:
        longitude = math.radians(_number(record, "ELONG", where))
        latitude = math.radians(_number(record, "ELAT", where))
    else:
        return math.nan, math.nan, pm_ra, pm_dec
    pm_long, pm_lat = _number(record, "PMELONG", where), _number(record, "PMELAT", where)
    return _from_ecliptic(longitude, latitude, pm_long, pm_lat, (pm_ra, pm_dec))


def _sexagesimal(record: Record, name: str, where: str) -> float:
    text = record[name]
    try:
        parts = [number_in(part) for part in text.lstrip("+-").split(":")]
        # 10.5 without minutes may be degrees as well as hours
        before = text.lstrip("+-").split(":")[: max(1, len(parts) - 1)]
        if not all(part.isdecimal() for part in before) or not np.isfinite(parts).all():
            raise ValueError
    except ValueError:
        raise DataError(f"{where}: {name} must be like 12:34:56.7, but is '{text}'") from None
    whole, *rest = parts
    most = 24.0 if name == "RAJ" else 90.0
    value = sum(part / 60.0**place for place, part in enumerate(parts))
    bad = len(parts) > 3 or not all(0.0 <= part <= 60.0 for part in rest) or value > most
    if bad or (name == "RAJ" and text.startswith("-")):
        raise DataError(
            f"{where}: {name} must be below {most:g} and its minutes and seconds below 60, but is "
            f"'{text}'"
        )
    return -value if text.startswith("-") else value


def _to_ecliptic(ra: float, dec: float) -> tuple[float, float]:
    a, d = math.radians(ra), math.radians(dec)
    x, y, z = math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)
    cos, sin = math.cos(OBLIQUITY), math.sin(OBLIQUITY)
    return math.atan2(cos * y + sin * z, x), math.asin(cos * z - sin * y)


def _from_ecliptic(
    longitude: float,
    latitude: float,
    pm_long: float,
    pm_lat: float,
    known: tuple[float, float],
) -> tuple[float, float, float, float]:
    """Rotate a place [rad] and its proper motion [mas/yr] by the obliquity.

    The equatorial proper motion `known` wins where it is measured.
    """
    cos, sin = math.cos(OBLIQUITY), math.sin(OBLIQUITY)
    x = math.cos(latitude) * math.cos(longitude)
    y = math.cos(latitude) * math.sin(longitude)
    z = math.sin(latitude)
    ra = math.atan2(cos * y - sin * z, x)
    dec = math.asin(sin * y + cos * z)
    pm_ra, pm_dec = known
    if math.isnan(pm_ra) and not (math.isnan(pm_long) or math.isnan(pm_lat)):
        # the angle between the two north directions at the star
        up = (cos * math.cos(latitude) - sin * math.sin(latitude) * math.sin(longitude)) / (
            math.cos(dec)
        )
        side = sin * math.cos(longitude) / math.cos(dec)
        pm_ra, pm_dec = pm_long * up - pm_lat * side, pm_long * side + pm_lat * up
    return math.degrees(ra) % 360.0, math.degrees(dec), pm_ra, pm_dec


def _best_distance(record: Record, where: str) -> float:
    """Return the measured distance, else that from the DM within the limits, if any [kpc]."""
    measured = _lenient(record, "DIST_A", where)
    if not math.isnan(measured):
        return measured
    near, far = _lenient(record, "DIST_AMN", where), _lenient(record, "DIST_AMX", where)
    from_dm = _lenient(record, "DIST_DM", where)
    if math.isnan(from_dm):
        return 0.5 * (near + far)
    if from_dm < near:
        return near
    return far if from_dm > far else from_dm
