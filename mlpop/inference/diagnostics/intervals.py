"""What the central 95 % interval of a label holds, near x_o too, and the one that holds 95 %.

References:
    Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world" (conformal intervals)
    Guan 2023, https://doi.org/10.1093/biomet/asac040 (conformal intervals by near tests)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from mlpop.inference.diagnostics.near import effective_number

LEVEL = 0.95


@dataclass(frozen=True)
class IntervalCheck:
    """How the intervals of one label did on the tests.

    Attributes:
        bias: mean place of the truth in the posterior, in posterior sigmas; below 0 the truth
            lies lower than the posterior.
        bias_error: half width of its 95 % confidence interval.
        width: factor by which intervals should be wider to hold what they claim.
        width_error: half width of its 95 % confidence interval.
        held: fraction of all tests whose truth lies in the central 95 % interval.
        held_band: 95 % confidence interval of that.
        held_near: the same of tests whose posterior is near that of x_o; None without x_o.
        held_near_band: likewise.
        near_tests: effective number of tests near x_o.
        conformal_level: of the central interval that holds the truth in 95 % of the tests, and of
            those near x_o; 1 is the whole prior.
        conformal: (low, high) of that interval at x_o, scaled units; None without x_o.
    """

    bias: float
    bias_error: float
    width: float
    width_error: float
    held: float
    held_band: tuple[float, float]
    held_near: float | None
    held_near_band: tuple[float, float] | None
    near_tests: float | None
    conformal_level: float
    conformal: tuple[float, float] | None


CONFORMAL_TESTS = 40.0
"""Weight of tests that a conformal interval near x_o rests on: x_o itself, of weight 1, is then
half of the 5 % that the interval may miss."""


def check_intervals(
    ranks: NDArray[np.int64],
    num_samples: int,
    success: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
    observed: NDArray[np.floating] | None,
    prior: tuple[float, float],
) -> IntervalCheck:
    """Check the intervals of one label. A failed test is a miss.

    Args:
        ranks: (n,) draws below the truth, 0 to `num_samples`.
        num_samples: draws a test.
        success: (n,) whether the posterior could be drawn from; at least one.
        weights: (n,) near x_o, at most about 1; None without x_o.
        observed: (s,) draws of the posterior at x_o; None without x_o.
        prior: the ends of its range.
    """
    place = (ranks[success] + 0.5) / (num_samples + 1)
    sigmas = special.ndtri(place)
    number = len(sigmas)
    width = float(np.sqrt((sigmas**2).mean()))
    # how wide a central interval must be to reach the truth: failed tests are never reached
    needed = np.where(success, np.abs(2 * ranks / num_samples - 1), 1.0)
    held = np.where(needed <= LEVEL, 1.0, 0.0)
    equal = np.ones(len(needed))
    level = conformal_level(needed, equal)
    near = near_band = near_tests = None
    if weights is not None:
        near = float(weights @ held / weights.sum())
        near_tests = effective_number(weights)
        near_band = confidence_band(near, near_tests)
        level = max(level, conformal_level(needed, heavy_enough(weights / weights.max())))
    everywhere = float(held.mean())
    return IntervalCheck(
        bias=float(sigmas.mean()),
        bias_error=1.96 * width / number**0.5,
        width=width,
        width_error=1.96 * width / (2 * number) ** 0.5,
        held=everywhere,
        held_band=confidence_band(everywhere, len(needed)),
        held_near=near,
        held_near_band=near_band,
        near_tests=near_tests,
        conformal_level=level,
        conformal=None if observed is None else central_interval(observed, level, prior),
    )


def conformal_level(needed: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the credibility with which intervals hold the truth of a new test in 95 % of cases.

    With equal weights this is so whatever the posteriors are like, if the new one is drawn like
    the tests. The new one has weight 1, and may need the whole prior.

    Args:
        needed: (n,) least credibility of the central interval that holds each truth.
        weights: (n,) of the tests; 1 for one that is like the new one.

    Returns:
        A credibility; 1, the whole prior, where there are too few tests.
    """
    order = np.argsort(needed, kind="stable")
    reached = weights[order].cumsum() / (weights.sum() + 1)
    enough = np.flatnonzero(reached >= LEVEL - 1e-12)
    return float(needed[order[enough[0]]]) if len(enough) else 1.0


def heavy_enough(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights (n,) at most 1, those of far tests raised until all weigh as much as needed.

    A few tests near x_o weigh too little against x_o itself, which then might need the whole
    prior; how many there are says nothing of the posterior.
    """
    missing = CONFORMAL_TESTS - weights.sum()
    lacking = (1.0 - weights).sum()
    if missing <= 0 or lacking <= 0:
        return weights
    share = min(missing / lacking, 1.0)
    raised: NDArray[np.float64] = weights + share * (1.0 - weights)
    return raised


def central_interval(
    draws: NDArray[np.floating], level: float, prior: tuple[float, float]
) -> tuple[float, float]:
    """Return the central interval of draws (s,), rounded outward; the whole prior at level 1."""
    if level >= 1:
        return prior
    tail = (1 - level) / 2
    low = float(np.quantile(draws, tail, method="lower"))
    return low, float(np.quantile(draws, 1 - tail, method="higher"))


def confidence_band(fraction: float, number: float) -> tuple[float, float]:
    """Return the 95 % confidence interval of a fraction of `number` tests (Clopper-Pearson).

    Weighted tests count as their effective number.
    """
    hits, misses = fraction * number, (1 - fraction) * number
    low = float(stats.beta.ppf(0.025, hits, misses + 1)) if hits > 1e-9 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, misses)) if misses > 1e-9 else 1.0
    return low, high
