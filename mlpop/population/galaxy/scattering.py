"""What the interstellar medium does to a pulse: scattering and dispersion smearing."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.population.constants import E_CHARGE, LIGHT_SPEED, M_ELECTRON, PC_CM

FREQUENCY = 327e6
"""Frequency of the scattering law [Hz]."""
INDEX = -4.4
"""Index of the scattering time with frequency."""
SCATTER_DEX = 0.5
"""Standard deviation of log10 of the scattering time about the law."""
DISPERSION = E_CHARGE**2 / (2.0 * math.pi * M_ELECTRON * LIGHT_SPEED) * PC_CM
"""Dispersion constant: delay [s] = DISPERSION * DM [pc cm^-3] / f^2 [Hz^2]; 4148.8 s MHz^2."""

Array = NDArray[Any]


def tau_327(dm: ArrayLike) -> Array:
    """Return the median scattering time at 327 MHz.

    Args:
        dm: (...) dispersion measure [pc cm^-3], >= 0.

    Returns:
        (...) scattering time [s]; zero where `dm` is zero.

    References:
        Krishnakumar et al. 2015, ApJ 804, 23.
    """
    value = np.asarray(dm)
    return 3.6e-9 * value**2.2 * (1.0 + 1.94e-3 * value**2)


def scattered_tau_327(dm: ArrayLike, rng: np.random.Generator) -> Array:
    """Draw scattering times at 327 MHz, log-normal about the median, one a star.

    Args:
        dm: (n,) dispersion measure [pc cm^-3], >= 0.
        rng: its next n normal deviates are used.

    Returns:
        (n,) scattering time [s]; zero where `dm` is zero.
    """
    median = tau_327(dm)
    # a factor, not a normal draw about log10(tau), which zero would break
    return median * 10.0 ** (SCATTER_DEX * rng.standard_normal(median.shape))


def at_frequency(tau: ArrayLike, frequency: float) -> Array:
    """Scale scattering times from 327 MHz to `frequency`.

    Args:
        tau: (...) scattering time at 327 MHz [s].
        frequency: [Hz].

    Returns:
        (...) scattering time [s].
    """
    return np.asarray(tau) * (frequency / FREQUENCY) ** INDEX


def tau_dm(dm: ArrayLike, frequency: float, channel_width: float) -> Array:
    """Return the dispersion smearing inside one frequency channel.

    Args:
        dm: (...) dispersion measure [pc cm^-3].
        frequency: centre of the band [Hz].
        channel_width: [Hz].

    Returns:
        (...) smearing [s].

    References:
        Lorimer & Kramer 2004, Handbook of Pulsar Astronomy, appendix A2.4.
    """
    return 2.0 * DISPERSION * channel_width / frequency**3 * np.asarray(dm)
