"""Features of tables of detected pulsars, for predictive checks: what maps average away.

A table (n, 6) has the columns of `mlpop.maps.pulsars`; rows without a period hold no pulsar, and
fluxes or dispersions of 0 are not known.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIDDLE = 0.3
"""Latitudes are compared as the log of |b| plus this [deg]."""

TAILS = (0.02, 0.1, 0.9, 0.98)
"""Quantiles of all pulsars of all skies, beyond which those of a sky are counted."""


TOGETHER = ("spins", "distances", "brightness")


def pulsar_views(tables: Mapping[str, Array]) -> dict[str, Array]:
    """Return view -> features (m, f) of m skies.

    `spins`, over all surveys: means, spreads, skewness and covariance of the logs of
    characteristic age and field, and square roots of the fractions of pulsars that are among the
    youngest, oldest, weakest and strongest of all skies. For every survey: `distances`, mean and
    spread of log DM; `places`, of latitude and of longitude's distance from the centre;
    `brightness`, mean and spread of log flux, and its slope with log(P_dot / P^3). `numbers`,
    logs of ratios of the surveys' numbers of pulsars: the numbers themselves depend on how long a
    simulation goes on. And `pulsars`, spins, distances and brightness together: theta may mend
    each, but not all at once.

    Args:
        tables: survey -> its tables (m, n, 6).
    """
    views = {"spins": _spins(np.concatenate([*tables.values()], 1))}
    of_surveys = [_features(table) for table in tables.values()]
    views |= {name: np.column_stack([f[name] for f in of_surveys]) for name in of_surveys[0]}
    views["pulsars"] = np.column_stack([views[name] for name in TOGETHER])
    if len(tables) > 1:
        counts = np.column_stack([_there(table).sum(1) for table in tables.values()])
        numbers = np.log(np.maximum(counts, 0.5))
        views["numbers"] = numbers[:, 1:] - numbers[:, :1]
    return views


def _there(table: Array) -> NDArray[np.bool_]:
    return np.asarray((table[..., 0] > 0) & (table[..., 1] > 0))


def _spins(table: Array) -> Array:
    there = _there(table)
    lg_p, lg_p_dot = _lg(table[..., 0]), _lg(table[..., 1])
    age, field = lg_p - lg_p_dot, lg_p + lg_p_dot
    both = (age, field)
    return np.column_stack(
        [
            *(_moments(values, there) for values in both),
            *(_skewness(values, there) for values in both),
            _product(age, field, there),
            *(_tails(values, there) for values in both),
        ]
    )


def _features(table: Array) -> dict[str, Array]:
    period, p_dot, longitude, latitude, dispersion, flux = np.moveaxis(table, 2, 0)
    there = _there(table)
    away = np.abs((longitude + 180.0) % 360.0 - 180.0)
    height = np.log10(np.abs(latitude) + MIDDLE)
    seen = there & (flux > 0)
    power = _lg(p_dot) - 3 * _lg(period)
    slope = _product(power, _lg(flux), seen) / np.maximum(_product(power, power, seen), 1e-9)
    return {
        "distances": _moments(_lg(dispersion), there & (dispersion > 0)),
        "places": np.column_stack([_moments(height, there), _moments(away, there)]),
        "brightness": np.column_stack([_moments(_lg(flux), seen), slope]),
    }


def _lg(values: Array) -> Array:
    return np.asarray(np.log10(np.where(values > 0, values, 1.0)))


def _mean(values: Array, known: NDArray[np.bool_]) -> Array:
    return np.asarray((values * known).sum(1) / np.maximum(known.sum(1), 1))


def _product(a: Array, b: Array, known: NDArray[np.bool_]) -> Array:
    """Return the covariance (m,) of what is known."""
    return _mean(
        (a - _mean(a, known)[:, None]) * (b - _mean(b, known)[:, None]),
        known,
    )


def _moments(values: Array, known: NDArray[np.bool_]) -> Array:
    """Return mean and deviation (m, 2); 0 where nothing is known."""
    return np.column_stack([_mean(values, known), np.sqrt(_product(values, values, known))])


def _skewness(values: Array, known: NDArray[np.bool_]) -> Array:
    """Return the third moment (m,) in deviations; 0 where nothing varies."""
    centred = values - _mean(values, known)[:, None]
    spread = np.sqrt(_mean(centred**2, known))
    return _mean(centred**3, known) / np.where(spread > 0, spread, 1.0) ** 3


def _tails(values: Array, known: NDArray[np.bool_]) -> Array:
    """Return square roots of fractions (m, q) below, or above, quantiles of all skies' values."""
    everything = values[known]
    edges = np.quantile(everything, TAILS) if len(everything) else np.zeros(len(TAILS))
    beyond = [
        values < edge if level < 0.5 else values > edge
        for level, edge in zip(TAILS, edges, strict=True)
    ]
    return np.sqrt(np.column_stack([_mean(outside.astype(float), known) for outside in beyond]))
