"""Markov chains on trained estimators: against the same potential on a grid, and on disk."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from mlpop.errors import DataError
from mlpop.inference.estimators.store import save_estimator
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.store import load_posterior, save_posterior
from mlpop.inference.prior import Prior
from mlpop.networks.rng import generator_from_seed

PRIOR = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))
OPTIONS = McmcOptions(num_chains=60, thin=2, num_candidates=2000)

KINDS = [
    ("maf", "likelihood"),
    ("resnet", "ratio"),
    pytest.param("mdn", "likelihood", marks=pytest.mark.slow),
    pytest.param("nsf", "likelihood", marks=pytest.mark.slow),
    pytest.param("linear", "ratio", marks=pytest.mark.slow),
    pytest.param("mlp", "ratio", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("sampler", ["slice_np_vectorized", "hmc"])
@pytest.mark.parametrize(("model", "kind"), KINDS)
def test_draws_are_those_of_the_potential_on_a_grid(small_estimator, model, kind, sampler):
    """Also for an x that the estimator has never seen, where its potential is wild."""
    estimator, _, _, _ = small_estimator(model, kind=kind)
    options = McmcOptions(sampler, num_chains=60, thin=2, num_candidates=2000)
    posterior = McmcPosterior([estimator], PRIOR, options=options)
    x = np.array([0.5, -0.4, 0.3], dtype=np.float32)
    samples, report = posterior.sample_with_report(1500, x, generator_from_seed(1))
    lines = [
        np.linspace(low, high, 241)[:-1] + (high - low) / 480
        for low, high in zip(PRIOR.low, PRIOR.high, strict=True)
    ]
    mesh = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 1, 2)
    with torch.no_grad():
        theta, data = PRIOR.to_unit(mesh), torch.from_numpy(x)[None]
        potential = estimator.log_potential(theta, data)[:, 0].double().numpy()
    density = np.exp(potential - potential.max()).reshape(240, 240)
    for label in range(2):
        cumulative = density.sum(1 - label).cumsum()
        edges = lines[label] + (PRIOR.high[label] - PRIOR.low[label]) / 480
        values = np.interp(samples[:, label], edges, cumulative / cumulative[-1])
        assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert report.problems() == []
    area = 8 / 240**2
    integral = np.exp(posterior.log_prob(mesh[:, 0], x)).sum() * area
    assert integral == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(("model", "kind"), [("maf", "likelihood"), ("resnet", "ratio")])
def test_there_and_back_and_can_be_moved(small_estimator, tmp_path, model, kind):
    members, folders = [], []
    for seed in range(2):
        estimator, spec, _, x = small_estimator(model, seed, kind=kind)
        folders.append(tmp_path / "round" / f"member_{seed}")
        save_estimator(folders[-1], estimator, spec)
        members.append(estimator)
    posterior = McmcPosterior(members, PRIOR, (0.25, 0.75), options=OPTIONS)
    path = tmp_path / "round" / "posterior.json"
    save_posterior(path, posterior, folders)
    assert json.loads(path.read_text())["kind"] == "mcmc"
    (tmp_path / "round").rename(tmp_path / "moved")
    loaded = load_posterior(tmp_path / "moved" / "posterior.json")
    assert isinstance(loaded, McmcPosterior)
    assert loaded.options == OPTIONS
    draws = [each.sample(50, x[0], generator_from_seed(1)) for each in (posterior, loaded)]
    assert np.array_equal(*draws)


def test_kind_must_be_that_of_the_members(small_estimator, tmp_path):
    estimator, spec, _, _ = small_estimator()
    save_estimator(tmp_path / "member", estimator, spec)
    path = tmp_path / "posterior.json"
    save_posterior(path, EnsemblePosterior([estimator], PRIOR), [tmp_path / "member"])
    values = json.loads(path.read_text())
    assert values["kind"] == "direct"
    path.write_text(json.dumps(values | {"kind": "mcmc"}))
    with pytest.raises(DataError, match="kind 'mcmc', which its members are not"):
        load_posterior(path)
    path.write_text(json.dumps(values | {"kind": "both"}))
    with pytest.raises(DataError, match="kind 'both'"):
        load_posterior(path)


def test_bad_options_on_disk(small_estimator, tmp_path):
    estimator, spec, _, _ = small_estimator("maf", kind="likelihood")
    save_estimator(tmp_path / "member", estimator, spec)
    path = tmp_path / "posterior.json"
    save_posterior(path, McmcPosterior([estimator], PRIOR), [tmp_path / "member"])
    values = json.loads(path.read_text())
    values["mcmc"]["thin"] = 0
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="thin must be at least 1"):
        load_posterior(path)
