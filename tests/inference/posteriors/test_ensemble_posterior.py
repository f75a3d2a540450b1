import gc

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.config.blocks.training import TrainingOptions
from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.posteriors import sampling
from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.posteriors.sampling import sample_density
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed
from mlpop.training.fit import fit, validation_split


def _grid(low, high, points=201):
    edges = [np.linspace(a, b, points + 1) for a, b in zip(low, high, strict=True)]
    centres = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    mesh = np.stack(np.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 2)
    area = np.prod([(b - a) / points for a, b in zip(low, high, strict=True)])
    return mesh, area


@pytest.fixture(scope="module")
def scaled_prior():
    statistics = {
        "a": {"mean": 10.0, "std": 2.0, "min": 0.0, "max": 1.0},
        "b": {"mean": -3.0, "std": 0.5, "min": 0.0, "max": 1.0},
    }
    scaling = LabelScaling("standardize", statistics, ("a", "b"))
    return Prior(("a", "b"), (8.0, -3.5), (12.0, -2.5), scaling)


def test_log_prob_integrates_to_one_over_the_prior(gaussian_member, scaled_prior):
    """Two members that the prior cuts differently, in physical units."""
    members = [gaussian_member(2, 0.7), gaussian_member(2, 0.3, shift=0.5)]
    posterior = EnsemblePosterior(members, scaled_prior, (0.3, 0.7))
    mesh, area = _grid(scaled_prior.low, scaled_prior.high)
    for x in ([0.0, 0.0], [0.9, -0.8]):
        density = np.exp(posterior.log_prob(mesh, x))
        assert density.sum() * area == pytest.approx(1, abs=0.001)
    outside = posterior.log_prob([[7.9, -3.0], [10.0, -2.4]], [0.0, 0.0])
    assert (outside == -np.inf).all()


@pytest.mark.parametrize("model", ["mdn", "nsf"])
def test_neural_log_prob_integrates_to_one(small_estimator, model):
    estimators = [small_estimator(model, seed=j) for j in range(2)]
    prior = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))
    posterior = EnsemblePosterior([built[0] for built in estimators], prior)
    # nodes crowd at the edges, where a density may rise without end, and its mass does not
    z, step = np.linspace(-5.2, 5.2, 201, retstep=True)
    nodes = np.stack(np.meshgrid(z, z), -1).reshape(-1, 2)
    area = (stats.norm.pdf(nodes) * step * [2.0, 4.0]).prod(1)
    mesh = prior.quantiles(stats.norm.cdf(nodes))
    density = np.exp(posterior.log_prob(mesh, estimators[0][3][0]))
    assert (density * area).sum() == pytest.approx(1, abs=0.01)


def test_samples_follow_log_prob(gaussian_member, scaled_prior):
    members = [gaussian_member(2, 0.7), gaussian_member(2, 0.2, shift=0.6)]
    posterior = EnsemblePosterior(members, scaled_prior, (0.5, 0.5))
    x = [0.3, 0.4]
    draws = posterior.sample(40_000, x, generator_from_seed(1))
    assert (draws >= scaled_prior.low).all()
    assert (draws < scaled_prior.high).all()
    mesh, area = _grid(scaled_prior.low, scaled_prior.high, 8 * 25)
    density = np.exp(posterior.log_prob(mesh, x)) * area
    expected = density.reshape(8, 25, 8, 25).sum((1, 3))
    counts, _, _ = np.histogram2d(
        *draws.T, bins=8, range=list(zip(scaled_prior.low, scaled_prior.high, strict=True))
    )
    keep = expected * len(draws) > 10
    chi_square = ((counts - expected * len(draws)) ** 2 / (expected * len(draws)))[keep].sum()
    assert keep.sum() > 30
    assert stats.chi2.sf(chi_square, keep.sum() - 1) > 1e-3


def test_samples_are_shuffled_over_members(gaussian_member):
    prior = Prior(("a",), (-10.0,), (10.0,))
    members = [gaussian_member(1, 0.01, shift=-0.1), gaussian_member(1, 0.01, shift=0.1)]
    draws = EnsemblePosterior(members, prior).sample(2000, [0.0], generator_from_seed(0))[:, 0]
    right = draws > 0
    assert right.mean() == pytest.approx(0.5, abs=0.05)
    changes = (right[1:] != right[:-1]).mean()
    assert changes == pytest.approx(0.5, abs=0.05)


def test_members_are_chosen_anew_for_every_observation(gaussian_member):
    prior = Prior(("a",), (-10.0,), (10.0,))
    members = [gaussian_member(1, 0.01, shift=-0.1), gaussian_member(1, 0.01, shift=0.1)]
    posterior = EnsemblePosterior(members, prior, (0.2, 0.8))
    draws = posterior.sample_batched(1, np.zeros((2000, 1)), generator_from_seed(0))[0, :, 0]
    assert (draws > 0).mean() == pytest.approx(0.8, abs=0.03)


def test_draws_of_many_observations_keep_apart(gaussian_member, monkeypatch):
    """Lots of one and of many observations, of some and of all draws: each has its own centre."""
    member, centres = gaussian_member(2, 0.01), torch.linspace(-0.9, 0.9, 10).repeat(2, 1).T
    for rows in (7, 60, 100_000):
        monkeypatch.setattr(sampling, "ROWS", rows)
        draws = sample_density(member, centres, 20, generator_from_seed(0))
        assert draws.shape == (20, 10, 2)
        assert float((2 * draws - 1 - centres).abs().max()) < 0.06
        assert len(torch.unique(draws.view(-1, 2), dim=0)) == 200


@pytest.mark.parametrize("model", ["zuko_nsf", "zuko_maf", "nsf", "mdn"])
def test_draws_leave_no_garbage(small_estimator, model):
    """Tensors that only the collector finds hold gigabytes before it looks for them."""
    estimator, _, _, x = small_estimator(model)

    def tensors():
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    sample_density(estimator, estimator.embed(x[:4]), 20, generator_from_seed(0))
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        sample_density(estimator, estimator.embed(x[:4]), 20, generator_from_seed(0))
        assert tensors() == before
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_same_seed_same_bits_and_no_memory_between_calls(small_estimator):
    estimator, _, _, x = small_estimator("maf")
    posterior = EnsemblePosterior([estimator], Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0)))
    state = torch.get_rng_state()
    first = posterior.sample(100, x[0], generator_from_seed(1))
    reference = posterior.log_prob(first, x[0])
    posterior.sample(10, x[1], generator_from_seed(2))
    posterior.log_prob(first, x[1])
    assert np.array_equal(posterior.sample(100, x[0], generator_from_seed(1)), first)
    assert np.array_equal(posterior.log_prob(first, x[0]), reference)
    assert not np.array_equal(posterior.sample(100, x[0], generator_from_seed(2)), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("centre", [[0.0, 0.0], [1.0, 1.0], [1.5, 0.0], [1.8, 1.6]])
def test_a_posterior_beyond_an_edge_piles_up_there(gaussian_member, centre):
    """Most of the likelihood is outside the prior: draws and density are the cut normal's."""
    prior = Prior(("a", "b"), (-1.0, -1.0), (1.0, 1.0))
    posterior = EnsemblePosterior([gaussian_member(2, 0.5)], prior)
    draws = posterior.sample(3000, centre, generator_from_seed(0))
    assert prior.contains(draws).all()
    low, high = (-1 - np.array(centre)) / 0.5, (1 - np.array(centre)) / 0.5
    truth = stats.truncnorm(low, high, loc=centre, scale=0.5)
    np.testing.assert_allclose(draws.mean(0), truth.mean(), atol=0.03)
    np.testing.assert_allclose(draws.std(0), truth.std(), atol=0.03)
    theta = [[1.0, 1.0], [0.9, -1.0], [-0.3, 0.2]]
    np.testing.assert_allclose(
        posterior.log_prob(theta, centre), truth.logpdf(theta).sum(1), atol=1e-4
    )


def test_hopeless_observation_is_an_error_not_a_loop(gaussian_member):
    prior = Prior(("a",), (-1.0,), (1.0,))
    posterior = EnsemblePosterior([gaussian_member(1, 0.01)], prior)
    with pytest.raises(SamplingError, match=r"observation 1 \(1 such of 2\)"):
        posterior.sample_batched(10, [[0.0], [5.0]], generator_from_seed(0))
    assert np.isfinite(posterior.log_prob([[0.5]], [5.0])).all()


@pytest.mark.parametrize("model", ["mdn", "maf"])
def test_recovers_the_exact_gaussian_posterior(gaussian_problem, model):
    prior, theta, x = gaussian_problem
    spec = EstimatorSpec.parse(
        {
            "model": model,
            "hidden_features": 24,
            "num_components": 5,
            "num_transforms": 3,
            "z_score_x": "independent",
            "x_shape": [2],
            "dimension": 2,
        }
    )
    unit, data = prior.to_unit(theta), torch.from_numpy(x)
    generator = generator_from_seed(3)
    members = []
    for seed in (1, 2):
        estimator = build_estimator(spec, unit, data, generator_from_seed(seed))
        fit(
            estimator,
            unit,
            data,
            validation=validation_split(len(theta), 0.1, generator_from_seed(0)),
            generator=generator,
            options=TrainingOptions(batch_size=100, lr=3e-3, max_num_epochs=40),
        )
        members.append(estimator)
    posterior = EnsemblePosterior(members, prior)
    observations = np.array([[0.0, 0.0], [0.5, -0.4], [0.9, 0.2]])
    draws = posterior.sample_batched(5000, observations, generator)
    for column, centre in enumerate(observations):
        exact = stats.truncnorm((-1 - centre) / 0.3, (1 - centre) / 0.3, loc=centre, scale=0.3)
        np.testing.assert_allclose(draws[:, column].mean(0), exact.mean(), atol=0.07)
        np.testing.assert_allclose(draws[:, column].std(0), exact.std(), rtol=0.2)
        assert abs(np.corrcoef(draws[:, column].T)[0, 1]) < 0.25


def test_map_is_the_densest_point(gaussian_member, scaled_prior):
    posterior = EnsemblePosterior([gaussian_member(2, 0.3)], scaled_prior)
    best = posterior.map([0.4, -0.5], generator_from_seed(0))
    np.testing.assert_allclose(best, [10.8, -3.25], atol=0.02)


def test_maps_are_scaled_before_the_networks_see_them(small_estimator):
    changes = {
        "x_shape": (1, 8, 8),
        "embedding": {
            "type": "ModelConvSBIshallow",
            "args": {"input_shape": [1, 8, 8], "len_output_layer": 4},
        },
    }
    spec = EstimatorSpec.parse(
        {"hidden_features": 8, "num_components": 2, "dimension": 1} | changes
    )
    generator = generator_from_seed(0)
    x = torch.rand(20, 1, 8, 8, generator=generator)
    estimator = build_estimator(spec, torch.rand(20, 1, generator=generator), x, generator)
    prior = Prior(("a",), (-1.0,), (1.0,))
    posterior = EnsemblePosterior([estimator], prior, preprocessing=Preprocessing("standardize"))
    maps = x.numpy()
    torch.testing.assert_close(
        posterior.embed(maps)[0], posterior.embed(7 * maps + 3)[0], rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(posterior.embed(maps)[0], posterior.embed(maps[:, :, ::-1])[0])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([0.0, 0.0], r"one x must have the shape \(3,\), but got \(2,\)"),
        ([0.0, np.nan, 0.0], "NaN or infinity, first in observation 0"),
    ],
)
def test_bad_x(small_estimator, x, message):
    posterior = EnsemblePosterior(
        [small_estimator()[0]], Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))
    )
    with pytest.raises(DataError, match=message):
        posterior.sample(5, x, generator_from_seed(0))


def test_bad_members(small_estimator):
    prior = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))
    member = small_estimator()[0]
    with pytest.raises(DataError, match="at least one"):
        EnsemblePosterior([], prior)
    with pytest.raises(DataError, match="1 members need as many weights"):
        EnsemblePosterior([member], prior, (0.5, 0.5))
    with pytest.raises(DataError, match="the prior has 1 labels"):
        EnsemblePosterior([member], Prior(("a",), (0.0,), (1.0,)))
