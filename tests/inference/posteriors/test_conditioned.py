import numpy as np
import pytest
import torch
from analytic import gaussian

from mlpop.datasets.scaling import LabelScaling
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.posteriors.conditioned import ConditionedPosterior
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.prior import Prior, in_cube
from mlpop.networks.rng import generator_from_seed, one_thread

X = np.array([0.7, -0.2])


@pytest.fixture(scope="module")
def prior():
    statistics = {
        "a": {"mean": 10.0, "std": 2.0, "min": 0.0, "max": 1.0},
        "b": {"mean": -3.0, "std": 0.5, "min": 0.0, "max": 1.0},
    }
    scaling = LabelScaling("standardize", statistics, ("a", "b"))
    return Prior(("a", "b"), (8.0, -3.5), (12.0, -2.5), scaling)


@pytest.fixture(scope="module", params=["direct", "mcmc"])
def posterior(request, prior, gaussian_member):
    """Two members that the prior cuts differently: both classes have the same exact density."""
    if request.param == "direct":
        members = [gaussian_member(2, 0.7), gaussian_member(2, 0.3, shift=0.5)]
        return EnsemblePosterior(members, prior, (0.3, 0.7))
    # the slopes add 180 and -72 to the potentials of all theta: they must not count
    members = [gaussian(2, 0.7, slope=257.0), gaussian(2, 0.3, shift=-0.5, slope=-103.0)]
    return McmcPosterior(members, prior, (0.3, 0.7), options=McmcOptions(num_chains=80, thin=2))


@pytest.fixture(scope="module")
def conditioned(posterior):
    with one_thread():
        return posterior.at(X, generator_from_seed(0))


def _grid(low, high, points=150):
    edges = [np.linspace(a, b, points + 1) for a, b in zip(low, high, strict=True)]
    centres = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    mesh = np.stack(np.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 2)
    area = np.prod([(b - a) / points for a, b in zip(low, high, strict=True)])
    return mesh, area


def test_density_integrates_to_one_and_is_that_of_the_draws(conditioned, prior):
    generator = generator_from_seed(0)
    assert isinstance(conditioned, ConditionedPosterior)
    mesh, area = _grid(np.zeros(prior.dimension), np.ones(prior.dimension))
    theta = torch.from_numpy(mesh).float()
    density = conditioned.log_prob(theta).double().exp().numpy()
    assert density.sum() * area == pytest.approx(1, abs=0.03)
    draws = conditioned.sample(4000, generator).double().numpy()
    mean = (mesh * density[:, None]).sum(0) / density.sum()
    second = (mesh**2 * density[:, None]).sum(0) / density.sum()
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.015)
    np.testing.assert_allclose((draws**2).mean(0), second, atol=0.015)
    assert (draws[:, 0] > 0.75).mean() == pytest.approx(
        density[mesh[:, 0] > 0.75].sum() / density.sum(), abs=0.03
    )


def test_same_as_the_posterior_in_the_unit_cube(posterior, conditioned, prior):
    physical = prior.sample(50, generator_from_seed(0))
    unit = conditioned.log_prob(prior.to_unit(physical)).double().numpy()
    np.testing.assert_allclose(
        unit + prior.log_prob(physical), posterior.log_prob(physical, X), atol=0.12
    )


def test_outside_the_prior(conditioned, prior):
    outside = torch.tensor([[1.25, 0.5], [0.5, -0.1], [0.5, 0.5]])
    assert conditioned.log_prob(outside)[:2].tolist() == [-np.inf, -np.inf]
    assert torch.isfinite(conditioned.log_prob(outside)[2])
    draws = conditioned.sample(500, generator_from_seed(1))
    assert bool(in_cube(draws).all())
    assert prior.contains(prior.to_physical(draws)).all()


def test_cost_is_told(posterior, conditioned):
    assert conditioned.cheap == isinstance(posterior, EnsemblePosterior)


def test_draws_keep_nothing_for_the_next(conditioned):
    first, other, again = (conditioned.sample(60, generator_from_seed(seed)) for seed in (1, 2, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_map_is_the_densest_point(posterior, prior):
    best = posterior.map(X, generator_from_seed(0))
    mesh, _ = _grid(prior.low, prior.high)
    generator = generator_from_seed(5)
    values = posterior.log_prob(np.vstack([best, mesh]), X, generator=generator)
    assert values[0] >= values[1:].max() - 1e-3


def test_hopeless_observation(gaussian_member):
    prior = Prior(("a",), (-1.0,), (1.0,))
    conditioned = EnsemblePosterior([gaussian_member(1, 0.01)], prior).at(
        [5.0], generator_from_seed(0)
    )
    with pytest.raises(
        SamplingError, match="observation 0 .1 such of 1. cannot be drawn from: its draws are no"
    ):
        conditioned.sample(5, generator_from_seed(0))
