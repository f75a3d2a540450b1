"""Random numbers of one synthesis: a generator a stage, all from one seed.

A stage's generator gives one number to each star in the order in which stars are drawn, so no
result depends on how many stars are handled at once.
"""

import zlib
from enum import IntEnum

import numpy as np


class Stage(IntEnum):
    """What a generator is for. Numbers are part of every result: never change or re-use one."""

    DB_DRAW = 0
    B0 = 1
    FLOOR = 2
    P0 = 3
    CHI0 = 4
    ZETA = 5
    L0 = 6
    ALPHA = 7
    TAU = 8
    OFFSET = 9
    THIN = 10
    TPA = 11
    DYNAMICS = 12
    DETAILS = 13


def stage_seed(
    seed: np.random.SeedSequence, stage: Stage, name: str = ""
) -> np.random.SeedSequence:
    """Return the seed of a stage, and of `name` within it; `seed` itself stays as it is."""
    place = (int(stage), zlib.crc32(name.encode())) if name else (int(stage),)
    return np.random.SeedSequence(
        seed.entropy, spawn_key=(*seed.spawn_key, *place), pool_size=seed.pool_size
    )


def generator(seed: np.random.SeedSequence, stage: Stage, name: str = "") -> np.random.Generator:
    """Return the generator of a stage, and of `name` within it."""
    return np.random.Generator(np.random.Philox(stage_seed(seed, stage, name)))
