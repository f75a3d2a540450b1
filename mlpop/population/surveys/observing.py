"""Emission and detection of beamed stars, one loop over stars and the surveys that cover them."""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.pulsars.beaming import Beamed
from mlpop.population.pulsars.radio import (
    F_MEERKAT,
    Luminosity,
    bolometric_flux,
    ln_luminosity,
    pulse_width,
    spectral_density,
)
from mlpop.population.surveys.detection import (
    Receivers,
    effective_width,
    may_be_detected,
    signal_to_noise,
)

Vector = NDArray[np.float64]
TWO_PI = 2.0 * math.pi


class Deviates(NamedTuple):
    """Random numbers of beamed stars.

    Attributes:
        luminosity: (m,) standard normal.
        death: (m,) standard normal.
        spectral_index: (m,).
        tau: (m,) factor on the median scattering time.
        offset2: (n_surveys, m) (offset / FWHM)^2 in each survey, uniform in [0, 1/4).
        beam: (n_surveys, m) gain of the beam over that of the survey's most sensitive one.
    """

    luminosity: Vector
    death: Vector
    spectral_index: Vector
    tau: Vector
    offset2: Vector
    beam: Vector


class Sight(NamedTuple):
    """Lines of sight of beamed stars, all (m,).

    Attributes:
        coverage: coverage bits, see `surveys.survey.coverage`.
        dist: [kpc].
        declination: [rad].
        DM: [pc cm^-3].
        t_sky_408: [K].
        tau_327: median scattering time at 327 MHz [s].
    """

    coverage: NDArray[np.unsignedinteger[Any]]
    dist: Vector
    declination: Vector
    DM: Vector
    t_sky_408: Vector
    tau_327: Vector


class Observed(NamedTuple):
    """What reaches us.

    Attributes:
        luminosity: (m,) bolometric [erg/s]; like every flux 0 of a star that is silent.
        flux: (m,) bolometric [erg/s/cm^2].
        width: (m,) intrinsic [s].
        mean_1429: (m,) mean flux density at 1429 MHz [Jy].
        tau_sc: (m,) scattering time at 327 MHz [s].
        snr: (n_surveys, m) signal-to-noise; 0 where silent, too faint by far, broadened away or
            not covered.
        mean: (n_surveys, m) mean flux density [Jy], where the signal-to-noise is not 0.
        w_eff: (n_surveys, m) recorded width [s], where the signal-to-noise is not 0.
    """

    luminosity: Vector
    flux: Vector
    width: Vector
    mean_1429: Vector
    tau_sc: Vector
    snr: Vector
    mean: Vector
    w_eff: Vector


@njit(cache=True)
def observe(
    beamed: Beamed, sight: Sight, deviates: Deviates, law: Luminosity, receivers: Receivers
) -> Observed:
    """Compute fluxes and signal-to-noise ratios of beamed stars."""
    n_surveys, n = receivers.gain.size, beamed.P.size
    luminosity, flux, width = np.empty(n), np.empty(n), np.empty(n)
    mean_1429, tau_sc = np.empty(n), np.empty(n)
    shape = (n_surveys, n)
    snr, mean, w_eff = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    density = np.empty(n_surveys + 1)
    last_index = np.nan
    for i in range(n):
        period, index = beamed.P[i], deviates.spectral_index[i]
        if index != last_index:
            # Mostly the index is the same for all stars.
            for k in range(n_surveys):
                density[k] = spectral_density(index, receivers.frequency[k])
            density[n_surveys] = spectral_density(index, F_MEERKAT)
            last_index = index
        duty = pulse_width(beamed.chi[i], beamed.rho[i], beamed.zeta[i]) / TWO_PI
        width[i] = duty * period
        luminosity[i] = math.exp(
            ln_luminosity(law, period, beamed.P_dot[i], deviates.luminosity[i], deviates.death[i])
        )
        flux[i] = bolometric_flux(luminosity[i], beamed.rho[i], sight.dist[i])
        mean_1429[i] = flux[i] * duty * density[n_surveys]
        tau_sc[i] = sight.tau_327[i] * deviates.tau[i]
        if not 0.0 < duty < 1.0:
            continue
        for k in range(n_surveys):
            if not sight.coverage[i] & receivers.bit[k]:
                continue
            received = flux[i] * duty * density[k]
            if not may_be_detected(receivers, k, received, duty):
                continue
            recorded = effective_width(receivers, k, width[i], tau_sc[i], sight.DM[i])
            mean[k, i], w_eff[k, i] = received, recorded
            snr[k, i] = deviates.beam[k, i] * signal_to_noise(
                receivers,
                k,
                received,
                recorded / period,
                deviates.offset2[k, i],
                sight.t_sky_408[i],
                sight.declination[i],
            )
    return Observed(luminosity, flux, width, mean_1429, tau_sc, snr, mean, w_eff)
