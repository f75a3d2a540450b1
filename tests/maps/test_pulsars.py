"""Tables of detected pulsars: whole, of one shape, and drawn fairly where there are too many."""

import numpy as np

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.maps.pulsars import COLUMNS, ROWS, known, pulsar_table, pulsar_tables


def catalogue(number: int) -> dict[str, np.ndarray]:
    return {
        name: (k + 1) * np.arange(1.0, number + 1) * (1e-18 if name == "P_dot" else 1)
        for k, name in enumerate(COLUMNS)
    }


def test_rows_are_pulsars_and_the_rest_is_empty() -> None:
    stars = catalogue(4)
    stars["P"][1] = np.nan
    stars["DM"][2] = np.nan
    del stars["S_radio_obs_mean_1400"]
    table = pulsar_table(stars, np.random.default_rng(0))
    assert (table.shape, table.dtype) == ((ROWS, 6), np.float32)
    np.testing.assert_allclose(table[0], [1, 2e-18, 3, 4, 5, 0], rtol=1e-6)
    np.testing.assert_allclose(table[1], [3, 6e-18, 9, 12, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(table[2, 0], 4)
    assert not table[3:].any()


def test_of_more_pulsars_some_are_drawn() -> None:
    tables = [pulsar_table(catalogue(4 * ROWS), np.random.default_rng(k)) for k in (0, 0, 1)]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert (tables[0] != tables[2]).any()
    periods = tables[0][:, 0]
    assert len(np.unique(periods)) == ROWS
    assert abs(periods.mean() - 2 * ROWS) < 5 * 4 * ROWS / np.sqrt(12 * ROWS)


def test_every_survey_of_the_maps_has_one() -> None:
    made = {"PMPS": catalogue(2), "SMPS": catalogue(3), "HTRU_low_mid": catalogue(5)}
    tables = pulsar_tables(made, GeneratorConfig(), np.random.default_rng(0))
    counts = {name: int((table[:, 0] > 0).sum()) for name, table in tables.items()}
    assert counts == {"pulsars_PMPS": 2, "pulsars_SMPS": 3, "pulsars_HTRU": 5}


def test_what_is_known_of_a_column() -> None:
    """0 is not known, but of coordinates; empty rows are no pulsars."""
    table = np.zeros((4, 6))
    table[:3] = [[1, 2, 0, 0, 5, 6], [2, 3, -1, 7, 0, 8], [3, 4, 1, -2, 9, 0]]
    found = {name: known(table, name).tolist() for name in COLUMNS}
    assert found == {
        "P": [1, 2, 3],
        "P_dot": [2, 3, 4],
        "l": [0, -1, 1],
        "b": [0, 7, -2],
        "DM": [5, 9],
        "S_radio_obs_mean_1400": [6, 8],
    }
