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

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def pulsar_views(tables: Mapping[str, Array]) -> dict[str, Array]:
    """Return view -> features (m, f) of m skies.

    `numbers`, logs of ratios of the surveys' numbers of pulsars: how long a simulation goes on
    decides the numbers themselves; `distances`, mean and spread of log DM; `places`, of latitude
    and distance from the Galactic centre's longitude; `spins`, quantiles of the logs of
    characteristic age and field; `brightness`, mean and spread of log flux, and its slope with
    log(P_dot / P^3).

    Args:
        tables: survey -> its tables (m, n, 6).
    """
    of_surveys = [_features(table) for table in tables.values()]
    views = {name: np.column_stack([f[name] for f in of_surveys]) for name in of_surveys[0]}
    numbers = np.log(np.maximum(np.column_stack([f["number"] for f in of_surveys]), 0.5))
    del views["number"]
    if len(of_surveys) > 1:
        views["numbers"] = numbers[:, 1:] - numbers[:, :1]
    return views


def _features(table: Array) -> dict[str, Array]:
    period, p_dot, longitude, latitude, dispersion, flux = np.moveaxis(table, 2, 0)
    there = (period > 0) & (p_dot > 0)
    lg_p, lg_p_dot = _lg(period), _lg(p_dot)
    away = np.abs((longitude + 180.0) % 360.0 - 180.0)
    height = np.log10(np.abs(latitude) + MIDDLE)
    seen = there & (flux > 0)
    power = lg_p_dot - 3 * lg_p
    spins = [_quantiles(values, there) for values in (lg_p - lg_p_dot, lg_p + lg_p_dot)]
    slope = _product(power, _lg(flux), seen) / np.maximum(_product(power, power, seen), 1e-9)
    return {
        "number": there.sum(1)[:, None].astype(float),
        "distances": _moments(_lg(dispersion), there & (dispersion > 0)),
        "places": np.column_stack([_moments(height, there), _moments(away, there)]),
        "spins": np.column_stack(spins),
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


def _quantiles(values: Array, known: NDArray[np.bool_]) -> Array:
    """Return quantiles (m, q); 0 where nothing is known."""
    return np.array(
        [
            np.quantile(row[chosen], QUANTILES) if chosen.any() else np.zeros(len(QUANTILES))
            for row, chosen in zip(values, known, strict=True)
        ]
    )
