"""Radio surveys: their parameters, the sky they cover, and which of them share a catalogue.

One JSON file a survey lies in `surveys/`. Nothing below `population/` knows a survey by its name;
`config.blocks.surveys` names those of which maps are made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import ConfigError, DataError

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
        G0: gain on the axis of a beam [K/Jy].
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
    paths = sorted(FOLDER.glob("*.json"), key=lambda path: path.stem)
    return {path.stem: load_survey(path, version) for path in paths}


def load_survey(path: Path, version: str = "current") -> Survey:
    """Read one survey file.

    Raises:
        DataError: a field is missing, unknown or out of range.
    """
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    values |= values.pop("versions", {}).get(version, {})
    values.setdefault("catalogue", path.stem)
    wrong = ", ".join(sorted(set(values) ^ ({f.name for f in fields(Survey)} - {"key"})))
    if wrong:
        raise DataError(f"{path}: missing or unknown fields: {wrong}")
    for name in ("RA_range", "DEC_range", "b_range_abs"):
        values[name] = _range(values[name], f"{path}: {name}")
    values["l_ranges"] = tuple(_range(pair, f"{path}: l_ranges") for pair in values["l_ranges"])
    if values["coverage_mode"] not in ("and", "l_or_b"):
        raise DataError(f"{path}: coverage_mode must be 'and' or 'l_or_b'")
    for name in ("deg_factor", "G0", "t_obs", "t_samp", "T_sys", "f_central", "BW", "FWHM"):
        if not values[name] > 0:
            raise DataError(f"{path}: {name} must be above 0, found {values[name]}")
    return Survey(key=path.stem, **values)


@cache
def groups() -> Mapping[str, tuple[str, ...]]:
    """Return the surveys that make each catalogue, both by key, in sorted order.

    A star is in a catalogue if any of its surveys detects it; widths and fluxes are those of the
    first one that does.
    """
    members: dict[str, list[str]] = {}
    for survey in surveys().values():
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


def _range(pair: list[float], place: str) -> Range:
    if len(pair) != 2 or not pair[0] < pair[1]:
        raise DataError(f"{place}: expected [low, high] with low < high, found {pair}")
    return float(pair[0]), float(pair[1])
