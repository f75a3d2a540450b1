"""Simulated pulsars as a catalogue with the column names of psrcat, as `mlpop observe` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.surveys import MAP_SURVEYS
from mlpop.io.files import write_csv
from mlpop.maps.catalogues import FLUX_COLUMN, Catalogue, catalogue_of
from mlpop.population.catalogue.psrcat import galactic

HEADER = ("PSRJ", "RAJD", "DECJD", "Gl", "Gb", "PMRA", "PMDEC", "P0", "P1", "S1400")
"""[deg] but for PMRA and PMDEC [mas/yr], P0 [s], P1 [s/s], S1400 [mJy, at 1429 MHz]."""

FURTHER = {"DM": "DM", "dist": "DIST"}
"""Columns that only a whole simulation has: [pc cm^-3], [kpc]."""


def write_catalogue_csv(
    path: Path, catalogues: Mapping[str, Catalogue], generator: GeneratorConfig
) -> Path:
    """Write the pulsars that the surveys of `generator` detect, a row each; return the path.

    SURVEY has the tags of the surveys that detect a pulsar, ASSOC is empty: no simulated pulsar
    lies in a cluster. A pulsar of two surveys has the flux and position of either, which agree.

    Raises:
        DataError: a survey is missing, or the file cannot be written.
    """
    stars: dict[tuple[float, ...], tuple[dict[str, Any], list[str]]] = {}
    further: dict[str, str] = {}
    for survey in generator.surveys:
        catalogue = catalogue_of(catalogues, survey, generator)
        further = {name: title for name, title in FURTHER.items() if name in catalogue}
        for row in _rows(catalogue, further):
            key = (row["RAJD"], row["DECJD"], row["P0"], row["P1"])
            stars.setdefault(key, (row, []))[1].append(_tag(survey))
    table = [
        [
            f"SIM{number:06d}",
            *(row[name] for name in (*HEADER[1:], *further.values())),
            "",
            ",".join(surveys),
        ]
        for number, (row, surveys) in enumerate(stars.values())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, [*HEADER, *further.values(), "ASSOC", "SURVEY"], table)
    return path


def _tag(survey: str) -> str:
    """Return the tag of a survey in psrcat; of one that psrcat does not have its own name."""
    return MAP_SURVEYS[survey].region.token if survey in MAP_SURVEYS else survey


def _rows(catalogue: Catalogue, further: Mapping[str, str]) -> list[dict[str, float]]:
    def column(name: str) -> NDArray[np.float64]:
        return np.asarray(catalogue[name], np.float64)

    longitude, latitude = galactic(column("ra"), column("dec"))
    columns = {
        "RAJD": column("ra"),
        "DECJD": column("dec"),
        "Gl": longitude,
        "Gb": latitude,
        "PMRA": column("pm_ra"),
        "PMDEC": column("pm_dec"),
        "P0": column("P"),
        "P1": column("P_dot"),
        "S1400": 1e3 * column(FLUX_COLUMN),
        **{title: column(name) for name, title in further.items()},
    }
    values = [array.tolist() for array in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
