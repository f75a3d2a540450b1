import math

import numpy as np
import pytest
import torch
from sbi.neural_nets import likelihood_nn

from mlpop.config.blocks.training import TrainingOptions
from mlpop.config.methods import DENSITIES
from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed, lend
from mlpop.training.fit import fit, validation_split

SPEC = {
    "kind": "likelihood",
    "hidden_features": 16,
    "num_components": 3,
    "num_transforms": 3,
    "num_bins": 5,
    "z_score_x": "independent",
    "x_shape": [3],
    "dimension": 2,
}
SPREAD = torch.tensor([0.3, 0.5, 2.0])


def _data(rows, seed=0):
    """x = (t_1, t_1 + t_2, 10 t_2 + 100) + normal noise of SPREAD, where t = 2 theta - 1."""
    generator = generator_from_seed(seed)
    theta = torch.rand(rows, 2, generator=generator)
    x = _mean(theta) + SPREAD * torch.randn(rows, 3, generator=generator)
    return theta, x


def _mean(theta):
    places = 2 * theta - 1
    return torch.stack([places[..., 0], places.sum(-1), 10 * places[..., 1] + 100], -1)


def _exact(theta, x):
    z = (x - _mean(theta)) / SPREAD
    return -0.5 * z.square().sum(-1) - SPREAD.log().sum() - 1.5 * math.log(2 * math.pi)


def _perturbed(estimator):
    with torch.no_grad():
        for value in estimator.parameters():
            value += 0.2 * torch.randn(value.shape, generator=generator_from_seed(4))
    return estimator.eval()


@pytest.mark.parametrize("model", ["mdn", "maf", "nsf", "zuko_nsf"])
def test_equals_sbi_with_the_same_weights(model):
    theta, x = _data(40)
    spec = EstimatorSpec.parse(SPEC | {"model": model, "z_score_theta": "none"})
    ours = _perturbed(build_estimator(spec, theta, x, generator_from_seed(1)))
    names = ("hidden_features", "num_components", "num_transforms", "num_bins")
    theirs = likelihood_nn(
        model,
        z_score_theta="none",
        z_score_x="none",
        **{name: SPEC[name] for name in names},
    )(theta, x).eval()
    theirs.load_state_dict(ours.density.net.state_dict())
    standardize = ours.density.standardize_x
    with torch.no_grad():
        expected = theirs.log_prob(standardize(x)[None], theta)[0] - standardize.scale.log().sum()
        torch.testing.assert_close(-ours.loss(theta, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", DENSITIES)
def test_log_potential_is_the_density_and_differentiable(model):
    theta, x = _data(40)
    spec = EstimatorSpec.parse(SPEC | {"model": model})
    estimator = _perturbed(build_estimator(spec, theta, x, generator_from_seed(1)))
    points = theta[:30].reshape(6, 5, 2).clone().requires_grad_()
    values = estimator.log_potential(points, x[:5])
    each = torch.stack([-estimator.loss(row, x[:5]) for row in points])
    torch.testing.assert_close(values, each, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert gradient.shape == points.shape
    assert bool((gradient != 0).all())
    kept = estimator.log_potential_embedded(points, estimator.embed(x[:5]))
    assert torch.equal(kept, values)


@pytest.mark.parametrize("model", DENSITIES)
def test_every_component_of_x_depends_on_theta(model):
    """Regression: in sbi's maf one component may never see the condition."""
    theta, x = _data(40)
    spec = EstimatorSpec.parse(SPEC | {"model": model, "num_transforms": 2})
    for seed in range(10 if model == "maf" else 2):
        estimator = _perturbed(build_estimator(spec, theta, x, generator_from_seed(seed)))
        draws = []
        for row in theta[:2]:
            with lend(generator_from_seed(5)), torch.no_grad():
                draws.append(estimator.density.sample(torch.Size((50,)), row[None])[:, 0])
        assert bool(((draws[0] - draws[1]).abs() > 1e-6).any(0).all()), seed


def _trained(model, rows=2000, seed=0):
    theta, x = _data(rows, seed)
    spec = EstimatorSpec.parse(SPEC | {"model": model})
    estimator = build_estimator(spec, theta, x, generator_from_seed(1))
    report = fit(
        estimator,
        theta,
        x,
        validation=validation_split(rows, 0.1, generator_from_seed(2)),
        generator=generator_from_seed(3),
        options=TrainingOptions(batch_size=100, lr=3e-3, stop_after_epochs=10, max_num_epochs=80),
    )
    return estimator, report


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mdn", "maf", "nsf"])
def test_agrees_with_the_analytic_likelihood_S01(model):
    """The normalised density, not only its shape: standardization counts its volume."""
    estimator, report = _trained(model)
    theta, x = _data(2000, seed=10)
    exact = _exact(theta, x)
    with torch.no_grad():
        divergence = float((exact + estimator.loss(theta, x)).mean())
        grid = torch.rand(300, 20, 2, generator=generator_from_seed(6))
        likely = _exact(grid, x[:20]) > exact[:20] - 3
        shape = estimator.log_potential(grid, x[:20]) - _exact(grid, x[:20])
    assert -0.01 < divergence < 0.12
    assert report.best_loss == pytest.approx(-float(exact.mean()), abs=0.2)
    assert int(likely.sum()) > 100
    assert float(shape[likely].abs().mean()) < 0.5
    assert float(_exact(grid, x[:20])[likely].std()) > 0.8


def test_draws_are_in_the_units_of_x():
    theta, x = _data(400)
    spec = EstimatorSpec.parse(SPEC | {"model": "mdn"})
    estimator = build_estimator(spec, theta, x, generator_from_seed(1))
    fit(
        estimator,
        theta,
        x,
        validation=validation_split(400, 0.1, generator_from_seed(2)),
        generator=generator_from_seed(3),
        options=TrainingOptions(batch_size=50, lr=5e-3, max_num_epochs=15),
    )
    place = torch.tensor([[0.7, 0.25]])
    with lend(generator_from_seed(5)), torch.no_grad():
        draws = estimator.density.sample(torch.Size((2000,)), place)[:, 0]
    error = (draws.mean(0) - _mean(place)[0]).abs() / torch.tensor([0.6, 0.8, 6.0])
    assert float(error.max()) < 0.25


def test_what_never_varies_has_no_density():
    theta, x = _data(40)
    x[:, 1] = 4.0
    with pytest.raises(DataError, match=r"x is 4\.0 in all 40 simulations at component 1"):
        build_estimator(EstimatorSpec.parse(SPEC), theta, x, generator_from_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mdn", "maf"])
def test_as_good_as_sbi_S01(silent_tracker, model):
    """Our loop against NLE_A's own training: same data and options, equal loss on new data."""
    from sbi.inference import NLE_A

    rows = 1500
    estimator, _ = _trained(model, rows)
    theta, x = _data(rows)
    box = torch.distributions.Independent(
        torch.distributions.Uniform(torch.zeros(2), torch.ones(2), validate_args=False), 1
    )
    names = ("hidden_features", "num_components", "num_transforms", "num_bins")
    builder = likelihood_nn(
        model,
        z_score_theta="independent",
        z_score_x="independent",
        **{name: SPEC[name] for name in names},
    )
    with lend(generator_from_seed(8)):
        trainer = NLE_A(
            box, density_estimator=builder, tracker=silent_tracker, show_progress_bars=False
        )
        theirs = trainer.append_simulations(theta, x).train(
            training_batch_size=100, learning_rate=3e-3, max_num_epochs=80, stop_after_epochs=10
        )
    theta, x = _data(3000, seed=20)
    with torch.no_grad():
        ours = float(estimator.loss(theta, x).mean())
        their = float(theirs.loss(x, theta).mean())
    exact = -float(_exact(theta, x).mean())
    assert ours == pytest.approx(their, abs=0.1)
    assert exact - 0.01 < ours < exact + 0.2
    assert np.isfinite(their)
