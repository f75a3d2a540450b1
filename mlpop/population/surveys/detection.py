"""Detection of pulsars by surveys: broadening, radiometer equation, search efficiency."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.constants import DEG, MHZ
from mlpop.population.galaxy.scattering import DISPERSION
from mlpop.population.galaxy.scattering import FREQUENCY as TAU_FREQUENCY
from mlpop.population.galaxy.scattering import INDEX as TAU_INDEX
from mlpop.population.galaxy.sky import INDEX as SKY_INDEX
from mlpop.population.galaxy.sky import REFERENCE_FREQUENCY as SKY_FREQUENCY
from mlpop.population.surveys.survey import Survey

BEAM_SHAPE = 2.77
"""4 ln 2, rounded as in Lorimer et al. 1993."""
SMALL_DUTY = 1e-3
DUTY_CAP = 6.882
"""Largest sqrt((1 - duty) / duty) * efficiency(duty), at a duty cycle of 8.6e-4."""

Vector = NDArray[np.float64]


class Receivers(NamedTuple):
    """The surveys' numbers that detection needs, as (n_surveys,) arrays in one order.

    Attributes:
        bit: of the k-th survey, 2^k, in a star's coverage.
        frequency: [Hz].
        gain: on axis [K/Jy].
        radiometer: sqrt(n_pol t_obs BW) / degradation.
        t_sys: [K].
        sky_scale: sky temperature here over that at 408 MHz.
        t_samp: [s].
        tau_scale: scattering time here over that at 327 MHz.
        smearing: dispersion smearing in a channel over DM [s / (pc cm^-3)].
        threshold: signal-to-noise.
        fft: 1 where the efficiency of a Fourier search applies.
        aperture: 1 where the gain falls with the zenith angle.
        zenith: declination of the zenith [rad].
    """

    bit: NDArray[np.uint64]
    frequency: Vector
    gain: Vector
    radiometer: Vector
    t_sys: Vector
    sky_scale: Vector
    t_samp: Vector
    tau_scale: Vector
    smearing: Vector
    threshold: Vector
    fft: NDArray[np.int64]
    aperture: NDArray[np.int64]
    zenith: Vector


def receivers(chosen: Sequence[Survey]) -> Receivers:
    """Gather the numbers of the chosen surveys, in the order of the coverage bits."""
    frequency = np.array([s.f_central for s in chosen]) * MHZ
    band = np.array([s.n_pol * s.t_obs * s.BW for s in chosen]) * MHZ
    channel = np.array([s.channel_width for s in chosen]) * MHZ
    return Receivers(
        bit=np.uint64(1) << np.arange(len(chosen), dtype=np.uint64),
        frequency=frequency,
        gain=np.array([s.G0 for s in chosen]),
        radiometer=np.sqrt(band) / np.array([s.deg_factor for s in chosen]),
        t_sys=np.array([s.T_sys for s in chosen]),
        sky_scale=(frequency / SKY_FREQUENCY) ** SKY_INDEX,
        t_samp=np.array([s.t_samp for s in chosen]) * 1e-6,
        tau_scale=(frequency / TAU_FREQUENCY) ** TAU_INDEX,
        smearing=2.0 * DISPERSION * channel / frequency**3,
        threshold=np.array([s.SNR_th for s in chosen]),
        fft=np.array([int(s.FFT_search) for s in chosen]),
        aperture=np.array([int(s.aperture_config) for s in chosen]),
        zenith=np.array([0.5 * sum(s.DEC_range) for s in chosen]) * DEG,
    )


@njit(cache=True)
def beam_gain(gain: float, offset2: float) -> float:
    """Return the gain at an offset [K/Jy]; `offset2` is (offset / FWHM)^2, from 0 to 1/4.

    References:
        Lorimer et al. 1993, MNRAS 263, 403; Bates et al. 2014, MNRAS 439, 2893.
    """
    return gain * math.exp(-BEAM_SHAPE * offset2)


@njit(cache=True)
def search_efficiency(duty: float) -> float:
    """Return the efficiency of a Fourier search at a duty cycle w / P.

    References:
        Morello et al. 2020, MNRAS 497, 4654, equation 44.
    """
    return 1.0 / (1.0 + 0.0473 * duty**-0.627)


@njit(cache=True)
def duty_factor(duty: float, fft: int) -> float:
    """Return sqrt((1 - duty) / duty), times the search efficiency if `fft`; 0 from duty = 1 on."""
    if duty >= 1.0:
        return 0.0
    factor = math.sqrt((1.0 - duty) / duty)
    return factor * search_efficiency(duty) if fft else factor


@njit(cache=True)
def effective_width(
    receivers: Receivers, k: int, width: float, tau_327: float, dm: float
) -> float:
    """Return the width of a pulse as survey k records it [s].

    The intrinsic width and the scattering time at 327 MHz are in s, the DM in pc cm^-3.

    References:
        Cordes & McLaughlin 2003, ApJ 596, 1142, equation 2.
    """
    scattering = tau_327 * receivers.tau_scale[k]
    smearing = receivers.smearing[k] * dm
    return math.sqrt(width**2 + scattering**2 + smearing**2 + receivers.t_samp[k] ** 2)


@njit(cache=True)
def signal_to_noise(
    receivers: Receivers,
    k: int,
    flux: float,
    duty: float,
    offset2: float,
    t_sky_408: float,
    declination: float,
) -> float:
    """Return the signal-to-noise of a pulsar in survey k.

    Args:
        receivers, k: the surveys, and the place of this one.
        flux: mean flux density at the survey's frequency [Jy].
        duty: effective width over period.
        offset2: (offset from the beam's axis / FWHM)^2.
        t_sky_408: sky temperature at 408 MHz [K].
        declination: [rad].

    References:
        Lorimer & Kramer 2004, Handbook of Pulsar Astronomy, equation A1.22.
    """
    temperature = receivers.t_sys[k] + receivers.sky_scale[k] * t_sky_408
    gain = beam_gain(receivers.gain[k], offset2)
    ratio = flux * gain * receivers.radiometer[k] / temperature
    ratio *= duty_factor(duty, receivers.fft[k])
    if receivers.aperture[k]:
        ratio *= math.cos(declination - receivers.zenith[k])
    return ratio


@njit(cache=True)
def may_be_detected(receivers: Receivers, k: int, flux: float, duty: float) -> bool:
    """Tell whether survey k could detect a pulsar under a dark sky on axis, without broadening.

    Broadening only lowers the duty factor, except below SMALL_DUTY, where its peak counts. Flux
    density [Jy] and intrinsic duty cycle are those of `signal_to_noise`.
    """
    factor = duty_factor(duty, receivers.fft[k])
    if receivers.fft[k] and duty < SMALL_DUTY:
        factor = DUTY_CAP
    bound = flux * receivers.gain[k] * receivers.radiometer[k] / receivers.t_sys[k] * factor
    return bound > receivers.threshold[k]
