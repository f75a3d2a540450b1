"""How faint a pulsar a survey could find in each direction and at each distance: an upper bound.

What theta does not change is computed once for all stars of a database.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.population.constants import KPC_CM
from mlpop.population.pulsars.radio import LN_BAND, spectral_density
from mlpop.population.single_precision import Single, f32
from mlpop.population.surveys.detection import Receivers

REFERENCE_INDEX = -1.8
"""Spectral index for which the reach is computed; others shift it by `index_gain`."""
NEVER = f32(-1e9)
"""ln of the reach of a star that no survey covers."""
_STARS_AT_ONCE = 1 << 16

Vector = NDArray[np.float64]


def ln_reach(
    receivers: Receivers,
    coverage: NDArray[np.unsignedinteger[Any]],
    dist: NDArray[Any],
    declination: NDArray[Any],
    t_sky_408: NDArray[Any],
) -> Single:
    """Return ln of the signal-to-noise over its threshold, for L / Omega = 1 erg/s/sr.

    The pulsar is on the axis of the beam of the most sensitive survey that covers it. Its signal
    is this times sqrt(duty (1 - duty)) at most, since broadening and the search only lower it.

    Args:
        receivers: the surveys.
        coverage: (n,) coverage bits.
        dist: (n,) [kpc].
        declination: (n,) [rad].
        t_sky_408: (n,) [K].

    Returns:
        (n,) ln of [s sr / erg]; NEVER where no survey covers the star.
    """
    out = np.empty(len(dist), f32)
    for start in range(0, len(dist), _STARS_AT_ONCE):
        part = slice(start, start + _STARS_AT_ONCE)
        out[part] = _ln_reach(
            receivers, coverage[part], dist[part], declination[part], t_sky_408[part]
        )
    return out


def _ln_reach(
    receivers: Receivers,
    coverage: NDArray[np.unsignedinteger[Any]],
    dist: NDArray[Any],
    declination: NDArray[Any],
    t_sky_408: NDArray[Any],
) -> NDArray[np.float64]:
    best = np.zeros(len(dist))
    for k, bit in enumerate(receivers.bit):
        density = spectral_density(REFERENCE_INDEX, receivers.frequency[k])
        signal = receivers.gain[k] * receivers.radiometer[k] * density / receivers.threshold[k]
        ratio = signal / (receivers.t_sys[k] + receivers.sky_scale[k] * t_sky_408)
        if receivers.aperture[k]:
            ratio *= np.cos(declination - receivers.zenith[k])
        np.maximum(best, ratio, out=best, where=(coverage & coverage.dtype.type(bit)) != 0)
    with np.errstate(divide="ignore"):
        reach = np.log(best) - 2.0 * np.log(np.asarray(dist, np.float64) * KPC_CM)
    return np.maximum(reach, NEVER)


def index_gains(receivers: Receivers, mean: float, std: float, deviates: Vector) -> Single:
    """Bound ln of what other spectral indices add to `ln_reach`, the survey being any.

    Args:
        receivers: the surveys.
        mean: of the spectral index.
        std: of it.
        deviates: (m + 1,) edges, in standard deviations.

    Returns:
        (m,) an upper bound between each two edges.
    """
    indices = mean + std * deviates
    gains = [
        max(
            math.log(spectral_density(index, f) / spectral_density(REFERENCE_INDEX, f))
            for f in receivers.frequency
        )
        for index in indices
    ]
    ends = np.maximum(gains[1:], gains[:-1])
    # Each survey's gain is concave, with a curvature of at most LN_BAND^2 / 12.
    return np.asarray(ends + np.diff(indices) ** 2 * LN_BAND**2 / 96.0, f32)
