"""Refusals that all posteriors share: of observations, points and failed draws."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlpop.datasets.precision import BEYOND, Observations, as_numbers, is_beyond
from mlpop.errors import DataError, MlpopError
from mlpop.inference.prior import Prior


class SamplingError(MlpopError):
    """A posterior cannot be drawn from."""


def checked_x(x: ArrayLike, x_shape: tuple[int, ...]) -> Observations:
    """Return `x` as an array (b, *x_shape) of finite numbers.

    Raises:
        DataError: it is not one.
    """
    values = as_numbers(x)
    if values.shape[1:] != x_shape or values.ndim != len(x_shape) + 1:
        raise DataError(
            f"x must have the shape (b, {', '.join(map(str, x_shape))}), but got {values.shape}"
        )
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values.reshape(len(values), -1)).all(1)))
        raise DataError(f"x holds NaN or infinity, first in observation {row}")
    if is_beyond(np.asarray(x)):
        raise DataError(f"x has {BEYOND}")
    return values


def one_x(x: ArrayLike, x_shape: tuple[int, ...]) -> Observations:
    """Return one `x`, of shape (*x_shape) or (1, *x_shape), as a batch (1, *x_shape).

    Raises:
        DataError: it has another shape.
    """
    values = as_numbers(x)
    if values.shape == (1, *x_shape):
        return values
    if values.shape != x_shape:
        raise DataError(f"one x must have the shape {x_shape}, but got {values.shape}")
    return values[None]


def checked_theta(theta: ArrayLike, count: int, prior: Prior) -> NDArray[np.float64]:
    """Return `theta` as an array (s, count, d) of finite numbers.

    Raises:
        DataError: it is not one.
    """
    points = np.asarray(theta, dtype=np.float64)
    expected = count, prior.dimension
    if points.ndim != 3 or points.shape[1:] != expected or not np.isfinite(points).all():
        raise DataError(
            f"theta must be finite and of shape (s, {expected[0]}, {expected[1]}), but got "
            f"shape {points.shape}"
        )
    return points


def check_drawn(samples: Tensor) -> None:
    """Refuse samples (s, b, d) of observations that could not be drawn for: they are NaN.

    Raises:
        SamplingError: there are such.
    """
    failed = samples.isnan().any(-1).any(0).nonzero()[:, 0].tolist()
    if failed:
        raise SamplingError(
            f"the posterior of observation {failed[0]} ({len(failed)} such of "
            f"{samples.shape[1]}) cannot be drawn from: its draws are no numbers; the observation "
            "is unlike the training data, or the training failed"
        )
