"""A radio survey as a JSON file: what ships with mlpop, and what a user brings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from mlpop.config.base import StrictModel, read_json
from mlpop.config.fields import Count, Name, Positive, expanded
from mlpop.config.messages import Problem, Refused, describe, show
from mlpop.errors import ConfigError

Degrees = tuple[float, float]


def _file_name(value: str) -> str:
    if not value.replace("_", "").replace("-", "").isalnum() or not value.isascii():
        raise Refused(("", f"must be made of letters, digits, '_' and '-', found {show(value)}"))
    return value


Key = Annotated[str, AfterValidator(_file_name)]


class BeamsConfig(StrictModel):
    """Beams of a receiver that are alike."""

    G0: Positive
    """Gain on the axis [K/Jy]."""
    number: Count = 1
    """How many of them the receiver has."""
    FWHM: Positive | None = None
    """Width [arcmin]; null: that of the survey."""


class SurveyFile(StrictModel):
    """A pulsar survey: its receiver, its search, and the sky that it covers."""

    key: Key
    """Its name, that of the file where it is one."""
    name: Name
    """Its name in words."""
    reference: Name
    """Where its numbers come from."""
    deg_factor: Annotated[float, Field(ge=1)] = 1.0
    """Degradation of the sensitivity, beta of the radiometer equation."""
    G0: Positive | None = None
    """Gain on the axis of every beam [K/Jy]; or give `beams`."""
    beams: tuple[BeamsConfig, ...] = ()
    """Beams of different gain; a pulsar falls into one of them by their areas on the sky."""
    t_obs: Positive
    """Integration time [s]."""
    t_samp: Positive
    """Sampling time [us]."""
    T_sys: Positive
    """System temperature without the sky [K]."""
    f_central: Positive
    """Central frequency [MHz]."""
    BW: Positive
    """Bandwidth [MHz]."""
    channel_width: Positive
    """Width of a channel [MHz]; the width that is left where dispersion is removed within it."""
    n_pol: Annotated[int, Field(ge=1, le=2)] = 2
    """Polarisations that are summed."""
    FWHM: Positive
    """Width of a beam [arcmin]."""
    SNR_th: Positive
    """Signal-to-noise from which on a pulsar is found."""
    RA_range: Degrees = (0.0, 360.0)
    """Right ascension [deg]."""
    DEC_range: Degrees = (-90.0, 90.0)
    """Declination [deg]."""
    l_ranges: Annotated[tuple[Degrees, ...], Field(min_length=1)] = ((-180.0, 180.0),)
    """One or more ranges of the Galactic longitude in (-180, 180] [deg]."""
    b_range_abs: Degrees = (0.0, 90.0)
    """Absolute Galactic latitude [deg]."""
    coverage_mode: Literal["and", "l_or_b"] = "and"
    """`and`: longitude and latitude must be inside; `l_or_b`: one of them."""
    aperture_config: bool = False
    """An aperture array, whose gain falls with the angle to its zenith, the middle of
    `DEC_range`."""
    FFT_search: bool = True
    """The efficiency of a Fourier search (Morello et al. 2020) applies."""
    catalogue: Key | None = None
    """Catalogue that its detections are in; null: one of its own, named `key`. Surveys that give
    the same share one."""
    detected_real: Count | None = None
    """Pulsars that it found, of a user's survey; the simulation goes on until they are reached."""
    versions: dict[Name, dict[Name, Any]] = Field(default_factory=dict)
    """Fields that differ where `survey_version` is the name."""

    def _contradictions(self) -> Iterator[Problem]:
        if (self.G0 is None) == (not self.beams):
            found = "both" if self.beams else "neither"
            yield "G0", f"must be given, or beams instead of it, found {found}"
        for name, low, high in (
            ("RA_range", 0.0, 360.0),
            ("DEC_range", -90.0, 90.0),
            ("b_range_abs", 0.0, 90.0),
        ):
            yield from _range(name, getattr(self, name), low, high)
        for i, pair in enumerate(self.l_ranges):
            yield from _range(f"l_ranges[{i}]", pair, -180.0, 180.0)
        if self.t_samp * 1e-6 >= self.t_obs:
            yield "t_samp", f"must be less than t_obs ({self.t_obs:g} s), found {self.t_samp} us"
        if self.channel_width > self.BW:
            yield "channel_width", f"must be at most BW ({self.BW:g}), found {self.channel_width}"
        if 2.0 * self.f_central <= self.BW:
            yield "BW", f"must be less than twice f_central ({self.f_central:g}), found {self.BW}"
        for version, changed in self.versions.items():
            if unknown := sorted(set(changed) - set(type(self).model_fields)):
                yield f"versions.{version}.{unknown[0]}", "is no field of a survey"

    def at(self, version: str) -> Self:
        """Return the survey with the fields that differ in a version; itself where none does.

        Raises:
            ConfigError: they make no survey.
        """
        changed = self.versions.get(version)
        if not changed:
            return self
        values = {**self.model_dump(mode="json", exclude_unset=True), **changed, "versions": {}}
        return self.parse(values, source=f"survey {self.key}: versions.{version}")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a survey's file.

        Raises:
            ConfigError: it cannot be read, or a field is missing, unknown or out of range.
        """
        return cls.parse({"key": path.stem, **read_json(path)}, source=str(path))


def _range(name: str, pair: Degrees, low: float, high: float) -> Iterator[Problem]:
    if not low <= pair[0] < pair[1] <= high:
        expected = f"[low, high] with {low:g} <= low < high <= {high:g}"
        yield name, f"must be {expected}, found {show(list(pair))}"


def as_survey(value: Any) -> Any:
    """Return the survey of a JSON file's path, or of its content; what is neither as it is."""
    if isinstance(value, str | Path):
        if not str(value).endswith(".json"):
            raise Refused(("", f"must be the path of a survey's .json file, found {show(value)}"))
        try:
            return SurveyFile.read(expanded(Path(value)))
        except ConfigError as error:
            raise Refused(("", "; ".join(str(error).split("\n")))) from None
    if isinstance(value, Mapping):
        try:
            return SurveyFile.model_validate_json(json.dumps(dict(value)))
        except ValidationError as error:
            raise Refused(*describe(error, SurveyFile, value)) from None
    return value


def with_contents(entries: Any) -> Any:
    """Return a list of surveys with the content of a file in place of each path.

    So a stored configuration holds the surveys themselves, whatever becomes of the files.
    """
    if not isinstance(entries, list | tuple):
        return entries
    surveys = []
    for i, entry in enumerate(entries):
        try:
            read = as_survey(entry) if isinstance(entry, str | Path) else entry
        except Refused as error:
            raise Refused(*((f"[{i}]{p}", message) for p, message in error.problems)) from None
        whole = isinstance(read, SurveyFile)
        surveys.append(read.model_dump(mode="json", exclude_unset=True) if whole else read)
    return surveys


Survey = Annotated[SurveyFile, BeforeValidator(as_survey)]
"""A survey: the path of its file, or its content."""


def own_surveys(entries: Any) -> Any:
    """Return the surveys of a list of paths and contents; what is no list as it is."""
    if not isinstance(entries, list | tuple):
        return entries
    try:
        read = with_contents(entries)
    except Refused as error:
        raise Refused(*((f"surveys{path}", message) for path, message in error.problems)) from None
    surveys = []
    for i, entry in enumerate(read):
        try:
            surveys.append(as_survey(entry))
        except Refused as error:
            problems = [(f"surveys[{i}].{path}", message) for path, message in error.problems]
            raise Refused(*problems) from None
    return tuple(surveys)


def with_catalogues(chosen: Any, own: Sequence[SurveyFile]) -> Any:
    """Add to the catalogues to make those of own surveys, with the numbers that these found."""
    if not isinstance(chosen, Mapping):
        return chosen
    added: dict[str, Any] = {}
    for survey in own:
        name = survey.catalogue or survey.key
        found = [s.detected_real for s in own if (s.catalogue or s.key) == name]
        target = next((number for number in found if number is not None), None)
        if name not in chosen:
            added[name] = {"detected_real": target, "in_stop_rule": True}
    return {**chosen, **added}
