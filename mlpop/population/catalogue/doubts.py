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

_SHORTEST_CUT = 8
"""Texts are not cut off at fewer characters."""
_WHOLE_SKY = 500
"""So many pulsars are the catalogue, not a sample of somebody's own."""
_GAP = 12.0
"""Between neighbours in right ascension that lie so many times further apart than the others
around them, some are missing; release 1.67 has at most 5.5, random parts of it at most 9."""
_AROUND = 50
"""So many neighbours on either side say how far apart they are there."""
_LONG = 30.0
"""A median period above this is not in seconds [s]."""
_LONG_OF_ALL = 1.5
"""Of a whole catalogue; that of release 1.67 is 0.49, and 2.0 of its frequencies [s]."""
_FAST = 1e-10
"""A median P1 above this, ten times that of magnetars, is not in s/s."""
_FILLER = 0.05
"""A number that so large a part of a catalogue has stands for an absent one."""
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
    median = table["P1"].median()
    if median > _FAST:
        raise DataError(
            f"{source}: half of the P1 are above {median:g}: they must be given in s/s"
        )


def doubts(table: pd.DataFrame, absent: Sequence[str] = ()) -> Iterator[str]:
    """Yield what a reader of a catalogue must know, one sentence each.

    Args:
        table: the whole catalogue.
        absent: columns that its file does not have, or has nothing in.
    """
    yield from _silent_columns(table, absent)
    yield from _odd_spins(table)
    yield from _fillers(table)
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


def silent(table: pd.DataFrame) -> list[str]:
    """Return the columns of a whole catalogue in which it has nothing."""
    if len(table) < _WHOLE_SKY:
        return []
    return [name for name, column in table.items() if not (column.notna() & (column != "")).any()]


def _silent_columns(table: pd.DataFrame, absent: Sequence[str]) -> Iterator[str]:
    """Say what follows from columns that are not there, or empty."""
    what = {
        ("BINARY", "TYPE"): "pulsars in binaries that only this would tell could not be taken out",
        ("ASSOC",): "members of globular clusters and of other galaxies could not be taken out",
    }
    if len(table) >= _WHOLE_SKY:
        what[("DM",)] = "maps and checks of dispersion measures know none"
    for names, consequence in what.items():
        if lacking := [name for name in names if name in absent]:
            yield (
                f"The file has no column {' and '.join(lacking)}, or nothing in it: "
                f"{consequence}; use the full psrcat.db, or make sure that it does not matter."
            )


def _odd_spins(table: pd.DataFrame) -> Iterator[str]:
    """Say where spins are like those in other units, or of other quantities."""
    p0, p1 = table["P0"].dropna(), table["P1"].dropna()
    if len(table) >= _WHOLE_SKY and p0.median() > _LONG_OF_ALL:
        yield (
            f"Half of the P0 are above {p0.median():.3g} s, those of the catalogue above 0.5 s: "
            "they must be periods in seconds, not frequencies."
        )
    if len(p1) > 1 and p1.median() < 0.0:
        yield (
            f"{int((p1 < 0.0).sum())} of {len(p1)} P1 are negative, and most pulsars slow down: "
            "they must be derivatives of the period, not of the frequency."
        )


def _fillers(table: pd.DataFrame) -> Iterator[str]:
    """Say where a number seems to stand for an absent one."""
    if len(table) < _WHOLE_SKY:
        return
    for name in ("P0", "P1", "Gl", "Gb", "DM", "S1400"):
        counts = table[name].value_counts()
        if len(counts) > 1 and counts.iloc[0] > _FILLER * len(table):
            yield (
                f"{name} of {counts.iloc[0]} of {len(table)} pulsars is {counts.index[0]:g}, and "
                "is taken for measured: where it stands for an absent value, leave it empty."
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
        # tags are words; associations and types have brackets, colons and signs
        signs = r"[^\w.,\s]" if name == "SURVEY" else "[;|]"
        odd = table["PSRJ"][table[name].str.contains(rf"{signs}|\w\s+\w", regex=True)].tolist()
        if odd:
            yield (
                f"{name} of {len(odd)} pulsars has entries that commas do not separate, and that "
                f"are taken for one: {named(odd)}."
            )
    if len(table) >= _WHOLE_SKY and not table["SURVEY"].str.contains(",").any():
        yield (
            f"No pulsar of {len(table)} has more than one entry in SURVEY, where the catalogue "
            "has many: the others are lost, so that pulsars are missing from surveys."
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
            longest >= _SHORTEST_CUT and len(at_most) > 1 and _in_pieces(table, column)
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
    whole = {entry for text in texts if len(text) < longest for entry in text.split(",")}
    lasts = {text.rpartition(",")[2] for text in texts if len(text) == longest} - whole
    return any(last != entry and entry.startswith(last) for last in lasts for entry in entries)


def _gap(table: pd.DataFrame) -> Iterator[str]:
    """Say where neighbours in right ascension lie further apart than others there."""
    if table["RAJD"].notna().sum() < _WHOLE_SKY:
        return
    # those of a cluster count as one
    places = np.unique(table["RAJD"].dropna().round(1))
    gaps = np.diff(places, append=places[0] + 360.0)
    around = min(_AROUND, len(gaps) // 3)
    sums = np.cumsum(np.concatenate([[0.0], gaps[-around:], gaps, gaps[:around]]))
    before = sums[around : around + len(gaps)] - sums[: len(gaps)]
    after = sums[2 * around + 1 :] - sums[around + 1 : around + 1 + len(gaps)]
    times = gaps / np.maximum(before, after) * around
    widest = int(np.argmax(times))
    if around and times[widest] > _GAP:
        begin, end = places[widest] / 15.0, (places[widest] + gaps[widest]) % 360.0 / 15.0
        yield (
            f"None of {len(table)} pulsars lies between {begin:.2f} h and {end:.2f} h of right "
            f"ascension, {times[widest]:.0f} times the usual distance there: the file may be cut "
            "off, or lack a part; the whole catalogue has pulsars everywhere."
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
