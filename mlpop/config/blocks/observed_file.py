"""Numbers of the observed sample: `mlpop observe` writes them, an experiment takes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from mlpop.config.base import StrictModel, read_json
from mlpop.config.blocks.surveys import MAP_SURVEYS, Survey
from mlpop.config.fields import Count, expanded
from mlpop.config.messages import Refused, describe, show
from mlpop.errors import ConfigError

Counts = dict[Survey, Count]


class ObservedNumbers(StrictModel):
    """How many pulsars the observed sample holds, by the names of surveys in the maps."""

    detected_real: Annotated[Counts, Field(min_length=1)]
    """Pulsars of each survey, whether their P1 is measured or not: targets of the stop rule."""
    thin_to: Counts = Field(default_factory=dict)
    """Those of them with a measured P1, which the observed maps show."""
    fluxes: Counts | None = None
    """Those of them with a flux, which the observed flux maps show; null: there are none."""
    catalogue: dict[str, str | int | None] = Field(default_factory=dict)
    """Where they come from: source, version, sha256, pulsars."""


def catalogue_of(survey: str) -> str:
    """Return the simulated catalogue of a survey that has maps, for instance that of HTRU."""
    return MAP_SURVEYS[survey].catalogue if survey in MAP_SURVEYS else survey


def by_catalogue(entries: Any, field: str) -> Any:
    """Name catalogues by what they are in the simulator where they have the name of the maps.

    Raises:
        Refused: a catalogue is there under both names.
    """
    if not isinstance(entries, Mapping):
        return entries
    named: dict[str, Any] = {}
    for name, value in entries.items():
        catalogue = catalogue_of(name)
        if catalogue != name and catalogue in entries:
            raise Refused((f"{field}.{name}", f"is another name of {catalogue}, give one of them"))
        named[catalogue] = value
    return named


def as_observed(value: Any) -> Any:
    """Return the numbers of a JSON file's path, or of its content; what is neither as it is."""
    if isinstance(value, str | Path):
        path = expanded(Path(value))
        try:
            return ObservedNumbers.parse(read_json(path), source=str(path))
        except ConfigError as error:
            text = "; ".join(str(error).split("\n"))
            hint = f"must be the observed.json of `mlpop observe`, found {show(str(value))}"
            raise Refused(("", f"{hint}: {text}")) from None
    if isinstance(value, Mapping):
        try:
            return ObservedNumbers.model_validate_json(json.dumps(dict(value)))
        except ValidationError as error:
            raise Refused(*describe(error, ObservedNumbers, value)) from None
    return value


Observed = Annotated[ObservedNumbers, BeforeValidator(as_observed)]
"""Numbers of the observed sample: the path of their file, or its content."""


def observed_settings(
    observed: ObservedNumbers, preset: Mapping[str, Any], chosen: Any
) -> dict[str, Any]:
    """Return what the numbers of an observed sample set in the population.

    Args:
        observed: the numbers.
        preset: `surveys_radio` of the preset, which goes on for other catalogues.
        chosen: `surveys_radio` of the file, which wins; null where it gives none.
    """
    targets = {
        catalogue_of(name): {"detected_real": number, "in_stop_rule": True}
        for name, number in observed.detected_real.items()
    }
    made = set(chosen) if isinstance(chosen, Mapping) and chosen else {*preset, *targets}
    thin = {catalogue_of(name): number for name, number in observed.thin_to.items()}
    return {
        "surveys_radio": {**preset, **targets},
        "thin_to": {name: number for name, number in thin.items() if name in made},
        "observed_cuts": True,
    }
