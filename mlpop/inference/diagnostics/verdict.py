"""The name of what is wrong with a posterior: the cause of its largest significant statistic.

If the truth is distributed as the posterior times (1 + e score), to first order in e the mean of
every statistic is e times its covariance with that score: so the largest statistic is the most
likely cause, and statistics that are correlated with it follow.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mlpop.inference.diagnostics.exchange import ALPHA, ExchangeTest
from mlpop.inference.diagnostics.scores import Cause, Statistic

Fault = Literal[
    "biased",
    "overconfident",
    "underconfident",
    "edge",
    "correlation",
    "tails",
    "locally biased",
    "locally overconfident",
    "locally underconfident",
    "shape",
]
"""What can be wrong."""

VerdictName = Literal[Fault, "calibrated", "too few tests"]
"""Names that the tests of a posterior can give."""

MIN_TESTS = 50
"""Fewer tests cannot tell a useful posterior from a bad one; no verdict is given."""

LARGE_EFFECT = 0.5
"""Where a bias of this many posterior sigmas in some label, or intervals that are too narrow by a
factor of sqrt(1 + sqrt(2) LARGE_EFFECT) = 1.3, cannot be excluded, there are too few tests."""

NEGLIGIBLE_EFFECT = 0.1
"""Significant effects that are surely smaller are no fault: at most a bias of a tenth of a
posterior sigma, or intervals too narrow by a factor of 1.07, too wide by one of 1.08."""

ONE_SIDED, TWO_SIDED = 1.645, 1.96
"""Standard errors within which an effect lies with 95 % confidence."""

_NAMES: Mapping[Cause, tuple[Fault, Fault]] = {
    "bias": ("biased", "biased"),
    "width": ("overconfident", "underconfident"),
    "tails": ("tails", "tails"),
    "correlation": ("correlation", "correlation"),
    "edge": ("edge", "edge"),
    "local bias": ("locally biased", "locally biased"),
    "local width": ("locally overconfident", "locally underconfident"),
    "shape": ("shape", "shape"),
}
"""Cause -> its name where the statistic is above 0, and where it is below."""

FAULTS: Sequence[Fault] = get_args(Fault)


def deciding(test: ExchangeTest) -> int:
    """Return the statistic that names the fault: the largest significant one.

    Those of cause `shape` see every fault, and say of none what it is: they decide only if no
    other one is significant. If none is at all, it is the largest. For large faults the first
    order is not enough: a shift makes squares of ranks larger, and moves products of them, and a
    width the square of the density rank. What such a fault explains is not counted twice. But
    at the edges of the prior a width is a shift: what the width explains is none.
    """
    values, size = test.values, np.abs(test.values)
    causes = np.array([statistic.cause for statistic in test.statistics])
    significant = size >= test.critical
    candidates = significant & (causes != "shape")
    if not candidates.any():
        return int(size.argmax())
    names = list(test.by_name())
    shifts = np.isin(causes, ("bias", "local bias")) & significant
    if "width/all" in names:
        width = names.index("width/all")
        follows = test.correlations[width] * values[width]
        size[shifts] = np.minimum(size, np.abs(values - follows))[shifts]
        if "tails/all" in names:
            tails = names.index("tails/all")
            explained = values[width] ** 2 / np.sqrt(2 * test.numbers[width])
            size[tails] = abs(values[tails] - explained)
    if shifts.any():
        squares = np.isin(causes, ("width", "tails")) | np.char.startswith(names, "x_o width")
        moved = np.isin(causes, ("correlation", "local width"))
        explainable = np.where(squares, values > 0, moved)
        size[explainable & (size < 2 * size[shifts].max())] = 0
    return int(np.where(candidates, size, -1.0).argmax())


def fault(test: ExchangeTest) -> Fault | None:
    """Return the name of what is wrong; None if no statistic is significant."""
    if test.p_value > ALPHA:
        return None
    place = deciding(test)
    statistic, value = test.statistics[place], test.values[place]
    if statistic.name.startswith("width slope"):
        # too narrow at one end and too wide at the other: which is it near x_o?
        value = test.by_name().get("x_o width/all", abs(value))
    return _NAMES[statistic.cause][0 if value > 0 else 1]


def is_negligible(test: ExchangeTest) -> bool:
    """Tell whether all significant effects are surely below `NEGLIGIBLE_EFFECT`."""
    upper = np.abs(test.effects) + TWO_SIDED / np.sqrt(test.numbers)
    significant = np.abs(test.values) >= test.critical
    return bool((upper[significant] < NEGLIGIBLE_EFFECT).all())


def may_be_large(test: ExchangeTest) -> list[Statistic]:
    """Return the biases and widths that may be above `LARGE_EFFECT` for all that is known."""
    upper: NDArray[np.float64] = np.abs(test.effects) + ONE_SIDED / np.sqrt(test.numbers)
    return [
        statistic
        for statistic, value in zip(test.statistics, upper, strict=True)
        if statistic.cause in ("bias", "width") and value > LARGE_EFFECT
    ]


def verdict_name(test: ExchangeTest, num_ok: int) -> VerdictName:
    """Return the verdict on a posterior.

    Args:
        test: of all tests, failed ones among them.
        num_ok: tests that did not fail.
    """
    found = fault(test)
    if num_ok < MIN_TESTS:
        return "too few tests"
    if found is not None and not is_negligible(test):
        return found
    return "too few tests" if may_be_large(test) else "calibrated"
