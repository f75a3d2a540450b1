"""Numbers with as many digits as they need."""

import math
from collections.abc import Mapping

POSTERIOR = "posterior/"
"""What the names of metrics in units of a label begin with."""

MOST_DECIMALS = 6
"""More decimals are written with a power of ten."""

LARGE = 1e4
"""Intervals with larger sides are written with a power of ten."""


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


def plain_texts(low: float, median: float, high: float) -> tuple[str, str, str]:
    """Write the three numbers with two digits of the narrower side, or with powers of ten."""
    if takes_powers(low, median, high):
        return interval_texts(low, median, high)
    digits = decimals(low, median, high)
    return f"{low:.{digits}f}", f"{median:.{digits}f}", f"{high:.{digits}f}"


def decimals(low: float, median: float, high: float) -> int:
    """Return how many decimals show two digits of the narrower side of an interval."""
    smallest = min(width for width in (median - low, high - median, math.inf) if width > 0)
    if not math.isfinite(smallest):
        return 2
    return min(max(1 - math.floor(math.log10(smallest)), 0), 300)


def takes_powers(low: float, median: float, high: float) -> bool:
    """Whether an interval is written with powers of ten: it is very small or very wide."""
    size = max(abs(low), abs(median), abs(high))
    if not math.isfinite(size):
        return False
    small = 0 < size < 1e-3 and decimals(low, median, high) > MOST_DECIMALS
    sides = [side for side in (median - low, high - median) if side > 0]
    return small or min(sides, default=0.0) >= LARGE


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
