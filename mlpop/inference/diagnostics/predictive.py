"""Is an observation like what its own posterior predicts? A posterior predictive check.

Theta are drawn from the posterior at x_o and simulated. If the simulator and the posterior are
right, x_o and these predictions are exchangeable, so the chance that x_o is the strangest of all
n + 1 is 1 / (n + 1), whatever is called strange. Strange is here what lies far from the mean of
all n + 1 in some view of x, by the Mahalanobis distance and the chance of such a distance for a
Gaussian; the p-value is the part of them that are at least as strange as x_o in their strangest
view. So it needs no correction for the number of views, and holds for x of any distribution.

x_o has been used for its posterior, which lies where x_o is explained best: the p-value is too
large rather than too small.

References:
    Gelman, Meng & Stern 1996, "Posterior predictive assessment of model fitness via realized
    discrepancies", Statistica Sinica 6, 733.
    Hemerik & Goeman 2018, "Exact testing with random permutations", TEST 27, 811.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mlpop.errors import DataError

ALPHA = 0.02
"""Chance, at most, that an observation that its posterior predicts is called unlike it."""

MIN_PREDICTIONS = int(np.ceil(1 / ALPHA)) - 1
"""With fewer the smallest p-value is above `ALPHA`."""

BLOCKS = 8
"""A map is seen as so many blocks of pixels on a side."""

ROWS_PER_FEATURE = 3
"""Of every so many observations one direction is looked at; what is left over is one more."""

_NO_VARIANCE = 1e-3
"""Relative variation below which a feature, or a direction among features, does not vary: sums of
maps of a survey whose count ends the simulation are equal but for rounding."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PredictiveCheck:
    """What became of a check.

    Attributes:
        p_value: chance that a prediction is as strange as the observation in any view.
        p_values: view -> the same in that view alone, not corrected for their number.
        num_predictions: n; the p-values are multiples of 1 / (n + 1).
    """

    p_value: float
    p_values: Mapping[str, float]
    num_predictions: int

    @property
    def unlike(self) -> bool:
        """Whether the observation is unlike the predictions."""
        return self.p_value <= ALPHA


def predictive_check(
    observed: ArrayLike,
    predicted: ArrayLike,
    channels: Sequence[str],
    others: Mapping[str, Array] | None = None,
) -> PredictiveCheck:
    """Compare an observation with predictions of its posterior.

    Args:
        observed: (*x_shape) as stored, not scaled; maps (C, H, W) or a vector (C,).
        predicted: (n, *x_shape) simulations at draws of the posterior, n at least 2.
        channels: C names.
        others: further views: features (1 + n, f), first those of the observation; judged by
            themselves, so that the p-value is twice the smaller one of both.

    Raises:
        DataError: the shapes differ, or there are too few predictions.
    """
    x_o, x = np.asarray(observed, np.float64), np.asarray(predicted, np.float64)
    if x.shape[1:] != x_o.shape or len(x) < 2 or x_o.shape[:1] != (len(channels),):
        raise DataError(
            f"a predictive check needs at least 2 predictions of the observation's shape with "
            f"{len(channels)} channels, found {x.shape} for {x_o.shape}"
        )
    pooled = np.concatenate([x_o[None], x])
    unseen = {name: _standardized(features) for name, features in (others or {}).items()}
    groups = [group for group in (views(pooled, channels), unseen) if group]
    # a prediction that is odd in x must not hide an observation that is odd in the rest
    found = [{name: strangeness(view) for name, view in group.items()} for group in groups]
    lowest = min(_rank(np.max(list(group.values()), axis=0)) for group in found)
    strange = {name: values for group in found for name, values in group.items()}
    return PredictiveCheck(
        p_value=min(1.0, len(groups) * lowest),
        p_values={name: _rank(values) for name, values in strange.items()},
        num_predictions=len(x),
    )


def views(x: Array, channels: Sequence[str]) -> dict[str, Array]:
    """Return view -> features (m, f) of observations `x` (m, *x_shape).

    A vector has one view, `x`. Maps have `totals`, the sums of all maps; `shapes`, level, centres
    and second moments of all; `pixels`, in blocks; and one a channel, with its total and shape.
    A number that fills its channel has no pixels.
    """
    if x.ndim != 4:
        return {"x": _standardized(x.reshape(len(x), -1))}
    totals = _standardized(_totals(x))
    shapes = _standardized(map_shapes(x))
    numbers = (x == x[:, :, :1, :1]).all((0, 2, 3)) & (x != x[:1]).any((0, 2, 3))
    of_channels = {
        name: np.column_stack([totals[:, c], shapes[:, c]]) for c, name in enumerate(channels)
    }
    return {
        "totals": totals,
        "shapes": shapes.reshape(len(x), -1),
        "pixels": _pixels(x if numbers.all() or not numbers.any() else x[:, ~numbers]),
        **of_channels,
    }


def strangeness(features: Array) -> Array:
    """Return how far each of features (m, f) lies from the mean of all [nat].

    It is minus the log of the chance of a Gaussian observation at that Mahalanobis distance,
    whose square over m - 1 is beta distributed. Where f is large, distances are measured in the
    directions of largest variance, and in what they leave over.

    References:
        Gnanadesikan & Kettenring 1972, Biometrics 28, 81 (distances from the sample's own mean).
    """
    count = len(features)
    scores, rest = _directions(features, max(1, count // ROWS_PER_FEATURE))
    if rest is not None:
        joined = np.column_stack([scores, _standardized(rest)])
        scores = _directions(joined, joined.shape[1])[0]
    number = scores.shape[1]
    if not number or number >= count - 1:
        return np.zeros(count)
    distance = np.clip((scores**2).sum(1) * count / (count - 1), 0.0, 1.0)
    return -np.asarray(stats.beta.logsf(distance, number / 2, (count - 1 - number) / 2))


def _directions(features: Array, most: int) -> tuple[Array, Array | None]:
    """Return scores (m, k) of unit norm along at most so many directions, and what is left over.

    That is the log of the norm (m,); None if nothing is.
    """
    scores, lengths, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    scores = scores[:, lengths > _NO_VARIANCE * lengths[0]]
    lengths = lengths[: scores.shape[1]]
    if len(lengths) <= most:
        return scores, None
    norm = np.linalg.norm(scores[:, most:] * lengths[most:], axis=1)
    return scores[:, :most], np.log(np.maximum(norm, _NO_VARIANCE * lengths[0]))


def _standardized(features: Array) -> Array:
    """Return features (m, ...) with mean 0 and deviation 1, less where they hardly vary."""
    centred = features - features.mean(0)
    scale = np.maximum(centred.std(0), _NO_VARIANCE * np.abs(features).max(0))
    return centred / np.where(scale > 0, scale, 1.0)


def _totals(maps: Array) -> Array:
    """Return the sum (m, C) of every map; its log where all maps of a channel have one."""
    totals = maps.sum((2, 3))
    positive = (totals > 0).all(0)
    return np.where(positive, np.log(np.where(positive, totals, 1.0)), totals)


def map_shapes(maps: Array) -> Array:
    """Return level, centres, spreads and correlation (m, C, 6) of every map.

    Pixels weigh as much as they are above the lowest one of their map; the level is their mean
    height above it. Constant maps have the moments of a flat one.
    """
    weights = maps - maps.min((2, 3), keepdims=True)
    total = weights.sum((2, 3), keepdims=True)
    level = (weights**2).sum((2, 3)) / np.where(total > 0, total, 1.0)[..., 0, 0]
    flat = 1.0 / (maps.shape[2] * maps.shape[3])
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1.0), flat)
    height, width = np.linspace(-1, 1, maps.shape[2]), np.linspace(-1, 1, maps.shape[3])
    rows, columns = weights.sum(3), weights.sum(2)
    centre_h, centre_w = rows @ height, columns @ width
    from_h, from_w = height - centre_h[..., None], width - centre_w[..., None]
    spread_h = np.sqrt((rows * from_h**2).sum(2))
    spread_w = np.sqrt((columns * from_w**2).sum(2))
    product = np.einsum("mchw,mch,mcw->mc", weights, from_h, from_w)
    norm = spread_h * spread_w
    correlation = product / np.where(norm > 0, norm, 1.0)
    return np.stack([level, centre_h, centre_w, spread_h, spread_w, correlation], axis=2)


def _pixels(maps: Array) -> Array:
    """Return square roots of the heights of blocks (m, f), scaled channel by channel.

    Roots of counts vary alike wherever they are, however large. A channel is scaled by the mean
    spread over its blocks.
    """
    blocks = np.sqrt(_blocks(_blocks(maps - maps.min((0, 2, 3), keepdims=True), 2), 3))
    spread = np.sqrt(blocks.var(0).mean((1, 2)))
    return (blocks / np.where(spread > 0, spread, 1.0)[:, None, None]).reshape(len(maps), -1)


def _blocks(maps: Array, axis: int) -> Array:
    size = maps.shape[axis]
    number = min(BLOCKS, size)
    edges = np.linspace(0, size, number, endpoint=False).astype(int)
    lengths = np.diff([*edges, size]).reshape([-1 if a == axis else 1 for a in range(maps.ndim)])
    return np.asarray(np.add.reduceat(maps, edges, axis=axis) / lengths)


def _rank(strange: Array) -> float:
    """Return the part of all that is at least as strange as the first."""
    # in exact arithmetic distances may be equal
    return float((strange >= strange[0] * (1 - 1e-9)).mean())
