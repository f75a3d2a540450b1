import json
import logging
from dataclasses import asdict

import numpy as np
import pytest
import torch
from analytic import Analytic, correlated, crescent, cut_normal, gaussian, two_modes, unit_prior
from scipy import stats

from mlpop.errors import ConfigError, DataError
from mlpop.inference.mcmc.chains import McmcOptions, log_mapping
from mlpop.inference.mcmc.report import McmcReport
from mlpop.inference.posteriors.arguments import SamplingError
from mlpop.inference.posteriors.mcmc_posterior import CHAINS_AT_ONE_X, McmcPosterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

SAMPLERS = ["slice_np_vectorized", "hmc"]


def _posterior(member, sampler="slice_np_vectorized", prior=None, **options):
    members = member if isinstance(member, list) else [member]
    options = {"num_chains": 60, "thin": 2} | options
    prior = prior or unit_prior(members[0].theta_shape[0])
    return McmcPosterior(members, prior, options=McmcOptions(sampler, **options))


def _p_value(draws, exact):
    return stats.kstest(draws, exact.cdf).pvalue


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_cut_gaussian_in_every_label_S11(sampler, dimension):
    """Inside, at an edge, and with most of the likelihood outside the prior."""
    centres = [0.0, 0.9, -1.2, 0.5, -0.95][:dimension]
    posterior = _posterior(gaussian(dimension, 0.3), sampler)
    samples, report = posterior.sample_with_report(1500, centres, generator_from_seed(7))
    assert samples.shape == (1500, dimension)
    for label, centre in enumerate(centres):
        assert _p_value(samples[:, label], cut_normal(centre, 0.3)) > 0.005, label
    assert report.problems() == []
    assert max(report.r_hat.values()) < 1.03
    assert min(report.ess.values()) > 800


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evidence_is_the_closed_form(sampler):
    posterior = _posterior(gaussian(2, 0.3), sampler)
    _, report = posterior.sample_with_report(100, [0.8, -0.95], generator_from_seed(0))
    exact = sum(-np.log(2 * cut_normal(centre, 0.3).pdf(centre)) for centre in (0.8, -0.95))
    assert report.log_evidence[0] == pytest.approx(exact, abs=0.06)
    assert report.evidence_ess[0] > 1000


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_narrow_and_correlated(sampler):
    posterior = _posterior(correlated(3, 0.01, 0.95), sampler)
    samples = posterior.sample(2000, [0.2, 0.5, -0.9], generator_from_seed(1))
    for label, centre in enumerate((0.2, 0.5, -0.9)):
        assert _p_value(samples[:, label], cut_normal(centre, 0.01)) > 0.005
    np.testing.assert_allclose(np.corrcoef(samples.T)[np.triu_indices(3, 1)], 0.95, atol=0.01)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dimension", [2, 5])
def test_separate_modes_get_their_weights(sampler, dimension):
    """Modes fourteen widths apart: chains must start in, or jump into, the right ones."""
    posterior = _posterior(two_modes(dimension, 0.07, 0.7), sampler)
    samples, report = posterior.sample_with_report(
        3000, np.zeros(dimension), generator_from_seed(2)
    )
    first = samples[:, 0] < 0
    assert first.mean() == pytest.approx(0.7, abs=0.05)
    for label in range(dimension):
        assert _p_value(samples[first, label], cut_normal(-0.5, 0.07)) > 0.001
        assert (samples[first, label] < 0).all()
    assert report.problems() == []


def test_crescents_of_two_moons():
    posterior = _posterior(crescent())
    samples = posterior.sample(2000, [0.0, 0.0], generator_from_seed(3))
    total = samples.sum(1) / np.sqrt(2)
    second = (samples[:, 1] - samples[:, 0]) / np.sqrt(2)
    assert (total > 0).mean() == pytest.approx(0.5, abs=0.05)
    angle = np.arctan2(second, np.abs(total) - 0.25)
    radius = np.hypot(second, np.abs(total) - 0.25)
    assert stats.kstest(angle, stats.uniform(-np.pi / 2, np.pi).cdf).pvalue > 0.001
    # uniform in area across the ring: the density of the radius has a factor of it
    assert radius.mean() == pytest.approx(0.1 + 0.01**2 / 0.1, abs=0.001)
    assert radius.std() == pytest.approx(0.01, rel=0.08)


def test_flat_potential_gives_the_prior():
    prior = Prior(("a", "b"), (-3.0, 5.0), (1.0, 5.5))
    member = Analytic(lambda theta, x: 0.0 * theta.sum(-1), 2)
    samples = _posterior(member, prior=prior).sample(2000, [0.0, 0.0], generator_from_seed(4))
    for label in range(2):
        low, high = prior.low[label], prior.high[label]
        assert samples[:, label].min() >= low
        assert samples[:, label].max() < high
        assert _p_value(samples[:, label], stats.uniform(low, high - low)) > 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_many_observations_at_once_are_as_one_by_one(sampler):
    posterior = _posterior(gaussian(2, 0.25), sampler)
    x = np.array([[0.0, 0.0], [0.9, -1.1], [-0.4, 0.6]])
    together = posterior.sample_batched(800, x, generator_from_seed(5))
    assert together.shape == (800, 3, 2)
    for row, centres in enumerate(x):
        alone = posterior.sample(800, centres, generator_from_seed(6 + row))
        for label, centre in enumerate(centres):
            assert _p_value(together[:, row, label], cut_normal(centre, 0.25)) > 0.005
            assert stats.ks_2samp(together[:, row, label], alone[:, label]).pvalue > 0.005


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_generator_same_bits(sampler):
    posterior = _posterior(gaussian(2, 0.3), sampler, num_candidates=500, warmup=5)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, again, other = (
        posterior.sample(60, [0.1, 0.2], generator_from_seed(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # nobody else's random numbers are used
    assert np.array_equal(state[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(state[1], torch.get_rng_state())


def test_chains_and_thinning_are_honoured_S11():
    """Draws a chain: at least 25, and as many as the samples need; steps: times thin."""
    for chains, used in ((10, CHAINS_AT_ONE_X), (600, 600)):
        posterior = _posterior(gaussian(1, 0.3), num_chains=chains, thin=1)
        _, report = posterior.sample_with_report(1000, [0.0], generator_from_seed(0))
        assert (report.num_chains, report.num_samples) == (used, 1000)
    asked = {}
    for thin in (-1, 1, 4):
        member = gaussian(1, 0.3)
        posterior = _posterior(member, num_chains=10, thin=thin)
        conditioned = posterior.at([0.0], generator_from_seed(0))
        before = member.points
        conditioned.sample(1000, generator_from_seed(0))
        asked[thin] = member.points - before
    assert asked[-1] == asked[1]
    assert asked[4] == pytest.approx(4 * asked[1], rel=0.1)


def test_equal_weighted_shares_of_members_shuffled():
    members = [gaussian(1, 0.05, 0.5), gaussian(1, 0.05, -0.5)]
    options = McmcOptions(num_chains=40, thin=1)
    posterior = McmcPosterior(members, unit_prior(1), (0.3, 0.7), options=options)
    samples, report = posterior.sample_with_report(1000, [0.0], generator_from_seed(0))
    second = samples[:, 0] > 0
    assert second.sum() == pytest.approx(700, abs=1)
    assert second[:500].mean() == pytest.approx(0.7, abs=0.08)
    assert len(report.evidence_ess) == 2
    # members are whole posteriors of their own: their distance is no lack of convergence
    assert report.problems() == []


def test_likelihood_mixture_is_not_the_posterior_mixture_B11():
    """Raw potentials would give all weight to the member with the larger function of x."""
    members = [gaussian(1, 0.2, 0.4, slope=40.0), gaussian(1, 0.2, -0.4, slope=-40.0)]
    posterior = _posterior(members)
    for x in (0.3, -0.3):
        samples = posterior.sample(2000, [x], generator_from_seed(1))[:, 0]
        low, high = cut_normal(x - 0.4, 0.2), cut_normal(x + 0.4, 0.2)
        cdf = lambda value, low=low, high=high: 0.5 * (low.cdf(value) + high.cdf(value))  # noqa: E731
        assert stats.kstest(samples, cdf).pvalue > 0.005
        theta = np.linspace(-0.99, 0.99, 9)[:, None]
        density = 0.5 * (low.pdf(theta[:, 0]) + high.pdf(theta[:, 0]))
        np.testing.assert_allclose(np.exp(posterior.log_prob(theta, [x])), density, rtol=0.1)


def test_log_prob_of_many_observations():
    posterior = _posterior(gaussian(1, 0.3))
    theta = np.array([[[0.0], [0.2]], [[0.5], [1.5]]])
    values = posterior.log_prob_batched(theta, [[0.1], [0.9]])
    for row, centre in enumerate((0.1, 0.9)):
        exact = cut_normal(centre, 0.3).logpdf(theta[:, row, 0])
        np.testing.assert_allclose(values[:, row], exact, atol=0.06)
    assert values[1, 1] == -np.inf
    assert np.array_equal(values, posterior.log_prob_batched(theta, [[0.1], [0.9]]))


def test_report_tells_what_is_wrong():
    good = {"a": 1.0, "b": 1.01}
    values = {
        "labels": ("a", "b"),
        "sampler": "slice",
        "num_chains": 20,
        "num_samples": 5000,
        "r_hat": good,
        "ess": {"a": 900.0, "b": 500.0},
        "jump_acceptance": (0.5, 0.5),
        "log_evidence": (0.0, 0.0),
        "evidence_ess": (800.0, 900.0),
        "candidate_ess": (10.0, 10.0),
        "temperatures": (3, 3),
    }
    assert McmcReport(**values).problems() == []
    poor = values | {
        "r_hat": {"a": 1.2, "b": None},
        "ess": {"a": 50.0, "b": None},
        "evidence_ess": (25.0, 900.0),
    }
    problems = McmcReport(**poor).problems()
    assert len(problems) == 4
    for words, problem in zip(
        ("R-hat of a is 1.200", "of b did not move", "worth 50", "member 0 comes from 25"),
        problems,
        strict=True,
    ):
        assert words in problem
    assert McmcReport(**poor).to_dict()["problems"] == problems


def test_chains_that_do_not_mix_are_reported():
    """Without warm-up, candidates to see both modes, or draws: the report must not be silent."""
    member = two_modes(1, 0.002, 0.5)
    posterior = _posterior(member, num_chains=4, thin=1, warmup=0, num_candidates=500)
    reports = []
    conditioned = posterior.at([0.0], generator_from_seed(0))
    # a mixture fitted elsewhere proposes no useful jumps
    warm = conditioned.batch.members[0].warm
    warm.mixture.means.fill_(50.0)
    reports.append(conditioned.sample_with_report(100, generator_from_seed(0))[1])
    assert reports[0].jump_acceptance == (0.0,)
    assert any("have not mixed" in problem for problem in reports[0].problems())


def test_hopeless_observation_is_an_error():
    def only_positive(theta, x):
        return torch.where(x[..., 0] > 0, -theta.square().sum(-1), torch.nan)

    posterior = _posterior(Analytic(only_positive, 1))
    assert posterior.sample(10, [1.0], generator_from_seed(0)).shape == (10, 1)
    with pytest.raises(SamplingError, match=r"observation 1 \(1 such of 2\)"):
        posterior.sample_batched(10, [[1.0], [-1.0]], generator_from_seed(0))
    with pytest.raises(SamplingError, match="observation 0"):
        posterior.sample(10, [-1.0], generator_from_seed(0))
    values = posterior.log_prob_batched(np.zeros((1, 2, 1)), [[1.0], [-1.0]])
    assert np.isfinite(values[0, 0])
    assert np.isnan(values[0, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thin": -2}, "at least 1, or -1 for none, but got -2"),
        ({"thin": 0}, "but got 0"),
        ({"num_chains": 0}, "num_chains must be at least 1, but got 0"),
        ({"type": "slices"}, "mcmc_sampler.type must be one of slice_np_vectorized"),
        ({"type": "nuts"}, "mcmc_sampler.type must be one of slice_np_vectorized"),
        ({"warmup": -1}, "warmup must be at least 0"),
    ],
)
def test_bad_options_are_refused_B7(changes, message):
    with pytest.raises(ConfigError, match=message):
        McmcOptions(**changes)


@pytest.mark.parametrize(
    ("name", "hamiltonian"),
    [
        ("slice_np_vectorized", False),
        ("slice_np", False),
        ("slice", False),
        ("hmc", True),
    ],
)
def test_documented_names_B7(name, hamiltonian, caplog):
    options = McmcOptions(name)
    assert options.hamiltonian == hamiltonian
    assert McmcOptions(**json.loads(json.dumps(asdict(options)))) == options
    log_mapping.cache_clear()
    with caplog.at_level(logging.INFO, logger="mlpop.inference.mcmc.chains"):
        for _ in range(2):
            _posterior(gaussian(1, 0.3), name)
    assert len(caplog.messages) == 1
    assert name in caplog.messages[0]
    assert ("Hamiltonian" in caplog.messages[0]) == hamiltonian


def test_bad_members_and_x():
    with pytest.raises(DataError, match="at least one"):
        McmcPosterior([], unit_prior(1))
    with pytest.raises(DataError, match="the prior has 1 labels"):
        McmcPosterior([gaussian(2, 0.3)], unit_prior(1))
    with pytest.raises(DataError, match="1 members need as many weights"):
        McmcPosterior([gaussian(1, 0.3)], unit_prior(1), (0.5, 0.5))
    posterior = _posterior(gaussian(2, 0.3))
    with pytest.raises(DataError, match=r"one x must have the shape \(2,\)"):
        posterior.sample(5, [0.0], generator_from_seed(0))
    with pytest.raises(DataError, match="NaN or infinity"):
        posterior.sample(5, [0.0, np.nan], generator_from_seed(0))
