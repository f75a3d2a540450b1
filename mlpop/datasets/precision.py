"""Numbers of x that float32 cannot tell apart: kept in double precision, in units of their own.

Networks see float32. A quantity that sits on an offset (a date, a frequency in Hz) loses its
differences there, and squares of very small or very large numbers leave its range. Such x stay
float64 until `InputUnits` has scaled them; all others are float32 from the start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import DataError
from mlpop.io.scratch import blocks

Observations = NDArray[np.floating[Any]]
"""x, float32 or, where that loses them, float64."""

MOST = float(np.finfo(np.float32).max)
"""The largest number that may be in x; float32 holds none above it."""

MOST_WHOLE = 2**53
"""The largest whole number that may be in x; double precision does not tell larger ones apart."""

BEYOND = (
    f"values beyond {MOST:.2g}, or whole numbers beyond {MOST_WHOLE:.2g}; give them in other "
    "units, or their logarithm"
)
"""What messages say of larger ones."""

_LARGE, _SMALL = 1e15, 1e-15
"""Spreads and sizes outside of these leave float32 when they are squared."""
_LOST = 1e-3
"""Rounding to float32 may be this part of a standard deviation."""
_FLAT = 1e-3
"""A spread of most values below this part of the standard deviation hardly shows."""
_CENTRAL = ((1.0, 99.0), (10.0, 90.0), (25.0, 75.0))
"""Where nearly all, most and half of the values lie [percent]."""


def as_numbers(values: ArrayLike) -> Observations:
    """Return an array as float32 where it is of that precision or less, else as float64."""
    array = np.asarray(values)
    kept = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
    return np.asarray(array, dtype=kept)


def is_beyond(values: NDArray) -> bool:
    """Whether a finite number is among `values` that is larger than x may be."""
    if values.dtype.kind in "iu":
        return bool(np.any((values > MOST_WHOLE) | (values < -MOST_WHOLE)))
    with np.errstate(invalid="ignore"):
        return bool(np.any(np.isfinite(values) & (np.abs(values) > MOST)))


def float32_holds(values: NDArray, axes: tuple[int, ...]) -> bool:
    """Whether float32 tells apart what varies along `axes` of finite `values`."""
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        return True
    if np.abs(values).max() > _LARGE:
        return False
    lost = np.abs(values - values.astype(np.float32)).max(axes)
    spread = values.std(axes)
    constant = values.max(axes) == values.min(axes)
    return bool(np.all(constant | ((spread > _SMALL) & (lost <= _LOST * spread))))


def narrowed(table: NDArray[np.float64]) -> Observations:
    """Return a table (N, C) of finite numbers as float32 if that holds all its columns."""
    return table.astype(np.float32) if float32_holds(table, (0,)) else table


@dataclass(frozen=True)
class InputUnits:
    """Units in which float32 holds every channel: `(x - shift) / scale`, in double precision.

    Attributes:
        shift: C means over the training set.
        scale: C standard deviations; of a channel that never varies its size, or 1.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, x: Observations) -> "InputUnits":
        """Measure the units of x (N, C, ...)."""
        shift, scale = [], []
        for channel in np.moveaxis(x, 1, 0):
            values = channel.astype(np.float64)
            size = float(np.abs(values).max()) or 1.0
            relative = values / size
            constant = values.max() == values.min()
            shift.append(float(values.flat[0] if constant else relative.mean() * size))
            scale.append(size if constant else float((relative - shift[-1] / size).std() * size))
        return cls(tuple(shift), tuple(scale))

    def __call__(self, x: Observations) -> NDArray[np.float64]:
        """Return x (b, C, ...) in these units."""
        if x.ndim < 2 or x.shape[1] != len(self.shift):
            raise DataError(f"expected x of {len(self.shift)} channels, found shape {x.shape}")
        shape = (-1, *(1 for _ in x.shape[2:]))
        shift, scale = (np.reshape(values, shape) for values in (self.shift, self.scale))
        return (np.asarray(x, dtype=np.float64) - shift) / scale

    def to_dict(self) -> dict[str, list[float]]:
        """Plain JSON values from which `from_dict` builds the same."""
        return {"shift": list(self.shift), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputUnits":
        """Undo `to_dict`.

        Raises:
            DataError: numbers are missing, not finite, or a scale is not positive.
        """
        try:
            shift, scale = (tuple(map(float, values[name])) for name in ("shift", "scale"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"broken units of x {values}: {error!r}") from None
        good = len(shift) == len(scale) and np.isfinite(shift).all() and np.isfinite(scale).all()
        if not good or min(scale, default=1.0) <= 0:
            raise DataError(f"broken units of x {values}")
        return cls(shift, scale)


def poor_channels(x: Observations, channels: Sequence[str]) -> dict[str, str]:
    """Return channel -> what is wrong with it, of those in x (N, C, ...) that show nothing."""
    found: dict[str, str] = {}
    low_of, high_of = _extremes(x)
    for c, (name, channel) in enumerate(zip(channels, np.moveaxis(x, 1, 0), strict=True)):
        if low_of[c] == high_of[c]:
            found[name] = f"is {low_of[c]:g} in all {len(x)} simulations"
        elif x.ndim == 2 and (text := _outliers(channel.astype(np.float64))):
            found[name] = text
    return found


def _outliers(values: NDArray[np.float64]) -> str:
    """Return what is wrong with numbers (n,) of which a few are much larger; empty if none are."""
    for percentages in _CENTRAL:
        low, high = np.percentile(values, percentages)
        # a channel that is mostly one number, a rare count for example, is no outlier's
        if low < high and high - low < _FLAT * values.std():
            outside = int(np.count_nonzero((values < low) | (values > high)))
            return (
                f"lies between {low:.6g} and {high:.6g} but for {outside} of {len(values)} "
                f"simulations, which reach from {values.min():.3g} to {values.max():.3g}: "
                "networks that scale it by its standard deviation hardly see it vary; "
                "give its logarithm, or other units"
            )
    return ""


def _extremes(x: Observations) -> tuple[NDArray, NDArray]:
    """Return the lowest and the highest number of every channel of x (N, C, ...), (C,) each."""
    axes = (0, *range(2, x.ndim))
    low = np.full(x.shape[1], np.inf, x.dtype)
    high = -low
    for rows in blocks(x):
        np.minimum(low, x[rows].min(axes), out=low)
        np.maximum(high, x[rows].max(axes), out=high)
    return low, high
