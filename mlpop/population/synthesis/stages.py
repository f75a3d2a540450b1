"""Random numbers of one synthesis: a generator a stage, all from one seed.

What single stars need comes from the seed of the stage STAR, see `star_numbers`.
"""

import zlib
from enum import IntEnum

import numpy as np


class Stage(IntEnum):
    """What a generator is for. Numbers are part of every result: never change or re-use one.

    1 to 9 belonged to what is drawn by `star_numbers` today.
    """

    DB_DRAW = 0
    THIN = 10
    TPA = 11
    DYNAMICS = 12
    DETAILS = 13
    STAR = 14


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
