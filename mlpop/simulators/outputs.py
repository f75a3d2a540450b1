"""What a simulator returned, as one array of numbers a channel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.errors import DataError


def by_channel(x: Mapping[str, NDArray] | NDArray, channels: Sequence[str]) -> dict[str, NDArray]:
    """Array by channel of an x that is that already, or whose first axis runs over the channels.

    Raises:
        DataError: channels are missing or their number differs.
    """
    if isinstance(x, Mapping):
        missing = [channel for channel in channels if channel not in x]
        if missing:
            raise DataError(f"the simulator left out the channels {', '.join(missing)}")
        return {channel: _numbers(x[channel], channel) for channel in channels}
    x = np.asanyarray(x)
    if x.ndim == 0 or len(x) != len(channels):
        raise DataError(
            f"the simulator returned an array of shape {x.shape} for {len(channels)} channels"
        )
    return {channel: _numbers(x[k], channel) for k, channel in enumerate(channels)}


def _numbers(values: Any, channel: str) -> NDArray:
    """Return a channel as a plain array; what is masked in it is no number."""
    array = np.ma.asanyarray(values) if np.ma.isMA(values) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"channel {channel} must hold real numbers, found an array of type {array.dtype}"
        )
    if isinstance(array, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(array)
        plain = np.array(array.data, copy=True)
        return np.where(masked, np.nan, plain) if masked.any() else plain
    return array
