"""Numbers with as many digits as they need."""

import math
from collections.abc import Mapping

POSTERIOR = "posterior/"
"""What the names of metrics in units of a label begin with."""


def needed_digits(low: float, median: float, high: float, *, least: int = 4) -> int:
    """Return how many significant digits show two of the narrower side of an interval."""
    sides = [side for side in (median - low, high - median) if side > 0 and math.isfinite(side)]
    size = max(abs(low), abs(median), abs(high))
    if not sides or not math.isfinite(size):
        return least
    exponent = math.floor(math.log10(size)) - math.floor(math.log10(min(sides)))
    return min(max(least, exponent + 2), 17)


def interval_texts(low: float, median: float, high: float) -> tuple[str, str, str]:
    """Return the three numbers as text, four digits or as many as their differences need."""
    digits = needed_digits(low, median, high)
    return tuple(f"{value:.{digits}g}" for value in (low, median, high))  # type: ignore[return-value]


def rounded_interval(low: float, median: float, high: float) -> tuple[float, float, float]:
    """Round the three numbers to six digits, or two more than `interval_texts` shows of them."""
    digits = min(needed_digits(low, median, high) + 2, 17)
    return tuple(_rounded(value, digits) for value in (low, median, high))  # type: ignore[return-value]


def rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """Round numbers to six digits; those of a posterior, in physical units, are so already.

    A label may sit on an offset that is larger than its interval by any factor.
    """
    return {
        key: float(value) if key.startswith(POSTERIOR) else _rounded(value)
        for key, value in metrics.items()
    }


def _rounded(value: float, digits: int = 6) -> float:
    return float(f"{float(value):.{digits}g}")
