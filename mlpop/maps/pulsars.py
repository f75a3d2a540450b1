"""Detected pulsars one by one, as tables of one shape: what checks see and networks do not."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.maps.catalogues import Catalogue, catalogue_of

COLUMNS = ("P", "P_dot", "l", "b", "DM", "S_radio_obs_mean_1400")
"""Of a table: [s], [s/s], [deg], [deg], [pc cm^-3], [Jy]."""

ROWS = 1500
"""Of a table; of more pulsars so many are drawn."""

PREFIX = "pulsars_"
"""A table's name is this and the survey's."""


def pulsar_tables(
    catalogues: Mapping[str, Catalogue], generator: GeneratorConfig, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Return `pulsars_<survey>` -> table of all surveys of which maps are made.

    Args:
        catalogues: as for `population_maps`.
        rng: draws the pulsars where there are more than rows.

    Raises:
        DataError: a survey is missing.
    """
    return {
        PREFIX + survey: pulsar_table(catalogue_of(catalogues, survey, generator), rng)
        for survey in generator.surveys
    }


def pulsar_table(catalogue: Catalogue, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the table (ROWS, 6) of the pulsars of a survey.

    Where there are fewer the last rows are 0, and so are values that nobody knows.

    Args:
        catalogue: (n,) column by name; those of `COLUMNS` that are not there are not known.
        rng: draws the pulsars where there are more than rows.
    """
    number = len(np.asarray(catalogue["P"]))
    columns = [np.asarray(catalogue.get(name, np.zeros(number)), np.float64) for name in COLUMNS]
    stars = np.column_stack(columns)
    stars = stars[np.isfinite(stars[:, :2]).all(1)]
    if len(stars) > ROWS:
        stars = stars[np.sort(rng.choice(len(stars), ROWS, replace=False))]
    table = np.zeros((ROWS, len(COLUMNS)), np.float32)
    table[: len(stars)] = np.where(np.isfinite(stars), stars, 0.0)
    return table


def known(table: NDArray[np.floating], column: str) -> NDArray[np.floating]:
    """Return what is known of a column of a table (n, 6): (k,); a latitude of 0 is known."""
    values = table[:, COLUMNS.index(column)]
    there = (table[:, 0] > 0) & ((values > 0) | (column in ("l", "b")))
    return np.asarray(values[there])
