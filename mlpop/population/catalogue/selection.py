"""From the whole catalogue to the observed samples: isolated, not recycled, seen by a survey.

The cuts are those of Graber et al. 2024 and Pardo-Araujo et al. 2025, in their order, with two
repairs: associations are compared token by token, so that a globular cluster that is listed
second or written with parentheses is found; and the flux sample of every survey is made after
the cut in the sky.

Two samples are followed through the cuts. The sample for **counts** keeps pulsars whose period
derivative is not measured; the sample for **maps** does not.

References:
    Graber et al. 2024, ApJ 968, 16; Pardo-Araujo et al. 2025, A&A 696, A114;
    Posselt et al. 2023, MNRAS 520, 4582 (TPA census); Song et al. 2023, MNRAS 520, 4562.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpop.config.blocks.surveys import Region, Survey
from mlpop.config.files.observe import FluxSource, ObserveConfig
from mlpop.errors import DataError
from mlpop.population.catalogue.doubts import (
    check_ranges,
    check_tags,
    named,
    unknown_types,
    without_p1,
)
from mlpop.population.catalogue.observed_catalogue import (
    download_catalogue,
    read_catalogue,
)
from mlpop.population.catalogue.tables import (
    check_fluxes,
    corrected,
    read_corrections,
    read_tpa,
)

MIN_PERIOD = 0.01
"""Shorter periods are those of recycled pulsars [s]."""
MIN_PERIOD_DERIVATIVE = 1e-19
"""Smaller period derivatives are those of recycled pulsars [s/s]."""
OUTSIDE = ("GC", "EXGAL")
"""Kinds of association outside the Galactic field: globular clusters and other galaxies."""

FLUX = "S_radio_obs_mean_1400"
"""Column of the fluxes [Jy]."""

ALL = "all"
"""What stands for a survey in the rows of cuts that concern the whole catalogue."""

Columns = dict[str, NDArray[np.float64]]


class CutRow(NamedTuple):
    """What one cut left."""

    step: str
    survey: str
    pulsars: int
    """Pulsars in the sample for counts."""
    with_p1: int
    """Those of them with a measured P1: the sample for maps."""


@dataclass(frozen=True)
class Selection:
    """The observed samples.

    Attributes:
        counts: rows of the catalogue by survey, P1 measured or not.
        maps: those with a measured P1.
        fluxes: those of `maps` with a flux, in a further column `S_radio_obs_mean_1400` [Jy];
            None where no fluxes were asked for.
        rows: what every cut left, in order.
        notes: what a reader of the numbers must know, one sentence each.
        doubts: what speaks against the catalogue, likewise.
        version: of the catalogue, where it is known.
        sha256: of its file, where there is one.
    """

    counts: dict[Survey, pd.DataFrame]
    maps: dict[Survey, pd.DataFrame]
    fluxes: dict[Survey, pd.DataFrame] | None
    rows: list[CutRow]
    notes: list[str]
    doubts: list[str] = field(default_factory=list)
    version: str | None = None
    sha256: str | None = None


def observed_selection(config: ObserveConfig) -> Selection:
    """Read everything that `config` names, and select.

    Raises:
        DataError: see `read_catalogue`, `download_catalogue`, `read_tpa`, `read_corrections` and
            `select`.
    """
    path = config.catalogue_path
    catalogue = download_catalogue() if path is None else read_catalogue(path)
    unknown = check_tags(catalogue, config.regions, str(catalogue.attrs["source"]))
    selection = select(
        catalogue,
        config.regions,
        fluxes=config.fluxes,
        tpa=None if config.tpa_table is None else read_tpa(config.tpa_table),
        corrections=None if config.corrections is None else read_corrections(config.corrections),
        types_excluded=config.types_excluded,
    )
    for survey in config.generator.surveys:
        if selection.maps[survey].empty:
            token, place = config.regions[survey].token, _describe(config.regions[survey])
            unknown.append(
                f"regions.{survey}: no pulsar with the tag '{token}' and a measured P1 is left in "
                f"{place}: its maps are empty."
            )
    selection.doubts.extend(unknown)
    return selection


def select(
    catalogue: pd.DataFrame,
    regions: Mapping[Survey, Region],
    *,
    fluxes: FluxSource | None = None,
    tpa: pd.DataFrame | None = None,
    corrections: pd.DataFrame | None = None,
    types_excluded: Sequence[str] = (),
) -> Selection:
    """Cut the catalogue down to the samples of each survey.

    Args:
        catalogue: as `read_catalogue` returns it; it is not changed.
        regions: tag and sky region of each survey.
        fluxes: `tpa` takes fluxes from the table `tpa`, `S1400` those of the catalogue.
        tpa: as `read_tpa` returns it.
        corrections: as `read_corrections` returns it.
        types_excluded: types of psrcat that no sample holds.

    Raises:
        DataError: a pulsar of the corrections is not in the catalogue; or `fluxes` is `tpa`
            without a table, or the table has no pulsar of a survey.
    """
    if fluxes == "tpa" and tpa is None:
        raise DataError("fluxes 'tpa' need the TPA table; give its path, or set fluxes to null")
    rows: list[CutRow] = []
    notes: list[str] = []
    attrs = catalogue.attrs
    doubted = list(attrs.get("doubts", ()))
    sample = catalogue

    def note_row(step: str, table: pd.DataFrame, survey: str = ALL) -> None:
        rows.append(CutRow(step, survey, len(table), int(table["P1"].notna().sum())))

    note_row("catalogue", sample)
    if corrections is None:
        notes.append(
            "No period was corrected: some listed periods are harmonics (Song et al. 2023)."
        )
    else:
        sample = corrected(sample, corrections)
        check_ranges(sample, f"{attrs.get('source', 'the catalogue')} with corrected periods")
        notes.append(
            f"{len(corrections)} periods were corrected for harmonics, and P1 by the same factor."
        )
    doubted += unknown_types(catalogue, types_excluded)
    absent = {"BINARY", "TYPE"}.intersection(attrs.get("absent", ()))
    binary = "not in a binary"
    if absent:
        some = f" (as far as known without {min(absent)})"
        binary += " (not checked)" if len(absent) == 2 else some
    for step, keep in (
        (binary, lambda t: ~_in_binary(t)),
        ("P0 measured", lambda t: t["P0"].notna()),
        ("not in a globular cluster or another galaxy", lambda t: ~_outside(t)),
        (f"P0 > {MIN_PERIOD:g} s", lambda t: t["P0"] > MIN_PERIOD),
        (
            f"P1 > {MIN_PERIOD_DERIVATIVE:g} or not measured",
            lambda t: t["P1"].isna() | (t["P1"] > MIN_PERIOD_DERIVATIVE),
        ),
    ):
        sample = sample[keep(sample)]
        note_row(step, sample)

    counts: dict[Survey, pd.DataFrame] = {}
    for survey, region in regions.items():
        tagged = sample[_any_token(sample["SURVEY"], region.token.__eq__)]
        note_row(f"SURVEY has {region.token}", tagged, survey)
        counts[survey] = tagged[_inside(tagged, region)]
        note_row(f"in the region {_describe(region)}", counts[survey], survey)
        for kind in types_excluded:
            counts[survey] = counts[survey][~_of_type(counts[survey], kind)]
            note_row(f"TYPE is not {kind}", counts[survey], survey)
        notes.extend(without_p1(counts[survey], survey))
    maps = {survey: table[table["P1"].notna()] for survey, table in counts.items()}
    for survey, table in maps.items():
        note_row("P1 measured", table, survey)

    flux_samples: dict[Survey, pd.DataFrame] | None = None
    if fluxes is None:
        notes.append("No flux maps: neither a TPA table nor the catalogue's S1400 was asked for.")
    else:
        if tpa is not None and fluxes == "tpa":
            measured = tpa.set_index("PSRJ")["ch6flux"]
            unknown = sorted(set(tpa["PSRJ"]) - set(catalogue["PSRJ"]))
            if unknown:
                doubted.append(
                    f"{len(unknown)} of {len(tpa)} pulsars of the TPA table are not in the "
                    f"catalogue, and have no part in the flux maps: {named(unknown)}."
                )
        else:
            listed = catalogue.set_index("PSRJ")["S1400"]
            measured = listed.where(listed > 0.0)
            check_fluxes(measured.to_numpy(), "fluxes: half of the S1400 of the catalogue")
        flux_samples = {survey: _with_flux(table, measured) for survey, table in maps.items()}
        for survey, table in flux_samples.items():
            note_row(f"flux from {fluxes}", table, survey)
            if table.empty and not maps[survey].empty:
                raise DataError(
                    f"fluxes: no pulsar of {survey} has a flux in {fluxes}: the names must be the "
                    f"J names of the catalogue, such as {named(maps[survey]['PSRJ'].tolist(), 3)}"
                )
        if fluxes == "S1400":
            notes.append(
                "Flux maps hold the catalogue's S1400, compiled from many telescopes at 1400 MHz, "
                "not the MeerKAT TPA census at 1429 MHz, which the simulated flux maps mimic."
            )
    version, digest = attrs.get("version"), attrs.get("sha256")
    notes.insert(
        0,
        f"Catalogue: {attrs.get('source', 'given')}, version {version or 'not known'}, "
        f"{len(catalogue)} pulsars, SHA-256 {digest or 'not known'}.",
    )
    return Selection(counts, maps, flux_samples, rows, notes, doubted, version, digest)


def survey_catalogues(selection: Selection) -> dict[str, Columns]:
    """Return what count and sky maps are made of, and what checks compare besides.

    Returns:
        By survey the columns `ra`, `dec`, `l`, `b` [deg], `P` [s], `P_dot` [s/s],
        `DM` [pc cm^-3], and `S_radio_obs_mean_1400` [Jy], each (n,); NaN where not measured.
    """
    names = {"ra": "RAJD", "dec": "DECJD", "l": "Gl", "b": "Gb"}
    names |= {"P": "P0", "P_dot": "P1", "DM": "DM"}
    columns = {survey: _columns(table, names) for survey, table in selection.maps.items()}
    for survey, table in selection.maps.items():
        flux = np.full(len(table), np.nan)
        if selection.fluxes is not None:
            fluxes = selection.fluxes[survey].set_index("PSRJ")[FLUX]
            flux = fluxes.reindex(table["PSRJ"]).to_numpy(dtype=np.float64)
        columns[survey][FLUX] = flux
    return columns


def flux_catalogues(selection: Selection) -> dict[str, Columns] | None:
    """Return what the flux maps are made of; None where no fluxes were asked for.

    Returns:
        By survey the columns `P` [s], `P_dot` [s/s] and `S_radio_obs_mean_1400` [Jy], each (n,).
    """
    if selection.fluxes is None:
        return None
    names = {"P": "P0", "P_dot": "P1", "S_radio_obs_mean_1400": "S_radio_obs_mean_1400"}
    return {survey: _columns(table, names) for survey, table in selection.fluxes.items()}


def _any_token(column: pd.Series, accepts: Callable[[str], bool]) -> NDArray[np.bool_]:
    rows = (any(accepts(token.strip()) for token in text.split(",")) for text in column)
    return np.fromiter(rows, dtype=bool, count=len(column))


def _outside(table: pd.DataFrame) -> NDArray[np.bool_]:
    return _any_token(table["ASSOC"], lambda token: token.split(":")[0] in OUTSIDE)


def _of_type(table: pd.DataFrame, kind: str) -> NDArray[np.bool_]:
    """Tell (n,) which pulsars have a type of psrcat, perhaps with a reference."""
    return _any_token(table["TYPE"], lambda token: token.split("[")[0] == kind)


def _in_binary(table: pd.DataFrame) -> NDArray[np.bool_]:
    """psrcat's type(BINARY): a binary model, or the type itself, perhaps with a reference."""
    named = _any_token(table["TYPE"], lambda token: token.split("[")[0] == "BINARY")
    return named | (table["BINARY"] != "").to_numpy()


def _inside(table: pd.DataFrame, region: Region) -> NDArray[np.bool_]:
    longitude = 180.0 - np.mod(180.0 - table["Gl"].to_numpy(), 360.0)
    inside = (longitude > region.l_min) & (longitude < region.l_max)
    if region.b_abs_min is not None:
        inside &= np.abs(table["Gb"].to_numpy()) > region.b_abs_min
    if region.b_abs_max is not None:
        inside &= np.abs(table["Gb"].to_numpy()) < region.b_abs_max
    return inside


def _describe(region: Region) -> str:
    text = f"{region.l_min:g} < l < {region.l_max:g}"
    low, high = region.b_abs_min, region.b_abs_max
    if low is None:
        return text if high is None else f"{text}, |b| < {high:g}"
    return f"{text}, |b| > {low:g}" if high is None else f"{text}, {low:g} < |b| < {high:g}"


def _with_flux(table: pd.DataFrame, flux_mjy: pd.Series) -> pd.DataFrame:
    flux_jy = flux_mjy.reindex(table["PSRJ"]).to_numpy() / 1000.0
    return table.assign(S_radio_obs_mean_1400=flux_jy)[np.isfinite(flux_jy)]


def _columns(table: pd.DataFrame, names: Mapping[str, str]) -> Columns:
    return {new: table[old].to_numpy(dtype=np.float64) for new, old in names.items()}
