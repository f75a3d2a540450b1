"""The surveys of which maps are made: one entry each, read by every block that knows them.

What a survey sees is in its JSON file below `mlpop/population/surveys/`, or in one of the user's
own. A new channel of every dataset is that file and an entry here; `generator.surveys` adds
channels to one experiment.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from mlpop.config.base import StrictModel
from mlpop.config.fields import Name
from mlpop.config.messages import Problem, Refused, show


class Region(StrictModel):
    """A survey's tag in the catalogue and the sky where it is complete; all bounds are strict."""

    token: Name
    """Tag of the survey in the catalogue's SURVEY column."""

    l_min: Annotated[float, Field(ge=-180, le=180)]
    """Lower bound of the Galactic longitude in (-180, 180] [deg]."""

    l_max: Annotated[float, Field(ge=-180, le=180)]
    """Upper bound of the Galactic longitude [deg]."""

    b_abs_min: Annotated[float, Field(ge=0, le=90)] | None = None
    """Lower bound of the absolute Galactic latitude [deg]; null for none."""

    b_abs_max: Annotated[float, Field(gt=0)] | None = None
    """Upper bound of the absolute Galactic latitude [deg]; null for none."""

    def _contradictions(self) -> Iterator[Problem]:
        if self.l_min >= self.l_max:
            yield "l_max", f"must be greater than l_min ({self.l_min}), found {self.l_max}"
        low, high = self.b_abs_min, self.b_abs_max
        if low is not None and high is not None and low >= high:
            yield "b_abs_max", f"must be greater than b_abs_min ({low}), found {high}"


class MapSurvey(NamedTuple):
    """What is known of a survey beside what it sees.

    Attributes:
        catalogue: its simulated catalogue, see `catalogue` of the JSON files of surveys.
        region: its real pulsars.
        detected_real: pulsars that it found, by preset of the population; the number that a
            simulation must reach.
        census: pulsars of it in the MeerKAT census of fluxes (Posselt et al. 2023); null has no
            flux measured.
    """

    catalogue: str
    region: Region
    detected_real: Mapping[str, int]
    census: int | None = None


MAP_SURVEYS: Mapping[str, MapSurvey] = {
    "PMPS": MapSurvey(
        "PMPS",
        Region(token="pksmb", l_min=-100.0, l_max=50.0, b_abs_max=5.0),
        {"current": 1045, "pardo2025": 1045, "graber2024": 1009},
        census=640,
    ),
    "SMPS": MapSurvey(
        "SMPS",
        Region(token="pkssw", l_min=-100.0, l_max=50.0, b_abs_min=5.0, b_abs_max=30.0),
        {"current": 218, "pardo2025": 218, "graber2024": 218},
        census=170,
    ),
    "HTRU": MapSurvey(
        "HTRU_low_mid",
        Region(token="htru_pks", l_min=-120.0, l_max=30.0, b_abs_max=15.0),
        {"current": 1095, "pardo2025": 1037, "graber2024": 1023},
        census=668,
    ),
}
"""By their names in the maps, in the order of a dataset's columns."""

SURVEYS = tuple(MAP_SURVEYS)


def _survey_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise Refused(("", f"must be made of letters, digits, '_' and '-', found {show(value)}"))
    return value


Survey = Annotated[str, AfterValidator(_survey_name)]
"""Name of a survey in the maps: one of `SURVEYS`, or of one's own."""
