"""One root seed for a whole experiment: which generator gets which stream of random bits.

Every generator is seeded by `SeedSequence(root, spawn_key=(purpose, *place))`, so the bits of
simulation 1234 of round 2 do not depend on the backend, the number of workers, the order of
execution or the attempt. Numbers of purposes are part of every recorded result: a purpose that
is no longer used keeps its number, and a new one gets a new number.

References:
    O'Neill 2015, "Developing a seed_seq alternative"; numpy.random.SeedSequence.
"""

import secrets
from enum import IntEnum, unique
from typing import SupportsIndex

from numpy import uint64
from numpy.random import SeedSequence

from mlpop.errors import ConfigError

ROOT_LIMIT = 2**128
PLACE_LIMIT = 2**32


@unique
class Purpose(IntEnum):
    """What a stream of random bits is for; `place` in brackets."""

    PRIOR = 1
    """theta of a training set drawn from the prior (round); from a proposal: PROPOSAL"""
    SIMULATION_TRAINING = 2
    """one simulation of a round (round, index)"""
    SIMULATION_TEST = 3
    """one simulation of a test set (round or 0, index)"""
    OBSERVED = 4
    """the held-out population that stands for the sky, and its theta (index)"""
    NETWORK_INIT = 5
    """initial weights of a network (round, member)"""
    TRAINING = 6
    """order of batches, and what else a network draws while it trains (round, member)"""
    VALIDATION_SPLIT = 7
    """which simulations of a round validate, the same for all members (round); a study: 0"""
    POSTERIOR_SAMPLES = 8
    """samples of a posterior (round)"""
    COVERAGE = 9
    """coverage tests: draws and ranks (round), exchanges of truths with draws (round, 1)"""
    DATABASE = 10
    """stellar database (stage)"""
    FLUX_SUBSAMPLE = 11
    """which detected pulsars get a measured flux (round, index)"""
    PROPOSAL = 12
    """support of a truncated proposal (round); theta drawn from a proposal (round, use)"""
    SWEEP = 13
    """theta of a grid, random, Latin hypercube or Sobol sweep (set)"""
    STUDY = 14
    """hyperparameter study (trial)"""
    REGRESSION = 15
    """networks of point estimates (trial, 0: first weights, 1: order of batches)"""
    DIAGNOSTICS = 16
    """predictive checks and misspecification tests (round, check)"""
    TEST_THETA = 17
    """theta of a test set (round or 0)"""
    COMPRESSOR = 18
    """network of a compressor that is fitted (0: its weights, 1: its training)"""
    SIMULATION_PREDICTIVE = 19
    """one simulation at a draw of a posterior (round, index)"""


def seed_sequence(root: int, purpose: Purpose, *place: SupportsIndex) -> SeedSequence:
    """Return the seed of one generator.

    Args:
        root: root seed of the experiment, 0 <= root < 2**128.
        purpose: what the bits are for.
        *place: where in the experiment, e.g. (round, index); each 0 <= place < 2**32.

    Raises:
        ConfigError: the root seed or a place is out of range. (A larger number would spill into
            a second 32-bit word of the spawn key, and two places could share their bits.)
    """
    if not 0 <= root < ROOT_LIMIT:
        raise ConfigError(f"root seed {root}: must be at least 0 and below 2**128")
    key = tuple(int(number.__index__()) for number in place)
    for number in key:
        if not 0 <= number < PLACE_LIMIT:
            raise ConfigError(
                f"seed of {purpose.name}{key}: each place must be at least 0 and below 2**32, "
                f"found {number}"
            )
    return SeedSequence(int(root), spawn_key=(int(purpose), *key))


def torch_seed(sequence: SeedSequence) -> int:
    """Return a 63-bit seed for `torch.Generator.manual_seed` (fits a signed 64-bit field)."""
    return int(sequence.generate_state(1, uint64)[0]) >> 1


def draw_root_seed() -> int:
    """Return a fresh 63-bit root seed from the operating system, to be logged with the run."""
    return secrets.randbits(63)
