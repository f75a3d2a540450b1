"""Radio surveys: their parameters, the sky they cover, and which of them share a catalogue.

One JSON file a survey lies in `surveys/`, and the configuration may bring more. Nothing below
`population/` knows a survey by its name; `config.blocks.surveys` names those with maps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.survey_file import SurveyFile
from mlpop.errors import ConfigError

FOLDER = Path(__file__).parent
MAX_SURVEYS = 64
"""Surveys in one simulation; a star's coverage is the bits of one integer."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Survey:
    """One pulsar survey.

    Attributes:
        key: name of its JSON file.
        name: name in words.
        reference: where its parameters come from.
        deg_factor: sensitivity degradation beta of the radiometer equation.
        G0: gain on the axis of the most sensitive beam [K/Jy].
        beams: gain over G0 of each kind of beam, and its share of the survey's area.
        t_obs: integration time [s].
        t_samp: sampling time [us].
        T_sys: system temperature without the sky [K].
        f_central: central frequency [MHz].
        BW: bandwidth [MHz].
        channel_width: width of one channel [MHz].
        n_pol: number of polarisations summed.
        FWHM: width of the beam [arcmin].
        SNR_th: detection threshold in signal-to-noise.
        RA_range: [deg]
        DEC_range: [deg]
        l_ranges: one or more ranges of Galactic longitude in (-180, 180] [deg].
        b_range_abs: range of the absolute Galactic latitude [deg].
        coverage_mode: `and` asks for a longitude and a latitude inside, `l_or_b` for one of them.
        aperture_config: an aperture array, whose gain falls with the zenith angle.
        FFT_search: the efficiency of Morello et al. 2020 applies.
        catalogue: catalogue that its detections are in; by default one of its own.
    """

    key: str
    name: str
    reference: str
    deg_factor: float
    G0: float
    beams: tuple[tuple[float, float], ...]
    t_obs: float
    t_samp: float
    T_sys: float
    f_central: float
    BW: float
    channel_width: float
    n_pol: int
    FWHM: float
    SNR_th: float
    RA_range: Range
    DEC_range: Range
    l_ranges: tuple[Range, ...]
    b_range_abs: Range
    coverage_mode: Literal["and", "l_or_b"]
    aperture_config: bool
    FFT_search: bool
    catalogue: str

    def covers(
        self, gl: ArrayLike, gb: ArrayLike, ra: ArrayLike, dec: ArrayLike
    ) -> NDArray[np.bool_]:
        """Tell (n,) which directions, as `coverage` takes them, lie strictly inside the area."""
        equatorial = _inside(ra, self.RA_range) & _inside(dec, self.DEC_range)
        longitude = np.logical_or.reduce([_inside(gl, bounds) for bounds in self.l_ranges])
        latitude = _inside(np.abs(np.asarray(gb)), self.b_range_abs)
        if self.coverage_mode == "l_or_b":
            return equatorial & (longitude | latitude)
        return equatorial & longitude & latitude


@cache
def surveys(version: str = "current") -> Mapping[str, Survey]:
    """Return every survey by key, in sorted order.

    `version` is `current` or the name of another set of parameters; surveys without such a set
    keep their current ones.
    """
    return {key: survey_of(file, version) for key, file in shipped().items()}


@cache
def shipped() -> Mapping[str, SurveyFile]:
    """Return the surveys that ship with mlpop by key, in sorted order."""
    paths = sorted(FOLDER.glob("*.json"), key=lambda path: path.stem)
    return {path.stem: SurveyFile.read(path) for path in paths}


def available(config: PopulationConfig) -> Mapping[str, Survey]:
    """Return every survey that a configuration may use, in sorted order: shipped, and its own.

    Raises:
        ConfigError: one of its own has the name of another, or that of a shipped catalogue.
    """
    every = dict(surveys(config.survey_version))
    taken = {survey.catalogue for survey in every.values()}
    for i, file in enumerate(config.surveys):
        own = survey_of(file, config.survey_version)
        if own.key in every or own.catalogue in taken:
            name = own.key if own.key in every else own.catalogue
            raise ConfigError(
                f"population.surveys[{i}]: there is a survey or catalogue '{name}' already: give "
                "the file another name, or another `catalogue`"
            )
        every[own.key] = own
    return dict(sorted(every.items()))


def survey_of(file: SurveyFile, version: str = "current") -> Survey:
    """Return a survey as its file describes it, in a version of its parameters.

    Raises:
        ConfigError: the fields of the version make no survey.
    """
    file = file.at(version)
    kinds = file.beams or (None,)
    gains = [float(file.G0 or 0.0) if kind is None else kind.G0 for kind in kinds]
    areas = [
        1.0 if kind is None else kind.number * (kind.FWHM or file.FWHM) ** 2 for kind in kinds
    ]
    values = file.model_dump(exclude={"beams", "detected_real", "versions"})
    return Survey(
        **values
        | {
            "G0": max(gains),
            "beams": tuple(
                (gain / max(gains), area / sum(areas))
                for gain, area in zip(gains, areas, strict=True)
            ),
            "catalogue": file.catalogue or file.key,
        }
    )


def groups(chosen: Iterable[Survey]) -> Mapping[str, tuple[str, ...]]:
    """Return which of these surveys make each catalogue, both by key, in sorted order.

    A star is in a catalogue if any of its surveys detects it; widths and fluxes are those of the
    first one that does.
    """
    members: dict[str, list[str]] = {}
    for survey in chosen:
        members.setdefault(survey.catalogue, []).append(survey.key)
    return {key: tuple(members[key]) for key in sorted(members)}


def coverage(
    chosen: Sequence[Survey], gl: ArrayLike, gb: ArrayLike, ra: ArrayLike, dec: ArrayLike
) -> NDArray[np.unsignedinteger[Any]]:
    """Compute which surveys cover each direction.

    Args:
        chosen: the surveys, one a bit.
        gl, gb: (n,) Galactic longitude in (-180, 180] and latitude [deg].
        ra, dec: (n,) right ascension in [0, 360) and declination [deg].

    Returns:
        (n,) smallest unsigned integers with a bit a survey; bit k is set where `chosen[k]` covers
        the direction.

    Raises:
        ConfigError: more surveys than an integer has bits.
    """
    if len(chosen) > MAX_SURVEYS:
        raise ConfigError(
            f"surveys_radio: at most {MAX_SURVEYS} surveys in one simulation, found {len(chosen)}"
        )
    kind = np.min_scalar_type((1 << len(chosen)) - 1)
    bits = np.zeros(np.shape(gl), dtype=kind)
    for place, survey in enumerate(chosen):
        bits |= survey.covers(gl, gb, ra, dec).astype(kind) << kind.type(place)
    return bits


def _inside(values: ArrayLike, bounds: Range) -> NDArray[np.bool_]:
    array = np.asarray(values)
    return (array > bounds[0]) & (array < bounds[1])
