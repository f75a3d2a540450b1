import numpy as np
import pytest

from mlpop.compute.seeds import Purpose, draw_root_seed, seed_sequence, torch_seed
from mlpop.errors import ConfigError

# A recorded result names its purpose by number: none of these may ever change.
PURPOSES = {
    "PRIOR": 1,
    "SIMULATION_TRAINING": 2,
    "SIMULATION_TEST": 3,
    "OBSERVED": 4,
    "NETWORK_INIT": 5,
    "TRAINING": 6,
    "VALIDATION_SPLIT": 7,
    "POSTERIOR_SAMPLES": 8,
    "COVERAGE": 9,
    "DATABASE": 10,
    "FLUX_SUBSAMPLE": 11,
    "PROPOSAL": 12,
    "SWEEP": 13,
    "STUDY": 14,
    "REGRESSION": 15,
    "DIAGNOSTICS": 16,
    "TEST_THETA": 17,
    "COMPRESSOR": 18,
    "SIMULATION_PREDICTIVE": 19,
}

GOLDEN = [
    (42, Purpose.PRIOR, (0,), [1174127800, 3865592830]),
    (42, Purpose.SIMULATION_TRAINING, (0, 0), [4251698315, 3585846921]),
    (42, Purpose.SIMULATION_TRAINING, (3, 1234), [2532139920, 2007742056]),
    (2**100 + 7, Purpose.TRAINING, (1, 4), [2388931202, 888213224]),
]


def test_numbers_of_purposes_are_pinned() -> None:
    assert {name: Purpose[name].value for name in PURPOSES} == PURPOSES
    assert len({purpose.value for purpose in Purpose}) == len(Purpose)


@pytest.mark.parametrize(("root", "purpose", "place", "expected"), GOLDEN)
def test_golden_seeds(
    root: int, purpose: Purpose, place: tuple[int, ...], expected: list[int]
) -> None:
    assert seed_sequence(root, purpose, *place).generate_state(2).tolist() == expected


def test_golden_torch_seed() -> None:
    assert torch_seed(seed_sequence(42, Purpose.NETWORK_INIT, 0, 1)) == 7182981855023583187


def test_every_place_has_its_own_bits() -> None:
    places = [
        (root, purpose, *place)
        for root in (0, 1, 2**64)
        for purpose in Purpose
        for place in ((), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2**32 - 1,))
    ]
    states = {seed_sequence(*place).generate_state(4).tobytes() for place in places}
    assert len(states) == len(places)


def test_numpy_integers_are_places() -> None:
    plain = seed_sequence(1, Purpose.PRIOR, 5).generate_state(4)
    numpy = seed_sequence(1, Purpose.PRIOR, np.int64(5)).generate_state(4)
    np.testing.assert_array_equal(plain, numpy)


@pytest.mark.parametrize("place", [-1, 2**32])
def test_place_out_of_range_is_refused(place: int) -> None:
    with pytest.raises(ConfigError, match=f"below 2\\*\\*32, found {place}"):
        seed_sequence(1, Purpose.PRIOR, place)


@pytest.mark.parametrize("root", [-1, 2**128])
def test_root_out_of_range_is_refused(root: int) -> None:
    with pytest.raises(ConfigError, match=f"root seed {root}"):
        seed_sequence(root, Purpose.PRIOR)


def test_torch_seed_fits_a_signed_field() -> None:
    for index in range(100):
        assert 0 <= torch_seed(seed_sequence(7, Purpose.TRAINING, index)) < 2**63


def test_drawn_root_seeds_differ() -> None:
    drawn = {draw_root_seed() for _ in range(20)}
    assert len(drawn) == 20
    assert all(0 <= root < 2**63 for root in drawn)
