"""Kept columns of detected pulsars: 52 bytes each, and the same maps."""

import numpy as np
import pytest

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.maps.density import population_maps
from mlpop.maps.detected import (
    BYTES,
    PLACE_COLUMNS,
    SKY_COLUMNS,
    detected_arrays,
    detected_catalogues,
)

CATALOGUES = ("PMPS", "SMPS", "HTRU_low_mid")


def catalogues(single: bool = True) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    made = {}
    for name, count in zip(CATALOGUES, (900, 0, 7), strict=True):
        sky = {
            "ra": rng.uniform(0, 360, count),
            "dec": rng.uniform(-90, 90, count),
            "pm_ra": rng.normal(0, 10, count),
            "pm_dec": rng.normal(0, 10, count),
            "l": rng.uniform(-180, 180, count),
            "b": rng.normal(0, 5, count),
            "DM": 10 ** rng.uniform(0, 3, count),
        }
        if single:
            sky = {key: values.astype(np.float32).astype(float) for key, values in sky.items()}
        made[name] = sky | {
            "P": 10 ** rng.uniform(-2, 1, count),
            "P_dot": 10 ** rng.uniform(-20, -12, count),
            "S_radio_obs_mean_1400": 10 ** rng.uniform(-5, -2, count),
        }
    return made


@pytest.mark.parametrize("single", [True, False])
def test_columns_come_back_with_their_bits(single: bool) -> None:
    before = catalogues(single)
    arrays = detected_arrays(before, GeneratorConfig())
    bytes_ = sum(array.nbytes for array in arrays.values())
    in_double = 4 * len(SKY_COLUMNS) + 4 * len(PLACE_COLUMNS)
    assert bytes_ == 907 * (BYTES if single else BYTES + in_double)
    assert BYTES == 52
    after = detected_catalogues(arrays)
    assert set(after) == set(CATALOGUES)
    for name, columns in after.items():
        for key, values in columns.items():
            np.testing.assert_array_equal(values, before[name][key])


def test_maps_of_the_kept_columns_have_the_same_bits_at_any_resolution() -> None:
    before = catalogues()
    after = detected_catalogues(detected_arrays(before, GeneratorConfig()))
    for changes in ({}, {"resolution_ppdot": 64, "resolution_dyn": 64}, {"smoothing_sigma": 0.0}):
        generator = GeneratorConfig(**changes)
        one = population_maps(before, generator, np.random.default_rng(3))
        two = population_maps(after, generator, np.random.default_rng(3))
        for channel, values in one.items():
            np.testing.assert_array_equal(values, two[channel])


def test_catalogues_without_places_come_back_without_them() -> None:
    bare = {
        name: {key: values for key, values in columns.items() if key not in PLACE_COLUMNS}
        for name, columns in catalogues().items()
    }
    arrays = detected_arrays(bare, GeneratorConfig())
    assert len(arrays) == 6
    assert set(detected_catalogues(arrays)["PMPS"]) == set(bare["PMPS"])


def test_values_that_are_not_finite_are_kept() -> None:
    before = catalogues()
    before["PMPS"]["P"][3] = np.nan
    before["PMPS"]["pm_ra"][4] = np.nan
    after = detected_catalogues(detected_arrays(before, GeneratorConfig()))
    np.testing.assert_array_equal(after["PMPS"]["P"], before["PMPS"]["P"])
    np.testing.assert_array_equal(after["PMPS"]["pm_ra"], before["PMPS"]["pm_ra"])
