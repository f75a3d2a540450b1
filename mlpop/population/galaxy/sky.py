"""Sky temperature: an analytic law or a map at 408 MHz, scaled to a survey's frequency."""

import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import DataError

REFERENCE_FREQUENCY = 408e6
"""Frequency of the law and of the maps [Hz]."""
INDEX = -2.6
"""Spectral index of the Galactic synchrotron temperature (Lawson et al. 1987)."""

SkyModel = Literal["narayan87", "healpix"]
Array = NDArray[Any]


def t_sky_408(
    l_deg: ArrayLike, b_deg: ArrayLike, model: SkyModel = "narayan87", path: str | None = None
) -> Array:
    """Return the sky temperature at 408 MHz.

    Args:
        l_deg: (n,) Galactic longitude [deg], in any turn.
        b_deg: (n,) Galactic latitude [deg].
        model: `narayan87`, the analytic law, or `healpix`, the nearest pixel of a map.
        path: the map, for `healpix`: a FITS file with a HEALPix binary table in Galactic
            coordinates and kelvin, for instance the destriped 408-MHz map of NASA's LAMBDA.

    Returns:
        (n,) temperature [K].

    Raises:
        DataError: `healpix` without a path, or a file that is not such a map.

    References:
        Narayan 1987, ApJ 319, 162; Remazeilles et al. 2015, MNRAS 451, 4311.
    """
    longitude = 180.0 - np.mod(180.0 - np.asarray(l_deg, dtype=np.float64), 360.0)
    latitude = np.asarray(b_deg, dtype=np.float64)
    if model == "narayan87":
        return 25.0 + 275.0 / ((1.0 + (longitude / 42.0) ** 2) * (1.0 + (latitude / 3.0) ** 2))
    if path is None:
        raise DataError(
            "sky model 'healpix' needs the path of a 408-MHz HEALPix map; "
            "give one, or use 'narayan87'"
        )
    values = _load_map(Path(path).resolve())
    nside = round((values.size / 12) ** 0.5)
    return values[ang2pix_ring(nside, longitude, latitude)]


def ang2pix_ring(nside: int, longitude: ArrayLike, latitude: ArrayLike) -> NDArray[np.int64]:
    """Return the HEALPix pixels, in RING order, that contain the given directions.

    Longitude, in any turn, and latitude are (n,) [deg], the pixels (n,) in [0, 12 nside^2).

    References:
        Gorski et al. 2005, ApJ 622, 759, section 4.
    """
    z = np.sin(np.radians(latitude))
    quarter = np.mod(np.asarray(longitude, dtype=np.float64), 360.0) / 90.0
    height = np.abs(z)

    # equatorial belt: diagonals that ascend and descend
    a = nside * (0.5 + quarter)
    c = nside * z * 0.75
    up, down = np.floor(a - c).astype(np.int64), np.floor(a + c).astype(np.int64)
    ring = nside + 1 + up - down
    shift = 1 - (ring & 1)
    column = np.mod((up + down - nside + shift + 1) // 2, 4 * nside)
    belt = 2 * nside * (nside - 1) + (ring - 1) * 4 * nside + column

    # polar caps; cos(latitude) keeps the digits that 1 - |z| loses at the pole
    root = nside * np.cos(np.radians(latitude)) * np.sqrt(3.0 / (1.0 + height))
    within = quarter - np.floor(quarter)
    first = np.floor(within * root).astype(np.int64)
    second = np.floor((1.0 - within) * root).astype(np.int64)
    cap_ring = np.minimum(first + second + 1, nside)
    cap_column = np.minimum(np.floor(quarter * cap_ring).astype(np.int64), 4 * cap_ring - 1)
    north = 2 * cap_ring * (cap_ring - 1) + cap_column
    south = 12 * nside * nside - 2 * cap_ring * (cap_ring + 1) + cap_column

    return np.where(height <= 2.0 / 3.0, belt, np.where(z > 0.0, north, south))


@functools.lru_cache(maxsize=2)
def _load_map(path: Path) -> NDArray[np.float32]:
    """Read the first column of the first HEALPix table of `path`, once a process."""
    # psrqpy brings astropy; its half a second of import is only for those who ask for a map
    from astropy.io import fits  # type: ignore[import-untyped]

    try:
        with fits.open(path, memmap=False) as units:
            table = next((u for u in units if "NSIDE" in u.header and u.is_image is False), None)
            if table is None:
                raise DataError(f"{path}: has no HEALPix table (no extension has NSIDE)")
            header, column = table.header, table.data.field(0)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a 408-MHz HEALPix map in FITS") from None
    except OSError as error:
        raise DataError(f"{path}: is not a FITS file that can be read: {error}") from None
    values = np.ascontiguousarray(column, dtype=np.float32).ravel()
    nside = int(header["NSIDE"])
    if values.size != 12 * nside * nside:
        raise DataError(
            f"{path}: NSIDE {nside} needs {12 * nside * nside} pixels, but there are {values.size}"
        )
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering != "RING":
        raise DataError(f"{path}: ORDERING must be RING, but is '{ordering}'")
    frame = str(header.get("COORDSYS", "G")).strip().upper()
    if not frame.startswith("G"):
        raise DataError(f"{path}: COORDSYS must be Galactic (G), but is '{frame}'")
    unit = str(header.get("TUNIT1", "K")).strip()
    if unit.upper() not in ("K", "KELVIN", "K_RJ", "K_CMB"):
        raise DataError(f"{path}: TUNIT1 must be K, but is '{unit}'")
    if not np.isfinite(values).all() or (values <= 0.0).any():
        bad = int(np.argmax(~(np.isfinite(values) & (values > 0.0))))
        raise DataError(f"{path}: pixel {bad} is {values[bad]} K; all must be positive")
    values.flags.writeable = False
    return values
