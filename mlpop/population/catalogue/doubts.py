"""What speaks against a catalogue that can be read: cut off, out of range, incomplete, ambiguous.

What cannot be right is refused; what may be right is said, with names and counts.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from mlpop.config.blocks.surveys import Region, Survey
from mlpop.errors import DataError
from mlpop.population.catalogue.psrcat import galactic

RANGES = {
    "P0": (0.0, 1e6),
    "P1": (-1e-3, 1e-3),
    "RAJD": (0.0, 360.0),
    "DECJD": (-90.0, 90.0),
    "Gl": (-180.0, 360.0),
    "Gb": (-90.0, 90.0),
}
"""Values outside of these are refused; units as in `psrcat.COLUMNS`."""

CUT_LENGTHS = {"SURVEY": 35, "ASSOC": 40}
"""Where the catalogue's web page cuts texts off [characters]."""

_WHOLE_SKY = 500
"""So many pulsars are the catalogue, not a sample of somebody's own."""
_GAP = 30.0
"""A catalogue without pulsars over so much right ascension is cut off [deg]."""
_LONG = 30.0
"""A median period above this is not in seconds [s]."""
_APART = 0.5
"""Two positions of a pulsar that differ more are two positions [deg]."""


def named(names: Sequence[str], most: int = 8) -> str:
    """Return names in a row, the first few of many."""
    return ", ".join(names[:most]) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )


def check_ranges(table: pd.DataFrame, source: str) -> None:
    """Refuse spins and positions that no pulsar has.

    Raises:
        DataError: names the pulsars, and what is allowed.
    """
    for name, (low, high) in RANGES.items():
        values = table[name].to_numpy()
        with np.errstate(invalid="ignore"):
            wrong = (values < low) | (values > high) | ((values == 0.0) & (name == "P0"))
        if wrong.any():
            first = table.iloc[int(np.argmax(wrong))]
            raise DataError(
                f"{source}: {name} of {first['PSRJ']} is {first[name]:g}, which must lie between "
                f"{low:g} and {high:g}; so of {int(wrong.sum())} of {len(table)} pulsars: "
                f"{named(table['PSRJ'][wrong].tolist())}"
            )
    median = table["P0"].median()
    if median > _LONG:
        raise DataError(
            f"{source}: half of the P0 are above {median:g}: they must be given in seconds"
        )


def doubts(table: pd.DataFrame, absent: Sequence[str] = ()) -> Iterator[str]:
    """Yield what a reader of a catalogue must know, one sentence each.

    Args:
        table: the whole catalogue.
        absent: columns that its file does not have.
    """
    if "BINARY" in absent or "TYPE" in absent:
        lacking = " and ".join(name for name in ("BINARY", "TYPE") if name in absent)
        yield (
            f"The file has no column {lacking}: pulsars in binaries that only this would tell "
            "could not be taken out; use the full psrcat.db, or make sure that none are in it."
        )
    yield from _cut_texts(table)
    yield from _gap(table)
    yield from _two_places(table)
    yield from _odd_names(table)
    yield from _twins(table)
    yield from _odd_lists(table)
    places = table[["RAJD", "DECJD", "Gl", "Gb"]].isna().any(axis=1)
    if places.any():
        yield (
            f"{int(places.sum())} pulsars have no position and are in no region of a survey: "
            f"{named(table['PSRJ'][places].tolist())}."
        )


def _odd_names(table: pd.DataFrame) -> Iterator[str]:
    odd = table["PSRJ"][~table["PSRJ"].str.startswith("J")].tolist()
    if odd:
        yield (
            f"{len(odd)} names in PSRJ do not begin with J, so that no table of fluxes or "
            f"corrections can name them: {named(odd)}."
        )


def _twins(table: pd.DataFrame) -> Iterator[str]:
    place = table[["PSRJ", "P0", "RAJD", "DECJD"]].dropna().round(9)
    twins = place[place.duplicated(["P0", "RAJD", "DECJD"], keep=False)]["PSRJ"].tolist()
    if twins:
        yield (
            f"{len(twins)} pulsars have the period and the position of another one, and may be "
            f"there twice under two names: {named(twins)}."
        )


def _odd_lists(table: pd.DataFrame) -> Iterator[str]:
    for name in ("SURVEY", "ASSOC", "TYPE"):
        odd = table["PSRJ"][table[name].str.contains(r"[;|]|\w\s+\w", regex=True)].tolist()
        if odd:
            yield (
                f"{name} of {len(odd)} pulsars has entries that commas do not separate, and that "
                f"are taken for one: {named(odd)}."
            )


def check_tags(table: pd.DataFrame, regions: Mapping[Survey, Region], source: str) -> list[str]:
    """Return a sentence for every tag that no pulsar of a small file has.

    Raises:
        DataError: no pulsar of a whole catalogue has it; names the tag, and those that are there.
    """
    found = []
    tags = pd.Series([tag.strip() for text in table["SURVEY"] for tag in text.split(",") if tag])
    known = tags.value_counts()
    for survey, region in regions.items():
        alike = [tag for tag in known.index if tag.lower() == region.token.lower()]
        if others := [tag for tag in alike if tag != region.token]:
            found.append(
                f"regions.{survey}.token: {int(known[others].sum())} pulsars have the tag "
                f"{', '.join(others)}, which is not '{region.token}', and are left out."
            )
        if region.token not in known.index:
            common = ", ".join(f"{tag} ({count})" for tag, count in known.items()) or "none"
            text = (
                f"regions.{survey}.token: no pulsar of {source} has the tag '{region.token}' in "
                f"its SURVEY; tags with their numbers of pulsars: {common[:400]}"
            )
            if len(table) >= _WHOLE_SKY:
                raise DataError(text)
            found.append(f"{text}.")
    return found


def unknown_types(table: pd.DataFrame, kinds: Sequence[str]) -> list[str]:
    """Return a sentence for every type of psrcat that no pulsar of a whole catalogue has."""
    if len(table) < _WHOLE_SKY:
        return []
    texts = [token for text in table["TYPE"] for token in text.split(",")]
    known = sorted({text.split("[")[0].strip() for text in texts} - {""})
    if kinds and not known:
        return [
            f"types_excluded: the file says nothing of types: no {' and no '.join(kinds)} could "
            "be taken out."
        ]
    return [
        f"types_excluded: no pulsar has the TYPE '{kind}'; types: {', '.join(known)}."
        for kind in kinds
        if kind not in known
    ]


def without_p1(table: pd.DataFrame, survey: str) -> list[str]:
    """Say how many pulsars count in a target without a P1, and whether their P are like others."""
    known = table["P1"].notna()
    if known.all() or not known.any():
        return []
    alike = ks_2samp(table["P0"][known], table["P0"][~known]).pvalue
    return [
        f"{int((~known).sum())} of {len(table)} pulsars of {survey} have no measured P1: they "
        "count in its target and are not in its maps; simulated ones are thinned at random to as "
        f"many. Their P0 are as those of the others with p = {alike:.2g} (Kolmogorov-Smirnov)."
    ]


def _cut_texts(table: pd.DataFrame) -> Iterator[str]:
    for column, typical in CUT_LENGTHS.items():
        lengths = table[column].str.len().to_numpy()
        longest = int(lengths.max(initial=0))
        at_most = table["PSRJ"][lengths == longest].tolist()
        if longest == typical or (
            longest >= 20 and len(at_most) > 1 and _in_pieces(table, column)
        ):
            yield (
                f"{len(at_most)} pulsars have a {column} of {longest} characters, the greatest "
                f"length in the file: it may be cut off there, as on the catalogue's web page, "
                f"and their last entries are lost, so that they may be missing from a survey or "
                f"not be known as members of a cluster: {named(at_most)}. Use the full psrcat.db."
            )


def _in_pieces(table: pd.DataFrame, column: str) -> bool:
    """Whether a text of the greatest length ends in the beginning of an entry of another."""
    texts = table[column].tolist()
    longest = max(map(len, texts))
    entries = {entry for text in texts for entry in text.split(",")}
    lasts = {text.rpartition(",")[2] for text in texts if len(text) == longest}
    return any(
        last != entry and entry.startswith(last) for last in lasts for entry in entries if last
    )


def _gap(table: pd.DataFrame) -> Iterator[str]:
    places = np.sort(table["RAJD"].dropna().to_numpy())
    if len(places) < _WHOLE_SKY:
        return
    gaps = np.diff(places, append=places[0] + 360.0)
    widest = int(np.argmax(gaps))
    if gaps[widest] > _GAP:
        begin, end = places[widest] / 15.0, (places[widest] + gaps[widest]) % 360.0 / 15.0
        yield (
            f"None of {len(table)} pulsars lies between {begin:.1f} h and {end:.1f} h of right "
            "ascension: the file may be cut off; the whole catalogue has pulsars everywhere."
        )


def _two_places(table: pd.DataFrame) -> Iterator[str]:
    place = table[["RAJD", "DECJD", "Gl", "Gb"]].dropna()
    if place.empty:
        return
    longitude, latitude = galactic(place["RAJD"].to_numpy(), place["DECJD"].to_numpy())
    turn = np.mod(longitude - place["Gl"].to_numpy() + 180.0, 360.0) - 180.0
    turn = turn * np.cos(np.radians(latitude))
    apart = np.hypot(turn, latitude - place["Gb"].to_numpy()) > _APART
    if apart.any():
        yield (
            f"Gl and Gb of {int(apart.sum())} pulsars are not where their RAJD and DECJD are; "
            "regions follow Gl and Gb, maps of the sky RAJD and DECJD: "
            f"{named(table['PSRJ'][place.index[apart]].tolist())}."
        )
