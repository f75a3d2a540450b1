"""When a simulation has created enough stars."""

from collections.abc import Mapping

BATCH = 100_000
REDUCED = ((0.9, 10_000), (0.95, 5_000))
"""Fraction of the worst target beyond which the reference implementation takes smaller batches."""


class BatchRule:
    """Batch sizes of the reference implementation.

    Args:
        persist: whether a reduced size stays; otherwise each serves for one batch.
    """

    def __init__(self, *, persist: bool) -> None:
        self._persist = persist
        self._left = list(REDUCED)
        self._size = BATCH

    def size(self, fraction: float) -> int:
        """Return the next batch size, at the smallest fraction of a target reached so far."""
        for place, (threshold, size) in enumerate(self._left):
            if fraction > threshold:
                del self._left[place]
                if self._persist:
                    self._size = size
                return size
        return self._size


def smallest_fraction(detected: Mapping[str, int], targets: Mapping[str, int]) -> float:
    """Return the smallest fraction of a target reached so far; 0 where there is none."""
    return min((detected[group] / target for group, target in targets.items()), default=0.0)
