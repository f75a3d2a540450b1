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
DISPERSION = E_CHARGE**2 / (2.0 * math.pi * M_ELECTRON * LIGHT_SPEED) * PC_CM
"""Dispersion constant: delay [s] = DISPERSION * DM [pc cm^-3] / f^2 [Hz^2]; 4148.8 s MHz^2."""

Array = NDArray[Any]


def tau_327(dm: ArrayLike) -> Array:
    """Return the median scattering time (...) at 327 MHz [s] for `dm` (...) [pc cm^-3].

    References:
        Krishnakumar et al. 2015, ApJ 804, 23.
    """
    value = np.asarray(dm)
    return 3.6e-9 * value**2.2 * (1.0 + 1.94e-3 * value**2)
