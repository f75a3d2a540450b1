import json
import pickle

import numpy as np
import pytest
import torch

from mlpop.config.methods import CLASSIFIERS, DENSITIES
from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.store import (
    load_ensemble,
    load_estimator,
    read_record,
    save_estimator,
)
from mlpop.inference.estimators.user_pickles import write_user_pickles
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.store import load_posterior, save_posterior
from mlpop.inference.prior import Prior, in_cube
from mlpop.networks.rng import generator_from_seed, lend

PRIOR = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))


@pytest.mark.parametrize(
    ("kind", "model"),
    [("likelihood", model) for model in DENSITIES] + [("ratio", model) for model in CLASSIFIERS],
)
def test_loaded_likelihood_or_ratio_gives_identical_numbers(
    small_estimator, tmp_path, model, kind
):
    estimator, spec, theta, x = small_estimator(model, kind=kind, z_score_x="independent")
    save_estimator(tmp_path, estimator.eval(), spec)
    loaded, loaded_spec = load_estimator(tmp_path)
    assert loaded_spec == spec
    assert not loaded.training
    assert (tuple(loaded.theta_shape), tuple(loaded.x_shape)) == ((2,), (3,))
    points = theta[:, None].expand(-1, 40, -1)
    assert torch.equal(loaded.log_potential(points, x), estimator.log_potential(points, x))


def test_a_record_that_is_not_json_is_refused(small_estimator, tmp_path):
    estimator, spec, *_ = small_estimator()
    with pytest.raises(ValueError, match="JSON"):
        save_estimator(tmp_path, estimator, spec, {"best_loss": float("nan")})
    assert not (tmp_path / "estimator.json").exists()


@pytest.mark.parametrize("model", DENSITIES)
def test_loaded_estimator_gives_identical_numbers(small_estimator, tmp_path, model):
    estimator, spec, theta, x = small_estimator(model, z_score_x="independent")
    estimator.eval()
    save_estimator(tmp_path, estimator, spec, {"best_loss": 1.5})
    loaded, loaded_spec = load_estimator(tmp_path)
    assert loaded_spec == spec
    assert not loaded.training
    assert torch.equal(loaded.log_prob(theta[None], x), estimator.log_prob(theta[None], x))
    draws = []
    for each in (estimator, loaded):
        with lend(generator_from_seed(3)):
            draws.append(each.sample(torch.Size([5]), x))
    assert torch.equal(*draws)
    assert read_record(tmp_path)["record"] == {"best_loss": 1.5}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "estimator.json",
        "estimator.safetensors",
    ]


@pytest.mark.parametrize("damage", ["truncate", "missing", "json", "spec"])
def test_damaged_estimator_is_refused(small_estimator, tmp_path, damage):
    estimator, spec, _, _ = small_estimator()
    save_estimator(tmp_path, estimator, spec)
    weights, description = tmp_path / "estimator.safetensors", tmp_path / "estimator.json"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "missing":
        weights.unlink()
    elif damage == "json":
        description.write_text("{")
    else:
        values = json.loads(description.read_text())
        values["spec"]["hidden_features"] = 9
        description.write_text(json.dumps(values))
    with pytest.raises(DataError, match="estimator"):
        load_estimator(tmp_path)


def test_members_must_belong_together(small_estimator, tmp_path):
    estimator, spec, theta, x = small_estimator()
    save_estimator(tmp_path / "one", estimator, spec)
    fewer = spec.model_copy(update={"dimension": 1})
    estimator = build_estimator(fewer, theta[:, :1], x, generator_from_seed(0))
    save_estimator(tmp_path / "two", estimator, fewer)
    assert len(load_ensemble([tmp_path / "one", tmp_path / "one"])) == 2
    with pytest.raises(DataError, match="do not belong together.*in the number of labels"):
        load_ensemble([tmp_path / "one", tmp_path / "two"])
    estimator, spec, _, _ = small_estimator(kind="likelihood")
    save_estimator(tmp_path / "three", estimator, spec)
    with pytest.raises(DataError, match="they differ in kind"):
        load_ensemble([tmp_path / "one", tmp_path / "three"])


def test_posterior_there_and_back_and_can_be_moved(small_estimator, tmp_path):
    statistics = {
        "a": {"mean": 1.0, "std": 2.0, "min": 0.0, "max": 1.0},
        "b": {"mean": 0.0, "std": 0.5, "min": 0.0, "max": 1.0},
    }
    scaling = LabelScaling("standardize", statistics, ("a", "b"))
    prior = Prior(("a", "b"), (-1.0, -1.0), (3.0, 1.0), scaling)
    members = []
    for j in range(2):
        estimator, spec, _, x = small_estimator(seed=j)
        save_estimator(tmp_path / "round" / f"member_{j}", estimator, spec)
        members.append(estimator)
    posterior = EnsemblePosterior(members, prior, (0.25, 0.75))
    folders = [tmp_path / "round" / f"member_{j}" for j in range(2)]
    save_posterior(tmp_path / "round" / "posterior.json", posterior, folders)
    (tmp_path / "round").rename(tmp_path / "moved")
    loaded = load_posterior(tmp_path / "moved" / "posterior.json")
    assert loaded.labels == ("a", "b")
    draws = [each.sample(50, x[0], generator_from_seed(1)) for each in (posterior, loaded)]
    assert np.array_equal(*draws)
    assert np.array_equal(*(each.log_prob(draws[0], x[0]) for each in (posterior, loaded)))
    with pytest.raises(DataError, match="2 members, but got 1 folders"):
        save_posterior(tmp_path / "posterior.json", posterior, folders[:1])
    with pytest.raises(DataError, match="cannot be read"):
        load_posterior(tmp_path / "missing.json")


@pytest.mark.parametrize("model", ["mdn", "maf", "nsf", "zuko_nsf"])
def test_documented_pickles_serve_a_notebook(small_estimator, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    estimator, _, _, x = small_estimator(model)
    paths = write_user_pickles(
        tmp_path, estimator.eval(), PRIOR, {"epochs": 3}, suffix="_ensemble_1"
    )
    names = ["trained_model_ensemble_1.pickle", "inference_ensemble_1.pickle"]
    assert [path.name for path in paths] == names
    model, inference = (pickle.loads(path.read_bytes()) for path in paths)
    posterior = inference.build_posterior(model)
    samples = posterior.sample((20,), x=x[:1], show_progress_bars=False)
    assert samples.shape == (20, 2)
    assert bool(in_cube(samples).all())
    assert PRIOR.contains(inference.prior.to_physical(samples)).all()
    assert inference.summary == {"epochs": 3}
    assert {path.name for path in tmp_path.iterdir()} == set(names)  # no sbi-logs folder


@pytest.mark.parametrize(
    ("kind", "model"),
    [("likelihood", "mdn"), ("likelihood", "maf"), ("ratio", "linear"), ("ratio", "resnet")],
)
def test_documented_pickles_of_likelihood_and_ratio_S01(
    small_estimator, tmp_path, monkeypatch, kind, model
):
    """sbi's own Markov chains on them, and the same potential as ours."""
    from sbi.inference.posteriors import MCMCPosterior

    monkeypatch.chdir(tmp_path)
    estimator, _, theta, x = small_estimator(model, kind=kind)
    paths = write_user_pickles(tmp_path, estimator.eval(), PRIOR, {})
    model, inference = (pickle.loads(path.read_bytes()) for path in paths)
    for posterior in (inference.build_posterior(), inference.build_posterior(model)):
        assert isinstance(posterior, MCMCPosterior)
        theirs = posterior.potential(theta, x=x[:1])
        # the log density of the prior in the unit cube, which sbi adds, is 0
        ours = estimator.log_potential(theta[:, None], x[:1])[:, 0]
        torch.testing.assert_close(theirs, ours.detach(), rtol=1e-5, atol=1e-5)
    with lend(generator_from_seed(0)):
        samples = posterior.sample(
            (4,),
            x=x[:1],
            num_chains=2,
            warmup_steps=1,
            thin=1,
            init_strategy="proposal",
            show_progress_bars=False,
        )
    assert samples.shape == (4, 2)
    assert bool(in_cube(samples).all())
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
