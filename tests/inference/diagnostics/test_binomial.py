"""The band of a fraction of successes: its ends, its mass, and simulated fractions."""

import numpy as np
import pytest
from scipy.stats import binom

from mlpop.inference.diagnostics.binomial import binomial_band


def test_binomial_band_of_ten_fair_coins() -> None:
    """P(X <= 1) = 0.0107 < 0.025 <= P(X <= 2); P(X <= 7) = 0.945 < 0.975 <= P(X <= 8)."""
    low, high = binomial_band([0.5], 10, 0.95)
    assert (low[0], high[0]) == (0.2, 0.8)


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_binomial_band_holds_its_mass(level: float) -> None:
    n, p = 400, np.linspace(0.05, 0.95, 7)
    low, high = binomial_band(p, n, level)
    mass = binom.cdf(np.round(high * n), n, p) - binom.cdf(np.round(low * n) - 1, n, p)
    assert (mass >= level).all()
    assert (mass < level + 0.09).all()


def test_binomial_band_against_simulation() -> None:
    fractions = np.random.default_rng(0).binomial(200, 0.3, 100_000) / 200
    low, high = binomial_band([0.3], 200, 0.68)
    inside = ((fractions >= low) & (fractions <= high)).mean()
    assert 0.68 <= inside < 0.75


def test_binomial_band_against_closed_form():
    low, high = binomial_band([0.0, 0.5, 1.0], 1, 0.5)
    assert (low.tolist(), high.tolist()) == ([0, 0, 1], [0, 1, 1])
    low, high = binomial_band([0.5], 10_000, 0.95)
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * 0.005, rel=0.02)
