"""The documented pickles: sbi's posteriors of them, in a fresh process too, and more training."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sbi.utils import BoxUniform

from mlpop.config.blocks.training import TrainingOptions
from mlpop.errors import DataError
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior, in_cube
from mlpop.networks.rng import generator_from_seed, lend
from mlpop.training.user_pickles import TrainedInference, write_user_pickles

PRIOR = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.0))

FRESH = """
import pickle, sys, torch
inference = pickle.load(open(sys.argv[1], "rb"))
x = torch.zeros(1, 3)
torch.manual_seed(0)
draws = inference.build_posterior().sample((5,), x=x, show_progress_bars=False)
print(inference.prior.to_physical(draws).shape, inference.summary)
"""


def held(small_estimator, *args, **kwargs):
    """A pickled inference as it comes back, and simulations of its toy."""
    estimator, _, theta, x = small_estimator(*args, **kwargs)
    options = TrainingOptions(batch_size=20, lr=1e-2, max_num_epochs=15)
    inference = TrainedInference(estimator.eval(), PRIOR, {}, options=options)
    return pickle.loads(pickle.dumps(inference)), theta, x


@pytest.mark.parametrize("model", ["mdn", "maf", "nsf", "zuko_nsf"])
def test_documented_pickles_serve_a_notebook(small_estimator, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    estimator, _, _, x = small_estimator(model)
    inference = TrainedInference(estimator.eval(), PRIOR, {"epochs": 3})
    paths = write_user_pickles(tmp_path, inference, suffix="_ensemble_1")
    names = ["trained_model_ensemble_1.pickle", "inference_ensemble_1.pickle"]
    assert [path.name for path in paths] == names
    model, inference = (pickle.loads(path.read_bytes()) for path in paths)
    posterior = inference.build_posterior(model, prior=inference.prior)
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
    paths = write_user_pickles(tmp_path, TrainedInference(estimator.eval(), PRIOR, {}))
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


def test_it_loads_in_a_fresh_process(small_estimator, tmp_path):
    estimator, *_ = small_estimator()
    _, path = write_user_pickles(
        tmp_path, TrainedInference(estimator.eval(), PRIOR, {"epochs_trained": [3]})
    )
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout == "(5, 2) {'epochs_trained': [3]}\n", done.stderr


@pytest.mark.parametrize(
    ("kind", "model"), [("posterior", "mdn"), ("likelihood", "mdn"), ("ratio", "mlp")]
)
def test_training_goes_on(small_estimator, kind, model):
    inference, theta, x = held(small_estimator, model, kind=kind)
    before = {name: value.clone() for name, value in inference.estimator.state_dict().items()}
    again = pickle.loads(pickle.dumps(inference))
    trained = inference.append_simulations(theta, x).train(seed=1)
    assert trained is inference.estimator
    assert not trained.training
    after = trained.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert inference.summary["epochs_trained"] == [15]
    # the same seed gives the same bits, however the simulations were added
    half = len(theta) // 2
    again.append_simulations(theta[:half], x[:half]).append_simulations(theta[half:], x[half:])
    twin = again.train(seed=1).state_dict()
    assert all(torch.equal(twin[name], after[name]) for name in after)


def test_training_lowers_the_held_out_loss(small_estimator):
    inference, theta, x = held(small_estimator)
    before = float(inference.estimator.loss(theta, x).detach().mean())
    after = float(inference.append_simulations(theta, x).train().loss(theta, x).detach().mean())
    assert after < before


def test_simulations_of_a_proposal_are_corrected_for(small_estimator, monkeypatch):
    from mlpop.training import user_pickles

    losses = []
    fit = user_pickles.fit
    monkeypatch.setattr(
        user_pickles, "fit", lambda *a, **k: losses.append(k["loss"]) or fit(*a, **k)
    )
    for kind, model in (("posterior", "mdn"), ("likelihood", "mdn")):
        for proposal in (None, "the posterior of the round before"):
            inference, theta, x = held(small_estimator, model, kind=kind)
            inference.append_simulations(theta, x, proposal).train(max_num_epochs=1)
    assert losses == ["maximum_likelihood", "atomic", *["maximum_likelihood"] * 2]


def test_what_cannot_be_meant_is_refused(small_estimator):
    inference, theta, x = held(small_estimator)
    with pytest.raises(DataError, match="nothing to train on"):
        inference.train()
    with pytest.raises(DataError, match=r"unit cube.*to_networks"):
        inference.append_simulations(theta + 1, x)
    with pytest.raises(DataError, match=r"x \(n, \*\(3,\)\), found"):
        inference.append_simulations(theta, x[:, :2])
    physical = BoxUniform(low=torch.tensor([-1.0, -2.0]), high=torch.tensor([1.0, 2.0]))
    with pytest.raises(DataError, match="reaches out of it"):
        inference.build_posterior(prior=physical)
    other = Prior(("a", "b"), (-1.0, -2.0), (1.0, 2.5))
    with pytest.raises(DataError, match="not the one that the networks were trained with"):
        inference.build_posterior(prior=other)


def test_physical_theta_and_stored_maps_become_what_networks_see(small_estimator):
    inference, *_ = held(small_estimator)
    inference.preprocessing = Preprocessing("standardize")
    theta = np.array([[-1.0, 2.0], [0.0, 0.0]])
    unit, x = inference.to_networks(theta, np.arange(18.0).reshape(2, 1, 3, 3))
    assert bool(in_cube(unit).all())
    np.testing.assert_allclose(inference.prior.to_physical(unit), theta, atol=1e-6)
    assert float(x.mean()) == pytest.approx(0, abs=1e-6)
