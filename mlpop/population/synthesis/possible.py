"""Which stars could be detected at all: bounds in single precision, before anything is evolved.

Nearly all stars have a beam that misses us, or are too faint for any survey. Bounds on the period
and the inclination of today, from the torque alone, tell most of them apart. What is left is
evolved and observed exactly; so bounds change the time that a simulation takes and not one bit of
its result. Each is loosened by more than rounding.

First come stars whose beam passes us by: as a pulsar slows down its beam narrows and, with the
magnetic axis, turns towards the spin axis. Only the rest is asked how bright it could be.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.pulsars.decay_grid import DecayGrid, interpolate
from mlpop.population.pulsars.evolution import Evolution
from mlpop.population.pulsars.initial import SPAN, BirthLaws, at_birth
from mlpop.population.pulsars.radio import Beam, Luminosity
from mlpop.population.single_precision import (
    Single,
    cosine,
    exponential,
    f32,
    i32,
    logarithm,
    sine,
)
from mlpop.population.surveys.detection import Receivers
from mlpop.population.surveys.reach import NEVER, index_gains
from mlpop.population.synthesis.order import Order, Places, Unchanging, row_of
from mlpop.population.synthesis.star_numbers import (
    Key,
    draw_first,
    draw_second,
)

BLOCK = 1024
"""Stars whose numbers lie in the processor's cache together."""
N_INDEX = 256
"""Cells of the spectral index, over its normal deviate."""

HALF_PI = f32(0.5 * math.pi)
LARGEST_LN_PERIOD = f32(20.0)
"""Stars beyond exp(+-20) s, or with tau beyond exp(40) s^2, are left to the exact evolution."""
LARGEST_LN_TAU = f32(40.0)
SPARE_SINE = f32(2e-5)
"""Spare of sines and of cosines near 0; of cosines near 1, which tell small angles badly."""
SPARE_COSINE = f32(2e-4)
SPARE_SIGNAL = f32(1e-3)
"""Spare of ln of the signal-to-noise, beside the errors of the decay."""
TINY = f32(1e-30)


class Candidates(NamedTuple):
    """Stars in question, all (n,); the last three are drawn and computed later than the others.

    Attributes:
        cos_chi0: cosine of the inclination at birth.
        cos_zeta: cosine of the angle between line of sight and spin axis.
        ln_p0: ln of the period at birth [s].
        ln_b0: ln of the field at birth [G].
        ln_age: ln of [yr].
        ln_reach: see `surveys.reach.ln_reach`, plus the gain by the spectral index.
        ln_mean: ln of the mean square of B / B0.
        ln_floor: ln of the residual field [G].
        luminosity: normal deviate of the luminosity scale.
        ln_decay: ln of B / B0 today.
    """

    cos_chi0: Single
    cos_zeta: Single
    ln_p0: Single
    ln_b0: Single
    ln_age: Single
    ln_reach: Single
    ln_mean: Single
    ln_floor: Single
    luminosity: Single
    ln_decay: Single


class Limits(NamedTuple):
    """What one theta fixes for the bounds, in single precision.

    Attributes:
        ln_beta_yr: ln of beta times a year [s^2 G^-2 yr^-1].
        ln_power: ln of beta times what makes Pdot / P^3 the power in the luminosity law.
        k0, k1, k2: the torque.
        force_free: whether all of them are 1.
        ln_beam, beam_exponent: the opening angle is exp(ln_beam) P^beam_exponent.
        ln_mean, ln_sigma, epsilon: the luminosity law.
        index_gain: (N_INDEX,) bound by the deviate of the spectral index; (1,) without a spread.
        spare_tau, spare_field: errors of the interpolated decay.
    """

    ln_beta_yr: np.float32
    ln_power: np.float32
    k0: np.float32
    k1: np.float32
    k2: np.float32
    force_free: bool
    ln_beam: np.float32
    beam_exponent: np.float32
    ln_mean: np.float32
    ln_sigma: np.float32
    epsilon: np.float32
    index_gain: Single
    spare_tau: np.float32
    spare_field: np.float32


def limits(
    config: PopulationConfig,
    now: Evolution,
    beam: Beam,
    luminosity: Luminosity,
    receivers: Receivers,
    grid: DecayGrid,
) -> Limits:
    """Gather what `config` fixes for the bounds."""
    mean, std = config.mean_spectral_index, config.std_spectral_index
    edges = np.linspace(-float(SPAN), float(SPAN), N_INDEX + 1) if std > 0.0 else np.zeros(2)
    return Limits(
        f32(now.ln_beta_yr),
        f32(math.log(now.beta) + luminosity.ln_scale),
        f32(now.k0),
        f32(now.k1),
        f32(now.k2),
        now.force_free == 1,
        f32(math.log(beam.coefficient)),
        f32(beam.exponent),
        f32(luminosity.ln_mean),
        f32(luminosity.ln_sigma),
        f32(luminosity.epsilon),
        index_gains(receivers, mean, std, edges),
        *grid.error,
    )


@njit(cache=True)
def possible_stars(
    first: int,
    n: int,
    order: Order,
    unchanging: Unchanging,
    key: Key,
    laws: BirthLaws,
    limit: Limits,
    grid: DecayGrid,
) -> Places:
    """Return the places, among the `n` from `first` on, of stars that may be detected."""
    found = np.empty(n, np.uint32)
    count = 0
    places = np.empty(BLOCK, np.uint32)
    room, spare, score = (
        np.empty((10, BLOCK), f32),
        np.empty((2, BLOCK), f32),
        np.empty(BLOCK, f32),
    )
    for start in range(first, first + n, BLOCK):
        m = 0
        for place in range(start, min(start + BLOCK, first + n)):
            row = row_of(order, place)
            places[m] = place
            room[4, m], room[5, m] = unchanging.ln_age[row], unchanging.ln_reach[row]
            m += unchanging.ln_reach[row] > NEVER
        stars = _candidates(room, m)
        draw_first(places[:m], key, stars.cos_chi0, stars.cos_zeta, stars.ln_p0, stars.ln_b0)
        at_birth(laws.period, stars.ln_p0)
        at_birth(laws.field, stars.ln_b0)
        interpolate(grid, grid.integral, stars.ln_b0, stars.ln_age, spare[0], stars.ln_mean)
        _pass_us_by(limit, stars, score)
        m = _keep(score, m, places, room)

        stars = _candidates(room, m)
        draw_second(places[:m], key, stars.ln_floor, stars.luminosity, spare[0, :m], spare[1, :m])
        at_birth(laws.floor, stars.ln_floor)
        _add_index_gain(limit.index_gain, spare[0], stars.ln_reach)
        interpolate(grid, grid.field, stars.ln_b0, stars.ln_age, spare[0], stars.ln_decay)
        _impossible(limit, stars, score)
        for i in range(m):
            found[count] = places[i]
            count += not score[i] > f32(0.0)
    return found[:count].copy()


@njit(cache=True)
def _candidates(room: Single, n: int) -> Candidates:
    return Candidates(
        room[0, :n], room[1, :n], room[2, :n], room[3, :n], room[4, :n],
        room[5, :n], room[6, :n], room[7, :n], room[8, :n], room[9, :n],
    )  # fmt: skip


@njit(cache=True)
def _keep(score: Single, n: int, places: Places, room: Single) -> int:
    """Close the gaps that stars with a score above 0 leave; only what is drawn so far counts."""
    chosen = np.empty(n, np.uint32)
    kept = 0
    for i in range(n):
        chosen[kept] = i
        kept += not score[i] > f32(0.0)
    for i in range(kept):
        places[i] = places[chosen[i]]
    for k in range(7):
        for i in range(kept):
            room[k, i] = room[k, chosen[i]]
    return kept


@njit(cache=True, error_model="numpy")
def _add_index_gain(gain: Single, deviates: Single, ln_reach: Single) -> None:
    if gain.size == 1:
        for i in range(ln_reach.size):
            ln_reach[i] += gain[0]
        return
    scale = f32(gain.size) / (f32(2.0) * SPAN)
    for i in range(ln_reach.size):
        cell = i32((deviates[i] + SPAN) * scale)
        ln_reach[i] += gain[min(max(cell, i32(0)), i32(gain.size - 1))]


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _pass_us_by(limit: Limits, stars: Candidates, score: Single) -> None:
    """Fill `score` (n,): above 0 where the line of sight lies beyond axis and beam, on their side.

    It does so where zeta > chi + rho. Both have an upper bound by the shortest period of today.
    """
    if limit.beam_exponent > f32(0.0):
        # The beam widens with the period.
        score[:] = f32(0.0)
        return
    cos_chi0, cos_zeta, ln_p0, ln_b0, ln_age, _, ln_mean, _, _, _ = stars
    two, half, one = f32(2.0), f32(0.5), f32(1.0)
    for i in range(cos_chi0.size):
        ln_tau = limit.ln_beta_yr + ln_age[i] + two * ln_b0[i] + ln_mean[i]
        start = exponential(two * ln_p0[i])
        p2 = start + two * limit.k0 * exponential(ln_tau - limit.spare_tau)
        ln_p2 = logarithm(p2)
        cos2 = cos_chi0[i] * cos_chi0[i]
        sin_chi = _sin_chi(limit, start, p2, ln_p2 - two * ln_p0[i], cos2)
        rho = min(HALF_PI, exponential(limit.ln_beam + half * limit.beam_exponent * ln_p2))
        half_sine, half_cosine = sine(half * rho), cosine(half * rho)
        sin_rho, cos_rho = two * half_sine * half_cosine, one - two * half_sine * half_sine
        sin_zeta = np.sqrt(one - cos_zeta[i] * cos_zeta[i])
        beyond = sin_zeta * cos_rho - cos_zeta[i] * sin_rho - sin_chi - SPARE_SINE
        tame = abs(ln_p0[i]) <= LARGEST_LN_PERIOD and ln_tau <= LARGEST_LN_TAU
        score[i] = beyond if tame else -one


@njit(cache=True, inline="always")
def _sin_chi(limit: Limits, start: f32, p2: f32, ln_growth: f32, cos2: f32) -> f32:
    """Return the sine of an inclination that is at least that of a star with P^2 >= `p2`.

    `start` is P^2 and `cos2` cos^2 chi at birth, `ln_growth` ln of P^2 / P0^2.
    """
    sin2 = f32(1.0) - cos2
    if limit.force_free:
        # P sin chi / cos^2 chi is conserved
        q = cos2 * np.sqrt(p2) / (np.sqrt(start * sin2) + TINY)
        return f32(2.0) / (q + np.sqrt(q * q + f32(4.0)))
    # z = ln(tan chi0 / tan chi): dlnP = (k0 + k1 sin^2 chi) / k2 dz
    rate = (limit.k0 + limit.k1 * sin2 + TINY) / limit.k2
    shrunk = sin2 * exponential(SPARE_SIGNAL - ln_growth / rate)
    return np.sqrt(shrunk / (shrunk + cos2))


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _impossible(limit: Limits, stars: Candidates, score: Single) -> None:
    """Fill `score` (n,): above 0 where a star's beam misses us or no survey could see it."""
    cos_chi0, cos_zeta, ln_p0, ln_b0, ln_age = stars[:5]
    ln_reach, ln_mean, ln_floor, luminosity, ln_decay = stars[5:]
    two, half, one = f32(2.0), f32(0.5), f32(1.0)
    spread = exponential(f32(2.002) * limit.spare_tau)
    for i in range(cos_chi0.size):
        # tau = beta integral B^2 dt, without the residual field and with the most it may add
        since = limit.ln_beta_yr + ln_age[i]
        ln_tau = since + two * ln_b0[i] + ln_mean[i]
        floor = min(ln_floor[i], ln_b0[i])
        tau_low = exponential(ln_tau - limit.spare_tau)
        tau_high = tau_low * spread + exponential(since + two * floor)
        ln_b = max(floor, ln_b0[i] + ln_decay[i])

        # P^2 grows by 2 (k0 + k1 sin^2 chi) dtau, and chi only falls
        start = exponential(two * ln_p0[i])
        cos2 = cos_chi0[i] * cos_chi0[i]
        sin2 = one - cos2
        p2_low = start + two * limit.k0 * tau_low
        p2_high = start + two * (limit.k0 + limit.k1 * sin2) * tau_high
        ln_p2_low, ln_p2_high = logarithm(p2_low), logarithm(p2_high)
        if limit.force_free:
            # P sin chi / cos^2 chi is conserved
            slope = np.sqrt(start * sin2) + TINY
            q_low, q_high = cos2 * np.sqrt(p2_low) / slope, cos2 * np.sqrt(p2_high) / slope
            sin_high = two / (q_low + np.sqrt(q_low * q_low + f32(4.0)))
            sin_low = two / (q_high + np.sqrt(q_high * q_high + f32(4.0)))
        else:
            # z = ln(tan chi0 / tan chi): dz = k2 / P^2 dtau, dlnP = (k0 + k1 sin^2 chi) / k2 dz,
            # and P^2 lies between those of birth and of today all along
            grown_low = half * (ln_p2_low - two * ln_p0[i]) * limit.k2
            grown_high = half * (ln_p2_high - two * ln_p0[i]) * limit.k2
            z_low = max(
                grown_low / (limit.k0 + limit.k1 * sin2 + TINY), limit.k2 * tau_low / p2_high
            )
            z_high = min(grown_high / (limit.k0 + TINY), limit.k2 * tau_high / start)
            shrunk_low = sin2 * exponential(-two * (z_low - SPARE_SIGNAL))
            shrunk_high = sin2 * exponential(-two * (z_high + SPARE_SIGNAL))
            sin_high = np.sqrt(shrunk_low / (shrunk_low + cos2))
            sin_low = np.sqrt(shrunk_high / (shrunk_high + cos2))
        cos_low = np.sqrt(max(f32(0.0), one - sin_low * sin_low))

        # opening angles: of the widest and of the narrowest beam
        narrow, wide = ln_p2_high, ln_p2_low
        if limit.beam_exponent > f32(0.0):
            narrow, wide = ln_p2_low, ln_p2_high
        scale = half * limit.beam_exponent
        rho = min(HALF_PI, exponential(limit.ln_beam + scale * wide))
        half_sine, half_cosine = sine(half * rho), cosine(half * rho)
        sin_rho, cos_rho = two * half_sine * half_cosine, one - two * half_sine * half_sine
        sin_zeta = np.sqrt(one - cos_zeta[i] * cos_zeta[i])
        beyond = sin_zeta * cos_rho - cos_zeta[i] * sin_rho - sin_high - SPARE_SINE
        before = cos_zeta[i] * cos_rho - sin_zeta * sin_rho - cos_low - SPARE_COSINE

        # brightest: the luminosity law at the larger end of the spin-down power
        ln_b_end, ln_p2_end, sin_end = ln_b + limit.spare_field, ln_p2_low, sin_high
        if limit.epsilon < f32(0.0):
            ln_b_end, ln_p2_end, sin_end = ln_b - limit.spare_field, ln_p2_high, sin_low
        torque = limit.k0 + limit.k1 * sin_end * sin_end
        ln_power = limit.ln_power + two * ln_b_end + logarithm(torque) - two * ln_p2_end
        ln_l = limit.ln_mean + limit.ln_sigma * luminosity[i] + limit.epsilon * ln_power
        narrowest = sine(half * min(HALF_PI, exponential(limit.ln_beam + scale * narrow)))
        # sin(w / 4) <= sin(rho / 2) / sqrt(sin zeta sin chi), and the duty cycle is at most that
        duty = min(half, half_sine / np.sqrt(sin_zeta * sin_low + TINY))
        omega = f32(8.0 * math.pi) * narrowest * narrowest
        ln_signal = ln_l + ln_reach[i] + logarithm(np.sqrt(duty * (one - duty)) / omega)
        faint = -ln_signal - SPARE_SIGNAL - abs(limit.epsilon) * SPARE_SIGNAL

        tame = (
            abs(ln_p0[i]) <= LARGEST_LN_PERIOD
            and ln_tau <= LARGEST_LN_TAU
            and since + two * floor <= LARGEST_LN_TAU
        )
        score[i] = max(max(beyond, before), faint) if tame else -one
