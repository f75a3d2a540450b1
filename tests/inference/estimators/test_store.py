import json

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
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.store import load_posterior, save_posterior
from mlpop.inference.prior import Prior
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
