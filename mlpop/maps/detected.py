"""Every detected pulsar of a simulation, compactly: enough to make its maps again, bit for bit."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.maps.catalogues import FLUX_COLUMN, Catalogue, catalogue_of

PREFIX = "detected_"
"""Of the arrays' names: `detected_<catalogue>_sky`, `detected_<catalogue>_spin` and
`detected_<catalogue>_place`."""

SKY_COLUMNS = ("ra", "dec", "pm_ra", "pm_dec")
"""[deg], [deg], [mas/yr], [mas/yr]: single precision, which a stellar database has."""

SPIN_COLUMNS = ("P", "P_dot", FLUX_COLUMN)
"""[s], [s/s], [Jy]: double precision."""

PLACE_COLUMNS = ("l", "b", "DM")
"""[deg], [deg], [pc cm^-3]: single precision, which a stellar database has; sets of older versions
have none."""

BYTES = 4 * len(SKY_COLUMNS) + 8 * len(SPIN_COLUMNS) + 4 * len(PLACE_COLUMNS)
"""Of a pulsar."""


def detected_arrays(
    catalogues: Mapping[str, Catalogue], generator: GeneratorConfig
) -> dict[str, NDArray[np.floating]]:
    """Return name -> (n, 4), (n, 3) and (n, 3) arrays of every survey that maps are made of.

    Catalogues without a place in the Galaxy have no third array.

    Args:
        catalogues: as for `population_maps`.
        generator: which surveys, and their catalogues.

    Raises:
        DataError: a survey is missing.
    """
    arrays: dict[str, NDArray[np.floating]] = {}
    for survey in generator.surveys:
        catalogue = catalogue_of(catalogues, survey, generator)
        name = PREFIX + generator.catalogue_name(survey)
        arrays[f"{name}_sky"] = _single_if_exact(catalogue, SKY_COLUMNS)
        arrays[f"{name}_spin"] = np.column_stack(
            [np.asarray(catalogue[c], np.float64) for c in SPIN_COLUMNS]
        )
        if all(column in catalogue for column in PLACE_COLUMNS):
            arrays[f"{name}_place"] = _single_if_exact(catalogue, PLACE_COLUMNS)
    return arrays


def _single_if_exact(catalogue: Catalogue, names: Sequence[str]) -> NDArray[np.floating]:
    columns = np.column_stack([np.asarray(catalogue[name], np.float64) for name in names])
    single = columns.astype(np.float32)
    exact = np.array_equal(single.astype(np.float64), columns, equal_nan=True)
    return single if exact else columns


def detected_catalogues(
    arrays: Mapping[str, NDArray[np.floating]],
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Undo `detected_arrays`: catalogue -> (n,) column by name."""
    catalogues = {}
    for name in arrays:
        if not name.endswith("_sky"):
            continue
        base = name.removesuffix("_sky")
        sky, spin = arrays[name].astype(np.float64), arrays[f"{base}_spin"]
        columns = dict(zip(SKY_COLUMNS, sky.T, strict=True))
        columns |= dict(zip(SPIN_COLUMNS, spin.T, strict=True))
        if f"{base}_place" in arrays:
            place = arrays[f"{base}_place"].astype(np.float64)
            columns |= dict(zip(PLACE_COLUMNS, place.T, strict=True))
        catalogues[base.removeprefix(PREFIX)] = columns
    return catalogues
