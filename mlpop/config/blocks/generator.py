"""The `generator` block: how detected pulsars become maps."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from mlpop.config.base import StrictModel
from mlpop.config.blocks.sky_maps import SkyMap
from mlpop.config.blocks.surveys import MAP_SURVEYS, SURVEYS, Survey
from mlpop.config.fields import Count, Name, Positive
from mlpop.config.messages import Problem, one_of, show

SKY_KINDS = ("position_map_radec", "velocity_map_vra", "velocity_map_vdec")
PPDOT_KIND = "ppdot_map"
FLUX_KIND = "ppdot_map_fluxes"
COUNT_KIND = "count"
_KINDS = (*SKY_KINDS, PPDOT_KIND, FLUX_KIND)


def survey_channels(surveys: Iterable[str]) -> tuple[str, ...]:
    """Return the maps of surveys, in the order of a dataset's columns: five kinds of each."""
    return channels_of(_KINDS, surveys)


def channels_of(kinds: Iterable[str], surveys: Iterable[str]) -> tuple[str, ...]:
    """Return the channels of these kinds of maps, each of all surveys."""
    surveys = tuple(surveys)
    return tuple(f"survey_{survey}_{kind}" for kind in kinds for survey in surveys)


SURVEY_CHANNELS = survey_channels(SURVEYS)
"""The maps of a survey dataset, without those of surveys of one's own."""


def is_count(channel: str) -> bool:
    """Whether a channel is one number, how many pulsars a survey has detected."""
    return channel.endswith(f"_{COUNT_KIND}")


def holds_counts(channel: str) -> bool:
    """Whether a channel holds numbers of stars, not their mean motion or flux."""
    return not channel.endswith(FLUX_KIND) and "velocity_map" not in channel


POPULATION_CHANNELS: tuple[str, ...] = (
    "position_map_xy",
    "position_map_xz",
    "position_map_radec",
    "velocity_map_xy_vr",
    "velocity_map_xy_vphi",
    "velocity_map_xy_vz",
    "velocity_map_vra",
    "velocity_map_vdec",
    PPDOT_KIND,
)
"""The maps of a whole population; `ppdot_map_fluxes` follows where fluxes are known."""


def _census() -> dict[Survey, int | None]:
    return {name: survey.census for name, survey in MAP_SURVEYS.items()}


def _tables() -> dict[Survey, str]:
    return {name: f"survey_{entry.catalogue}_results" for name, entry in MAP_SURVEYS.items()}


PositiveLimits = tuple[Positive, Positive]

_RESERVED = (*_KINDS, "velocity_map", "position_map", COUNT_KIND)
_ADDING = ("sky_maps", "counts")


class GeneratorConfig(StrictModel):
    """Map type, resolution, limits and smoothing."""

    data_type: Literal["array", "image"] = "array"
    """`array` (.npy, absolute values) or `image` (.png, colours scaled map by map)."""
    resolution_dyn: int = Field(default=32, ge=2, le=4096, multiple_of=2)
    """Bins of right ascension, and of each Galactic axis; declination has half of it."""
    resolution_ppdot: int = Field(default=32, ge=2, le=4096)
    """Bins of the period and of the period derivative."""
    p_limits: PositiveLimits = (1e-3, 1e2)
    """Lowest and highest period of the maps [s]."""
    pdot_limits: PositiveLimits = (1e-21, 1e-9)
    """Lowest and highest period derivative of the maps [s/s]."""
    xyz_limit_kpc: Positive = 20.0
    """Half width of the Galactic maps [kpc]."""
    smoothing_sigma: float = Field(default=1.0, ge=0)
    """Standard deviation of the Gaussian filter [bins]; 0 switches it off."""
    boundary: Literal["reflect", "wrap_ra"] = "reflect"
    """Border of the filter: `wrap_ra` closes sky maps at 360 degrees."""
    empty_flux: float = -7.0
    """Value of a flux cell without a star [log10 of Jy]."""
    flux_subsample: dict[Survey, Count | None] = Field(default_factory=_census)
    """Stars in the flux map of a survey at most; null or a missing survey takes all."""
    surveys: dict[Survey, Name] = Field(default_factory=_tables, min_length=1)
    """Surveys to make maps of, and the table of detections behind each; one of your own is added
    by its name and `survey_<catalogue>_results`."""
    dtype: Literal["float32", "float64"] = "float64"
    """Number type of the stored arrays."""
    sky_maps: dict[Name, SkyMap] = {}
    """Further maps of every survey, `survey_<survey>_<name>`: counts in a plane of Galactic place,
    dispersion measure or spin."""
    counts: bool = False
    """Keep how many pulsars each survey has detected at the stop, `survey_<survey>_count`."""

    def _contradictions(self) -> Iterator[Problem]:
        limits = {"p_limits": self.p_limits, "pdot_limits": self.pdot_limits}
        for name, (low, high) in limits.items():
            if low >= high:
                yield name, f"must be [low, high] with low < high, found {show([low, high])}"
        for name, table in self.surveys.items():
            if name not in SURVEYS and not re.fullmatch(r"survey_.+_results", table):
                own = "a survey of your own with its table 'survey_<catalogue>_results'"
                yield f"surveys.{name}", one_of(name, SURVEYS, own)
        if self.counts and self.data_type == "image":
            yield "counts", "must be false with data_type 'image': a number is no picture"
        for name in self.sky_maps:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name.endswith(_RESERVED):
                yield (
                    f"sky_maps.{name}",
                    "must be made of letters, digits and '_', begin with a letter and not end "
                    f"with {', '.join(_RESERVED)}",
                )
        known = list(dict.fromkeys([*SURVEYS, *self.surveys]))
        for name in self.flux_subsample:
            if name not in known:
                yield f"flux_subsample.{name}", one_of(name, known)

    @property
    def survey_channels(self) -> tuple[str, ...]:
        """The maps of the chosen surveys, in the order of a dataset's columns."""
        return (*survey_channels(self._ordered_surveys), *self.further_channels)

    @property
    def further_channels(self) -> tuple[str, ...]:
        """Those of `survey_channels` that stand behind the five kinds of every survey."""
        kinds = (*self.sky_maps, *([COUNT_KIND] if self.counts else []))
        return channels_of(kinds, self._ordered_surveys)

    @property
    def _ordered_surveys(self) -> tuple[str, ...]:
        known = [survey for survey in SURVEYS if survey in self.surveys]
        return (*known, *(survey for survey in self.surveys if survey not in SURVEYS))

    def sky_map_of(self, channel: str) -> str | None:
        """Return the name of the sky map that a channel is, None of another channel."""
        for name in self.sky_maps:
            if channel in channels_of([name], self._ordered_surveys):
                return name
        return None

    def sky_map_shape(self, name: str) -> tuple[int, int]:
        """Return the bins of both axes of a sky map."""
        plane, bins = self.sky_maps[name], self.resolution_ppdot
        return plane.first.bins or bins, plane.second.bins or bins

    def planes(self, channels: Iterable[str]) -> dict[str, SkyMap]:
        """Return channel -> plane of the sky maps among the channels."""
        names = {channel: self.sky_map_of(channel) for channel in channels}
        return {channel: self.sky_maps[name] for channel, name in names.items() if name}

    def settings(self) -> dict[str, Any]:
        """Return the JSON values that decide what maps hold, without those that add none.

        Digests of sets made before there were such settings stay what they were.
        """
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if value or name not in _ADDING}

    @property
    def sky_shape(self) -> tuple[int, int]:
        """Bins of right ascension and of declination."""
        return self.resolution_dyn, self.resolution_dyn // 2

    @property
    def ppdot_shape(self) -> tuple[int, int]:
        """Bins of the period and of the period derivative."""
        return self.resolution_ppdot, self.resolution_ppdot

    def catalogue_name(self, survey: Survey) -> str:
        """Name of the catalogue behind a survey's maps, for instance `HTRU_low_mid` for HTRU."""
        return self.surveys[survey].removeprefix("survey_").removesuffix("_results")
