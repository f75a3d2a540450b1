"""Densities and modes in physical units, where the prior is not flat: against their formulas."""

import numpy as np
import pytest
import torch
from analytic import Analytic
from sbi.neural_nets.estimators import ConditionalDensityEstimator
from scipy import stats
from torch import nn

from mlpop.config.blocks.prior import DistributionConfig
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

LOC, SCALE, NOISE = 3.0, 2.0, 1.5
NORMAL = DistributionConfig.parse({"type": "normal", "args": {"loc": LOC, "scale": SCALE}})
PRIOR = Prior(("a",), (np.nan,), (np.nan,), None, {"a": NORMAL})
OPTIONS = McmcOptions(num_chains=60, thin=2)


class NormalPosterior(ConditionalDensityEstimator):
    """The posterior of x = theta + N(0, NOISE) under the normal prior, across the unit cube."""

    def __init__(self):
        super().__init__(nn.Identity(), torch.Size([1]), torch.Size([1]))
        self.spread = (1 + (SCALE / NOISE) ** 2) ** -0.5

    def _of_z(self, condition):
        return torch.distributions.Normal(
            self.spread**2 * (condition - LOC) * SCALE / NOISE**2, self.spread
        )

    def log_prob(self, input, condition, **kwargs):
        z = probit(input)
        of_prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)
        return (self._of_z(condition).log_prob(z) - of_prior).sum(-1)

    def loss(self, input, condition, **kwargs):
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape, condition, **kwargs):
        return torch.special.ndtr(self._of_z(condition).sample(sample_shape))


def _log_likelihood(theta, x):
    return -0.5 * ((theta - x) / NOISE).square().sum(-1)


@pytest.fixture(scope="module", params=["direct", "mcmc"])
def posterior(request):
    if request.param == "direct":
        shape = torch.Size([1])
        return EnsemblePosterior([EmbedOnce(NormalPosterior(), nn.Flatten(), shape, shape)], PRIOR)

    def log_likelihood(places, x):
        return _log_likelihood(LOC + SCALE * probit((places + 1) / 2), x)

    return McmcPosterior([Analytic(log_likelihood, 1)], PRIOR, options=OPTIONS)


def _exact(x):
    precision = SCALE**-2 + NOISE**-2
    return stats.norm((LOC / SCALE**2 + x / NOISE**2) / precision, precision**-0.5)


@pytest.mark.parametrize("x", [4.0, -3.0])
def test_a_normal_prior_and_normal_noise_give_a_normal_posterior(posterior, x):
    exact = _exact(x)
    theta = exact.ppf([0.001, 0.1, 0.5, 0.8, 0.999])[:, None]
    np.testing.assert_allclose(
        posterior.log_prob(theta, [x]), exact.logpdf(theta[:, 0]), atol=0.06
    )
    draws = posterior.sample(2000, [x], generator_from_seed(0))[:, 0]
    assert stats.kstest(draws, exact.cdf).pvalue > 0.005


@pytest.mark.parametrize("x", [4.0, -3.0])
def test_map_is_the_mode_in_physical_units(posterior, x):
    """The densest point of the unit cube is that of the likelihood: x itself."""
    best = posterior.map([x], generator_from_seed(0))
    exact = _exact(x)
    assert abs(exact.mean() - x) > 0.25 * exact.std()
    np.testing.assert_allclose(best, [exact.mean()], atol=0.02 * exact.std())


def test_map_of_labels_with_different_priors():
    """Uniform, normal and log-uniform: each has the mode of its own product with the noise."""
    wide = DistributionConfig.parse({"type": "log_uniform"})
    prior = Prior(
        ("flat", "a", "wide"),
        (0.0, np.nan, 1.0),
        (8.0, np.nan, 10.0),
        None,
        {"a": NORMAL, "wide": wide},
    )

    def log_likelihood(places, x):
        flat, free, log = ((places + 1) / 2).unbind(-1)
        theta = [8 * flat, LOC + SCALE * probit(free), 10**log]
        return _log_likelihood(torch.stack(theta, -1), x)

    posterior = McmcPosterior([Analytic(log_likelihood, 3)], prior, options=OPTIONS)
    best = posterior.map([5.0, 4.0, 4.0], generator_from_seed(0))
    # of -(t - x)^2 / (2 n^2) - log t, which is higher here than at the lower edge
    log_uniform = (4 + (16 - 4 * NOISE**2) ** 0.5) / 2
    np.testing.assert_allclose(best, [5.0, _exact(4.0).mean(), log_uniform], atol=0.05)
