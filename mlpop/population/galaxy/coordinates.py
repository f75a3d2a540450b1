"""From the Galactocentric frame of the simulation to the sky: l, b, d, ICRS and proper motion.

The frame is right-handed and centred on the Galaxy: x towards l = 90 deg, y from the centre
towards the Sun, z north. The Galaxy turns clockwise: v_phi < 0.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.population.constants import DEG, PM_KMS, SUN_VELOCITY_KMS

Array = NDArray[np.float64]

_EQUATORIAL_TO_GALACTIC = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [+0.4941094278755837, -0.4448296299600112, +0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, +0.4559837761750669],
    ]
)  # J2000; ESA 1997, The Hipparcos and Tycho Catalogues, vol. 1, eq. 1.5.11


@dataclass(frozen=True)
class Sky:
    """Where stars are seen from the Sun; every field has shape (n,).

    Args:
        l: Galactic longitude in (-180, 180] [deg].
        b: Galactic latitude [deg].
        d: distance from the Sun [kpc].
        ra: right ascension in [0, 360) [deg].
        dec: declination [deg].
        pm_l: proper motion in l, times cos b [mas/yr].
        pm_b: proper motion in b [mas/yr].
        pm_ra: proper motion in right ascension, times cos dec [mas/yr].
        pm_dec: proper motion in declination [mas/yr].
        v_ls: velocity along the line of sight, away from the Sun [km/s].
    """

    l: Array  # noqa: E741 - the name of the coordinate in every catalogue
    b: Array
    d: Array
    ra: Array
    dec: Array
    pm_l: Array
    pm_b: Array
    pm_ra: Array
    pm_dec: Array
    v_ls: Array


def to_cartesian(
    r: ArrayLike, phi: ArrayLike, v_r: ArrayLike, v_phi: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Turn cylindrical into Cartesian coordinates; z and v_z are the same in both.

    All are (n,): r [kpc], phi [rad], v_r and v_phi [km/s] give x and y [kpc], v_x and v_y [km/s].
    """
    radius, azimuth = np.asarray(r, dtype=np.float64), np.asarray(phi, dtype=np.float64)
    radial, turning = np.asarray(v_r, dtype=np.float64), np.asarray(v_phi, dtype=np.float64)
    cos, sin = np.cos(azimuth), np.sin(azimuth)
    return radius * cos, radius * sin, radial * cos - turning * sin, radial * sin + turning * cos


def to_sky(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
    v_x: ArrayLike,
    v_y: ArrayLike,
    v_z: ArrayLike,
    *,
    r_sun: float = 8.3,
    z_sun: float = 0.02,
) -> Sky:
    """Observe stars from the Sun.

    Equivalent to astropy's `Galactocentric` frame with the "v4.0" parameters, which puts the
    Galactic centre 0.1 mdeg away from l = b = 0; hence they agree to 1.5e-4 deg.

    Args:
        x, y, z: (n,) position [kpc].
        v_x, v_y, v_z: (n,) velocity [km/s].
        r_sun: distance of the Sun from the Galactic centre [kpc].
        z_sun: height of the Sun above the plane [kpc].

    Returns:
        The sky coordinates. At the Sun itself (d = 0) angles and velocities are zero.
    """
    tilt = math.asin(z_sun / r_sun)
    # Axes of the Galactocentric frame of astropy: X = -y, Y = x, Z = z.
    x, y, z, v_x, v_y, v_z = (np.asarray(c, dtype=np.float64) for c in (x, y, z, v_x, v_y, v_z))
    v_1, v_2, v_3 = SUN_VELOCITY_KMS
    position = np.stack(np.broadcast_arrays(-y, x, z))
    velocity = np.stack(np.broadcast_arrays(-v_y - v_1, v_x - v_2, v_z - v_3))
    place, motion = _tilt(position, tilt), _tilt(velocity, tilt)
    place[0] += r_sun
    d = np.sqrt((place**2).sum(axis=0))
    safe = np.where(d > 0.0, d, 1.0)
    v_ls = (place * motion).sum(axis=0) / safe
    l, b, pm_l, pm_b = _angles(place, motion, safe)  # noqa: E741
    to_icrs = _EQUATORIAL_TO_GALACTIC.T
    ra, dec, pm_ra, pm_dec = _angles(_rotate(to_icrs, place), _rotate(to_icrs, motion), safe)
    # atan2 gives -180 for a negative zero, and the remainder of a tiny negative number is 360.
    l = np.where(l <= -180.0, 180.0, l)  # noqa: E741
    ra = np.where(ra < 0.0, ra + 360.0, ra)
    ra = np.where(ra >= 360.0, 0.0, ra)
    return Sky(
        l=l, b=b, d=d, ra=ra, dec=dec, pm_l=pm_l, pm_b=pm_b, pm_ra=pm_ra, pm_dec=pm_dec, v_ls=v_ls
    )


def _tilt(vector: Array, tilt: float) -> Array:
    """Rotate from the Galactic plane to the line from the Sun to the centre."""
    first, second, third = vector
    cos, sin = math.cos(tilt), math.sin(tilt)
    return np.stack([cos * first - sin * third, second, sin * first + cos * third])


def _rotate(matrix: Array, vector: Array) -> Array:
    # Written out: a BLAS product may sum in an order that depends on threads and sizes.
    first, second, third = vector
    return np.stack([row[0] * first + row[1] * second + row[2] * third for row in matrix])


def _angles(place: Array, motion: Array, d: Array) -> tuple[Array, Array, Array, Array]:
    """Longitude, latitude [deg] and proper motion in both [mas/yr]."""
    u, v, w = place
    longitude = np.arctan2(v, u)
    latitude = np.arctan2(w, np.hypot(u, v))
    cos_lon, sin_lon = np.cos(longitude), np.sin(longitude)
    cos_lat, sin_lat = np.cos(latitude), np.sin(latitude)
    across = -sin_lon * motion[0] + cos_lon * motion[1]
    up = -sin_lat * (cos_lon * motion[0] + sin_lon * motion[1]) + cos_lat * motion[2]
    return longitude / DEG, latitude / DEG, across / (PM_KMS * d), up / (PM_KMS * d)
