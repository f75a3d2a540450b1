"""Random numbers of single stars: the published generator, its distributions, independence."""

import zlib

import numpy as np
import pytest
from scipy.stats import kstest

from mlpop.config.blocks.population import PopulationConfig
from mlpop.population.pulsars.initial import birth_laws
from mlpop.population.surveys.survey import surveys
from mlpop.population.synthesis.star_numbers import (
    BIRTH,
    LIFE,
    beam_offsets,
    draw_first,
    draw_second,
    star_births,
    star_deviates,
    star_key,
    survey_purpose,
    uniforms,
)

N = 200_000
KEY = star_key(np.random.SeedSequence(5))


def places(n=N):
    return np.arange(n, dtype=np.uint32)


def columns(n=N, key=KEY):
    """Return the eight numbers of stars, in the order in which they are drawn."""
    out = np.empty((8, n), np.float32)
    draw_first(places(n), key, *out[:4])
    draw_second(places(n), key, *out[4:])
    return out.astype(np.float64)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers_of_Random123(counter, key, words):
    out = np.empty((4, 1), np.float32)
    whole = np.array([*key, *counter[2:]], np.uint32)
    uniforms(np.array(counter[:1], np.uint32), np.uint32(counter[1]), whole, *out)
    expected = [((word >> 9) + 0.5) / 2**23 for word in words]
    np.testing.assert_array_equal(out[:, 0], np.array(expected))


def test_distributions():
    drawn = columns()
    p = [kstest(row, "uniform").pvalue for row in drawn[:2]]
    p += [kstest(row, "norm").pvalue for row in drawn[2:]]
    assert min(p) > 1e-3
    assert drawn[:2].min() > 0.0
    assert drawn[:2].max() < 1.0
    assert np.abs(drawn[2:]).max() < 5.8
    # tails, of 1.2e6 normal numbers
    for edge, share in ((3.0, 2.6998e-3), (4.0, 6.334e-5)):
        count = (np.abs(drawn[2:]) > edge).sum()
        assert count == pytest.approx(6 * N * share, abs=4 * (6 * N * share) ** 0.5)


def test_numbers_of_a_star_and_of_neighbours_are_independent():
    drawn = columns()
    both = np.vstack([drawn, drawn**2, np.roll(drawn, 1, axis=1)])
    correlation = np.corrcoef(both) - np.eye(24)
    # a number and its own square; that of cosines is no even function about their mean
    for k in range(8):
        correlation[k, k + 8] = correlation[k + 8, k] = 0.0
    assert np.abs(correlation).max() < 5 / N**0.5


def test_numbers_are_of_a_place_whichever_others_are_asked_for():
    every = np.empty((4, 1000), np.float32)
    uniforms(places(1000), LIFE, KEY, *every)
    few = np.array([7, 998, 3], np.uint32)
    some = np.empty((4, 3), np.float32)
    uniforms(few, LIFE, KEY, *some)
    np.testing.assert_array_equal(some, every[:, few])
    laws = birth_laws(PopulationConfig.parse({}))
    whole, part = star_births(places(1000), KEY, laws), star_births(few, KEY, laws)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[few], b)
    for a, b in zip(star_deviates(places(1000), KEY), star_deviates(few, KEY), strict=True):
        np.testing.assert_array_equal(a[few], b)


def test_births_follow_their_laws():
    config = PopulationConfig.parse({})
    births = star_births(places(), KEY, birth_laws(config))
    ln10 = np.log(10.0)
    assert births.ln_b0.mean() / ln10 == pytest.approx(13.09, abs=5e-3)
    assert births.ln_b0.std() / ln10 == pytest.approx(0.5, abs=5e-3)
    assert births.ln_p0.mean() / ln10 == pytest.approx(-0.67, abs=6e-3)
    assert births.ln_floor.mean() / ln10 == pytest.approx(8.5, abs=5e-3)
    assert births.cos_chi0.mean() == pytest.approx(0.5, abs=3e-3)
    assert births.cos_zeta.mean() == pytest.approx(0.5, abs=3e-3)


def test_every_seed_and_every_survey_has_its_own_numbers():
    keys = [star_key(np.random.SeedSequence(9, spawn_key=(k,))) for k in range(50)]
    assert len({key.tobytes() for key in keys}) == 50
    for k in range(4):
        other = KEY.copy()
        other[k] += 1
        assert not (columns(100) == columns(100, other)).any()
    purposes = {int(survey_purpose(key)) for key in surveys()}
    assert len(purposes | {int(BIRTH), int(LIFE)}) == len(surveys()) + 2
    assert int(survey_purpose("PMPS")) == 0x80000000 | zlib.crc32(b"PMPS") >> 1
    offsets = np.array([beam_offsets(places(), survey_purpose(key), KEY) for key in surveys()])
    assert np.abs(np.corrcoef(offsets) - np.eye(len(offsets))).max() < 5 / N**0.5
    assert kstest(4.0 * offsets[0], "uniform").pvalue > 1e-3
