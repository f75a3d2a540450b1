"""A sky beside predictions of it: one quantity of one survey at a time, with p-values.

The distance of a sample is that of Kolmogorov and Smirnov from all other samples together. Its
asymptotic distribution is not used: the predictions differ among themselves by more than the
number of their pulsars, as their theta do. Instead every prediction is measured in the same way,
against all others and the observed sky, and a p-value is the part of all n + 1 samples that are at
least as far away as the observed one: exact, if the sky is one more prediction, whatever the
distributions are. Its smallest value is 1 / (n + 1).

All rows in one: distances are scaled by their mean over all n + 1 samples, and turned into minus
the log of the chance of such a distance, of Kolmogorov's distribution or of a Gaussian; what is
ranked is the largest of a sample. That again is exact, and needs no correction for the number of
rows.

References:
    Hemerik & Goeman 2018, "Exact testing with random permutations", TEST 27, 811.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mlpop.errors import DataError
from mlpop.maps.pulsars import known

Array = NDArray[np.float64]

QUANTITIES: Mapping[str, str] = {
    "P": "P",
    "P_dot": "P_dot",
    "DM": "DM",
    "abs_b": "b",
    "S1400": "S_radio_obs_mean_1400",
}
"""What is compared -> the column of a table of pulsars; `abs_b` is its absolute value."""

KOLMOGOROV_MEAN = float(np.sqrt(np.pi / 2) * np.log(2))
"""Mean of Kolmogorov's distribution."""

COUNT = "count"
"""The number of pulsars of a survey, as a share of those of all surveys."""

NULL = (
    "exchange: distance of each prediction, and of the sky, from all others together; p is the "
    "part of them that are at least as far away as the sky"
)
"""How p-values are made, for the files that hold them."""


@dataclass(frozen=True)
class Row:
    """One quantity of one survey.

    Attributes:
        survey: its name in the maps.
        quantity: a key of `QUANTITIES`, or `count`.
        pulsars: observed ones of which it is known.
        observed: their median; of `count` their number.
        low, median, high: 95 % of the predictions' medians; of `count` of their numbers, scaled
            to the observed number of all surveys.
        distance: of Kolmogorov and Smirnov; of `count` how far the log of the survey's share lies
            from the mean of all.
        p_value: see above; of `count` None where there is one survey.
    """

    survey: str
    quantity: str
    pulsars: int
    observed: float
    low: float
    median: float
    high: float
    distance: float
    p_value: float | None


@dataclass(frozen=True)
class Comparison:
    """What became of a comparison.

    Attributes:
        rows: by survey, in each counts first.
        p_value: all rows in one, see above.
        num_predictions: n.
        left_out: `<survey> <quantity>` of what is known of no observed pulsar, or of no predicted.
    """

    rows: Sequence[Row]
    p_value: float
    num_predictions: int
    left_out: Sequence[str]


def compare_skies(
    observed: Mapping[str, ArrayLike],
    predicted: Mapping[str, ArrayLike],
    counts: Mapping[str, int],
    predicted_counts: Mapping[str, ArrayLike],
) -> Comparison:
    """Compare a sky with predictions of it.

    Args:
        observed: survey -> table (k, 6), columns as in `mlpop.maps.pulsars`, 0 where not known.
        predicted: the same surveys -> tables (n, k, 6).
        counts: the same surveys -> detected pulsars, those without a row in the table too.
        predicted_counts: the same surveys -> (n,).

    Raises:
        DataError: there is no survey, fewer than 2 predictions, or they are not of the same kind.
    """
    surveys = {s: (np.asarray(observed[s]), np.asarray(predicted[s])) for s in observed}
    numbers = {s: np.array([counts[s], *np.asarray(predicted_counts[s])], float) for s in surveys}
    lengths = {len(x) for _, x in surveys.values()} | {len(n) - 1 for n in numbers.values()}
    if len(lengths) != 1 or min(lengths, default=0) < 2:
        raise DataError(
            f"a comparison needs at least 2 predictions of every survey, found {sorted(lengths)}"
        )
    totals = np.sum([*numbers.values()], 0)
    scaled = to_observed_total({s: counts[s] for s in surveys}, predicted_counts)
    rows: list[Row] = []
    scores: list[Array] = []
    left_out = []
    for survey, (x_o, x) in surveys.items():
        share = np.log(np.maximum(numbers[survey], 0.5) / np.maximum(totals, 0.5))
        row, score = _count(survey, counts[survey], scaled[survey], share, len(surveys) == 1)
        rows.append(row)
        scores.append(score)
        for quantity, column in QUANTITIES.items():
            samples = [known(table, column).astype(np.float64) for table in (x_o, *x)]
            if quantity == "abs_b":
                samples = [np.abs(values) for values in samples]
            if not len(samples[0]) or not any(map(len, samples[1:])):
                left_out.append(f"{survey} {quantity}")
                continue
            row, score = _distribution(survey, quantity, samples)
            rows.append(row)
            scores.append(score)
    return Comparison(
        rows=rows,
        p_value=float(ranks(np.max(scores, axis=0))[0]),
        num_predictions=lengths.pop(),
        left_out=left_out,
    )


def to_observed_total(
    counts: Mapping[str, int], predicted_counts: Mapping[str, ArrayLike]
) -> dict[str, Array]:
    """Return survey -> numbers (n,) of predictions with as many pulsars in all as observed."""
    numbers = {s: np.asarray(predicted_counts[s], np.float64) for s in counts}
    totals = np.sum([*numbers.values()], 0)
    scale = sum(counts.values()) / np.maximum(totals, 1)
    return {survey: values * scale for survey, values in numbers.items()}


def ks_distances(samples: Sequence[ArrayLike]) -> Array:
    """Return the two-sample Kolmogorov-Smirnov distance (m,) of each of m samples from the rest.

    Of two empty ones it is 0, of one empty one 1.
    """
    ordered = [np.sort(np.asarray(sample, np.float64)) for sample in samples]
    pool = np.sort(np.concatenate(ordered))
    distances = np.zeros(len(ordered))
    for k, own in enumerate(ordered):
        others = len(pool) - len(own)
        if not len(own) or not others:
            distances[k] = float(len(own) != others)
            continue
        # between two values of its own the difference is largest at one of them
        gaps = [
            np.searchsorted(own, own, side) / len(own)
            - np.searchsorted(pool, own, side) / len(pool)
            for side in ("left", "right")
        ]
        # the pool holds the sample too
        distances[k] = np.abs(gaps).max() * len(pool) / others
    return distances


def ranks(strange: ArrayLike) -> Array:
    """Return for each of (m,) the part of all that are at least as strange: its p-value."""
    values = np.asarray(strange, np.float64)
    # in exact arithmetic they may be equal
    slack = 1e-9 * np.abs(values)
    return np.asarray((values[None] >= (values - slack)[:, None]).mean(1))


def _distribution(survey: str, quantity: str, samples: Sequence[Array]) -> tuple[Row, Array]:
    """Return the row of a quantity, and the scores (n + 1,) of its samples."""
    distances = ks_distances(samples)
    sizes = np.array([len(sample) for sample in samples])
    others = sizes.sum() - sizes
    # small samples are far from the others by chance alone
    strange = distances * np.sqrt(sizes * others / sizes.sum())
    strange[sizes == 0] = strange.max()
    low, median, high = _interval([float(np.median(s)) for s in samples[1:] if len(s)])
    row = Row(
        survey,
        quantity,
        len(samples[0]),
        float(np.median(samples[0])),
        low,
        median,
        high,
        distance=float(distances[0]),
        p_value=float(ranks(strange)[0]),
    )
    scaled = strange * KOLMOGOROV_MEAN / max(float(strange.mean()), np.finfo(float).tiny)
    return row, 2 * scaled**2 - np.log(2)


def _count(survey: str, count: int, scaled: Array, share: Array, alone: bool) -> tuple[Row, Array]:
    """Return the row of a survey's count, and the scores (n + 1,) of its shares.

    Args:
        survey, count: the survey, and its observed pulsars.
        scaled: (n,) predicted ones, see `to_observed_total`.
        share: (n + 1,) logs of its part of all surveys' pulsars, first the observed one.
        alone: whether it is the only survey.
    """
    strange = np.abs(share - share.mean())
    low, median, high = _interval(scaled)
    row = Row(
        survey,
        COUNT,
        count,
        float(count),
        low,
        median,
        high,
        distance=float(strange[0]),
        p_value=None if alone else float(ranks(strange)[0]),
    )
    deviation = max(float(np.sqrt((strange**2).mean())), np.finfo(float).tiny)
    return row, -np.asarray(stats.norm.logsf(strange / deviation)) - np.log(2)


def _interval(values: ArrayLike) -> tuple[float, float, float]:
    low, median, high = np.quantile(np.asarray(values), [0.025, 0.5, 0.975])
    return float(low), float(median), float(high)
