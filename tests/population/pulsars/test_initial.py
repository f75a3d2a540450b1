"""Laws at birth that are given by their quantiles: their distributions, limits and extremes."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import kstest, uniform, weibull_min

from mlpop.config.blocks.population import PopulationConfig
from mlpop.errors import ConfigError
from mlpop.population.constants import LN10
from mlpop.population.pulsars.initial import at_birth, field_at_birth, period_at_birth

N = 100_000
WEIBULL = PopulationConfig.parse({"spin_period_model": "weibull"})
UNIFORM = PopulationConfig.parse({"magnetic_field_model": "log-uniform"})


def drawn(law):
    deviates = np.random.default_rng(3).standard_normal(N).astype(np.float32)
    at_birth(law, deviates)
    return deviates.astype(np.float64)


@pytest.mark.parametrize(("shape", "scale"), [(1.3, 0.124), (0.5, 0.05), (4.0, 1.0)])
def test_periods_follow_the_weibull_distribution(shape, scale):
    theta = {"P_initial_weibull_shape": shape, "P_initial_weibull_scale": scale}
    periods = np.exp(drawn(period_at_birth(WEIBULL.with_theta(theta))))
    assert kstest(periods, weibull_min(shape, scale=scale).cdf).pvalue > 1e-3
    assert kstest(periods, weibull_min(1.1 * shape, scale=scale).cdf).pvalue < 1e-6


def test_the_default_weibull_distribution_peaks_at_40_ms():
    periods = np.linspace(1e-3, 0.3, 100_000)
    shape, scale = WEIBULL.P_initial_weibull_shape, WEIBULL.P_initial_weibull_scale
    density = weibull_min(shape, scale=scale).pdf(periods)
    assert periods[np.argmax(density)] == pytest.approx(0.040, abs=1e-3)


def test_a_shortest_period_cuts_the_weibull_distribution():
    config = WEIBULL.with_override({"P_initial_min": 0.1})
    periods = np.exp(drawn(period_at_birth(config)))
    assert periods.min() >= 0.1
    whole = weibull_min(1.3, scale=0.124)
    below = whole.cdf(0.1)
    cut = kstest(periods, lambda p: np.clip((whole.cdf(p) - below) / (1.0 - below), 0.0, 1.0))
    assert cut.pvalue > 1e-3


def test_fields_are_uniform_in_the_logarithm():
    theta = {"B_initial_log10_min": 12.5, "B_initial_log10_max": 14.0}
    fields = drawn(field_at_birth(UNIFORM.with_theta(theta))) / LN10
    assert kstest(fields, uniform(12.5, 1.5).cdf).pvalue > 1e-3
    assert 12.5 - 1e-5 < fields.min() < 12.51
    assert 13.99 < fields.max() < 14.0 + 1e-5


def test_their_numbers_are_labels():
    WEIBULL.require_sweepable(["P_initial_weibull_shape", "P_initial_weibull_scale"])
    UNIFORM.require_sweepable(["B_initial_log10_min", "B_initial_log10_max"])
    with pytest.raises(ConfigError, match="belongs to spin_period_model weibull"):
        UNIFORM.require_sweepable(["P_initial_weibull_shape"])
    with pytest.raises(ConfigError, match="belongs to magnetic_field_model"):
        WEIBULL.require_sweepable(["B_initial_log10_min"])
    with pytest.raises(ConfigError, match="B_initial_log10_min: must be less than its _max"):
        UNIFORM.with_theta({"B_initial_log10_min": 15.5})


def test_laws_are_quantiles_of_one_normal_deviate():
    """The same star keeps its place among all stars whichever law is chosen."""
    deviates = np.linspace(-4.0, 4.0, 9).astype(np.float32)
    period = deviates.copy()
    at_birth(period_at_birth(WEIBULL), period)
    expected = weibull_min(1.3, scale=0.124).ppf(ndtr(deviates.astype(np.float64)))
    np.testing.assert_allclose(np.exp(period), expected, rtol=2e-4)
