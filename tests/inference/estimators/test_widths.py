"""Densities made wider or narrower: still densities, and their draws follow them."""

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.config.methods import DENSITIES
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed, lend

SIZES = {"hidden_features": 16, "num_components": 3, "num_transforms": 2, "num_bins": 5}
X = torch.tensor([[0.1, -0.3]])


def estimator_of(model: str, domain: list[list[float]] | None = None):
    """Return a density of one label with random weights."""
    spec = EstimatorSpec.parse(
        SIZES | {"model": model, "x_shape": [2], "dimension": 1, "domain": domain}
    )
    generator = generator_from_seed(2)
    theta = 0.3 + 0.4 * torch.rand(60, 1, generator=generator)
    x = torch.randn(60, 2, generator=generator)
    return build_estimator(spec, theta, x, generator).eval()


def draws_of(estimator, count: int = 4000) -> torch.Tensor:
    with lend(generator_from_seed(1)), torch.no_grad():
        return estimator.sample(torch.Size((count,)), X)[:, 0, 0]


@pytest.mark.parametrize("domain", [None, [[0.2, 0.9]]])
@pytest.mark.parametrize("width_factor", [0.6, 1.25])
@pytest.mark.parametrize("model", DENSITIES)
def test_draws_follow_the_density(model, width_factor, domain):
    estimator = estimator_of(model, domain)
    estimator.widen(width_factor)
    low, high = (0.0, 1.0) if domain is None else domain[0]
    # nodes crowd at the edges, where a density may rise without end
    v = stats.norm.cdf(np.linspace(-5, 5, 4001))
    nodes = torch.from_numpy(low + (high - low) * v).float()
    with torch.no_grad():
        density = estimator.log_prob(nodes.view(-1, 1, 1), X)[:, 0].double().exp().numpy()
    steps = np.diff(nodes.double().numpy())
    below = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * steps)])
    assert below[-1] == pytest.approx(1, abs=0.01)
    draws = draws_of(estimator).double().numpy()
    found = stats.kstest(draws, lambda u: np.interp(u, nodes, below / below[-1]))
    assert found.pvalue > 1e-3


@pytest.mark.parametrize("model", [model for model in DENSITIES if model != "mdn"])
def test_the_base_of_a_flow_is_so_many_times_as_wide(model):
    estimator = estimator_of(model)
    trained = probit(draws_of(estimator))
    estimator.widen(1.3)
    wider = probit(draws_of(estimator))
    if model in ("maf", "zuko_nice", "zuko_maf"):  # one label: a Gaussian, whatever the weights
        assert float(wider.std() / trained.std()) == pytest.approx(1.3, rel=1e-3)
    assert float(wider.std()) > 1.05 * float(trained.std())
    estimator.widen(1.0)
    assert torch.equal(probit(draws_of(estimator)), trained)


def test_components_of_a_mixture_are_so_many_times_as_wide():
    estimator = estimator_of("mdn")
    mixture = estimator.net
    with torch.no_grad():
        for value in mixture.net.parameters():
            value.zero_()
        raw = float(np.log(np.expm1(0.1)))
        mixture.first.copy_(torch.tensor([[0.0] * 3, [0.4] * 3, [raw] * 3])[None])
    estimator.widen(1.5)
    exact = stats.truncnorm(-0.4 / 0.15, 0.6 / 0.15, 0.4, 0.15)
    u = torch.linspace(0.05, 0.95, 19)
    with torch.no_grad():
        found = estimator.log_prob(u.view(-1, 1, 1), X)[:, 0]
    expected = torch.from_numpy(exact.logpdf(u.double().numpy())).float()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_network_is_stored_as_it_was_trained():
    estimator, other = estimator_of("maf"), estimator_of("maf")
    estimator.widen(2.0)
    assert all(
        torch.equal(value, other.state_dict()[name])
        for name, value in estimator.state_dict().items()
    )
