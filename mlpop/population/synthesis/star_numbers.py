"""Random numbers of single stars: any number of any star, without drawing those before it.

A number is a function of the simulation's seed, of the star's place among all stars drawn, and of
what the number is for. So nothing is drawn for stars that cannot be detected, and no result
depends on which stars these are or on how many are handled at once.

Uniform numbers have 23 bits, which single precision holds exactly, and lie strictly between 0
and 1; normal numbers end at 5.8 standard deviations, beyond which one star in 1e8 would lie.

References:
    Salmon, Moraes, Dror & Shaw 2011, Parallel random numbers: as easy as 1, 2, 3 (Philox4x32-10).
    Box & Muller 1958, Annals of Mathematical Statistics 29, 610.
"""

import math
import zlib
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpop.population.pulsars.initial import BirthLaws, Births, at_birth
from mlpop.population.single_precision import Single, cosine, f32, i32, logarithm, sine
from mlpop.population.synthesis.order import Places
from mlpop.population.synthesis.stages import Stage, stage_seed

u32, u64 = np.uint32, np.uint64
Key = NDArray[np.uint32]
Vector = NDArray[np.float64]

BIRTH, LIFE, DEATH = u32(0), u32(1), u32(2)
"""Purposes of the blocks that every star has; surveys have others, see `survey_purpose`."""
_ROUNDS = 10
_WORD = u64(0xFFFFFFFF)
_STEP, _HALF_STEP = f32(2.0**-23), f32(2.0**-24)
_EIGHTH_TURN = f32(math.pi / 4.0)


def star_key(seed: np.random.SeedSequence) -> Key:
    """Return the 128 bits (4,) that tell the stars of this simulation from those of all others."""
    return np.asarray(stage_seed(seed, Stage.STAR).generate_state(4, np.uint32), np.uint32)


def survey_purpose(key: str) -> np.uint32:
    """Return the purpose of the offsets in a survey's beam; its own, whichever others look."""
    return u32(0x80000000 | zlib.crc32(key.encode()) >> 1)


@njit(cache=True, error_model="numpy")
def uniforms(
    places: Places,
    purpose: Any,
    key: Key,
    first: Single,
    second: Single,
    third: Single,
    fourth: Single,
) -> None:
    """Draw the four uniform numbers (n,) that each star at `places` (n,) has for a purpose."""
    for i in range(places.size):
        # 32-bit words in 64-bit variables: the products become vector code
        c0, c1, c2, c3 = u64(places[i]), u64(purpose), u64(key[2]), u64(key[3])
        k0, k1 = u64(key[0]), u64(key[1])
        for _ in range(_ROUNDS):
            p, q = (c0 & _WORD) * u64(0xD2511F53), (c2 & _WORD) * u64(0xCD9E8D57)
            c0, c2 = (q >> u64(32)) ^ c1 ^ k0, (p >> u64(32)) ^ c3 ^ k1
            c1, c3 = q & _WORD, p & _WORD
            k0, k1 = (k0 + u64(0x9E3779B9)) & _WORD, (k1 + u64(0xBB67AE85)) & _WORD
        first[i] = _uniform(c0)
        second[i] = _uniform(c1)
        third[i] = _uniform(c2)
        fourth[i] = _uniform(c3)


@njit(cache=True, inline="always")
def _uniform(word: Any) -> f32:
    return f32(i32(u32(word) >> u32(9))) * _STEP + _HALF_STEP


@njit(cache=True, error_model="numpy")
def make_normal(radii: Single, angles: Single) -> None:
    """Turn two rows of uniform numbers (n,) into standard normal ones, in place."""
    for i in range(radii.size):
        radius = np.sqrt(f32(-2.0) * logarithm(radii[i]))
        turns = f32(4.0) * angles[i]
        quarter = min(i32(turns), i32(3))
        # within an eighth of a turn of the middle of its quarter
        angle = (f32(2.0) * (turns - f32(quarter)) - f32(1.0)) * _EIGHTH_TURN
        a, b = radius * cosine(angle), radius * sine(angle)
        odd = (quarter & i32(1)) == i32(1)
        x = b if odd else a
        y = a if odd else b
        radii[i] = -x if quarter == i32(1) or quarter == i32(2) else x
        angles[i] = -y if quarter >= i32(2) else y


@njit(cache=True)
def draw_first(
    places: Places, key: Key, cos_chi0: Single, cos_zeta: Single, period: Single, field: Single
) -> None:
    """Draw what decides whether the beam meets us, all (n,).

    The cosines of the inclination at birth and of the angle between line of sight and spin axis
    are uniform, the others normal deviates: of the period and of the field at birth.
    """
    uniforms(places, BIRTH, key, cos_chi0, cos_zeta, period, field)
    make_normal(period, field)


@njit(cache=True)
def draw_second(
    places: Places, key: Key, floor: Single, luminosity: Single, index: Single, tau: Single
) -> None:
    """Draw normal deviates of the rest, all (n,).

    They are those of the residual field, of the luminosity scale, of the spectral index and of
    the scattering time.
    """
    uniforms(places, LIFE, key, floor, luminosity, index, tau)
    make_normal(floor, luminosity)
    make_normal(index, tau)


@njit(cache=True)
def star_births(places: Places, key: Key, laws: BirthLaws) -> Births:
    """Return the properties at birth of the stars at `places` (n,)."""
    room = np.empty((8, places.size), np.float32)
    draw_first(places, key, room[0], room[1], room[2], room[3])
    draw_second(places, key, room[4], room[5], room[6], room[7])
    at_birth(laws.period, room[2])
    at_birth(laws.field, room[3])
    at_birth(laws.floor, room[4])
    born = room.astype(np.float64)
    return Births(born[3], born[4], born[2], born[0], born[1])


@njit(cache=True)
def star_deviates(places: Places, key: Key) -> tuple[Vector, Vector, Vector]:
    """Return normal deviates (n,) of luminosity scale, spectral index and scattering time."""
    room = np.empty((4, places.size), np.float32)
    draw_second(places, key, room[0], room[1], room[2], room[3])
    drawn = room.astype(np.float64)
    return drawn[1], drawn[2], drawn[3]


@njit(cache=True)
def death_deviates(places: Places, key: Key) -> Vector:
    """Return normal deviates (n,) of the threshold below which each star is silent."""
    room = np.empty((4, places.size), np.float32)
    uniforms(places, DEATH, key, room[0], room[1], room[2], room[3])
    make_normal(room[0], room[1])
    return room[0].astype(np.float64)


@njit(cache=True)
def beam_offsets(places: Places, purpose: Any, key: Key) -> Vector:
    """Return (offset / FWHM)^2 of stars (n,) in a survey's beam, uniform in (0, 1/4)."""
    room = np.empty((4, places.size), np.float32)
    uniforms(places, purpose, key, room[0], room[1], room[2], room[3])
    return 0.25 * room[0].astype(np.float64)


@njit(cache=True)
def beam_choices(places: Places, purpose: Any, key: Key) -> Vector:
    """Return numbers (n,), uniform in (0, 1), that choose among the beams of a survey."""
    room = np.empty((4, places.size), np.float32)
    uniforms(places, purpose, key, room[0], room[1], room[2], room[3])
    return room[1].astype(np.float64)
