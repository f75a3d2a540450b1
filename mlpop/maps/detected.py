"""Every detected pulsar of a simulation, compactly: enough to make its maps again, bit for bit."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.maps.density import FLUX_COLUMN, Catalogue, catalogue_of

PREFIX = "detected_"
"""Of the arrays' names: `detected_<catalogue>_sky` and `detected_<catalogue>_spin`."""

SKY_COLUMNS = ("ra", "dec", "pm_ra", "pm_dec")
"""[deg], [deg], [mas/yr], [mas/yr]: single precision, which a stellar database has."""

SPIN_COLUMNS = ("P", "P_dot", FLUX_COLUMN)
"""[s], [s/s], [Jy]: double precision."""

BYTES = 4 * len(SKY_COLUMNS) + 8 * len(SPIN_COLUMNS)
"""Of a pulsar."""


def detected_arrays(
    catalogues: Mapping[str, Catalogue], generator: GeneratorConfig
) -> dict[str, NDArray[np.floating]]:
    """Return name -> (n, 4) and (n, 3) arrays of every survey that maps are made of.

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
        sky = np.column_stack([np.asarray(catalogue[c], np.float64) for c in SKY_COLUMNS])
        single = sky.astype(np.float32)
        exact = np.array_equal(single.astype(np.float64), sky, equal_nan=True)
        arrays[f"{name}_sky"] = single if exact else sky
        arrays[f"{name}_spin"] = np.column_stack(
            [np.asarray(catalogue[c], np.float64) for c in SPIN_COLUMNS]
        )
    return arrays


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
        catalogues[base.removeprefix(PREFIX)] = columns | dict(
            zip(SPIN_COLUMNS, spin.T, strict=True)
        )
    return catalogues
