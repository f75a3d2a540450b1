"""Catalogues of detected pulsars: which one is a survey's, and its columns as arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.surveys import Survey
from mlpop.errors import DataError
from mlpop.maps.histogram import Array

FLUX_COLUMN = "S_radio_obs_mean_1400"

Catalogue = Mapping[str, ArrayLike]


def catalogue_of(
    catalogues: Mapping[str, Catalogue], survey: Survey, generator: GeneratorConfig
) -> Catalogue:
    """Return the catalogue of a survey, by its name or by that of its table.

    Raises:
        DataError: there is none.
    """
    for name in (survey, generator.catalogue_name(survey), generator.surveys[survey]):
        if name in catalogues:
            return catalogues[name]
    raise DataError(
        f"no catalogue of the survey {survey}: expected '{survey}' or "
        f"'{generator.catalogue_name(survey)}', found {', '.join(catalogues) or 'none'}"
    )


def checked_columns(table: Catalogue, names: Sequence[str], source: str) -> dict[str, Array]:
    """Return columns (n,) of a catalogue, which messages call `source`.

    Raises:
        DataError: a column is missing, or columns differ in length.
    """
    missing = [name for name in names if name not in table]
    if missing:
        raise DataError(
            f"{source}: no column {', '.join(missing)}; found {', '.join(table) or 'none'}"
        )
    columns = {name: np.asarray(table[name], dtype=np.float64) for name in names}
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or len(next(iter(lengths.values()))) != 1:
        raise DataError(f"{source}: columns must be equally long vectors, found {lengths}")
    return columns
