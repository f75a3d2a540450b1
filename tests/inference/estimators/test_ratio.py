import pytest
import torch

from mlpop.config.blocks.training import TrainingOptions
from mlpop.config.methods import CLASSIFIERS
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed, lend
from mlpop.training.fit import fit, validation_split

SPREAD = 0.4
SPEC = {
    "kind": "ratio",
    "model": "resnet",
    "hidden_features": 32,
    "z_score_x": "independent",
    "x_shape": [2],
    "dimension": 2,
}


def _data(rows, seed=0):
    generator = generator_from_seed(seed)
    theta = torch.rand(rows, 2, generator=generator)
    return theta, 2 * theta - 1 + SPREAD * torch.randn(rows, 2, generator=generator)


def _exact(theta, x):
    """log p(x | theta) / p(x) of x = 2 theta - 1 + normal noise under the uniform prior."""
    log_likelihood = torch.distributions.Normal(2 * theta - 1, SPREAD).log_prob(x)
    unit = torch.distributions.Normal(0.0, 1.0)
    evidence = 0.5 * (unit.cdf((1 - x) / SPREAD) - unit.cdf((-1 - x) / SPREAD))
    return (log_likelihood - evidence.log()).sum(-1)


def _built(seed=1, **changes):
    theta, x = _data(100)
    spec = EstimatorSpec.parse(SPEC | changes)
    return build_estimator(spec, theta, x, generator_from_seed(seed)).eval()


def _train(estimator, rows, **options):
    theta, x = _data(rows)
    return fit(
        estimator,
        theta,
        x,
        validation=validation_split(rows, 0.1, generator_from_seed(2)),
        generator=generator_from_seed(3),
        options=TrainingOptions.parse({"batch_size": 100, "lr": 3e-3} | options),
    )


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_posterior_depends_on_x_S10(model):
    """Regression: the potential of sbi's linear classifier has the same shape at every x."""
    estimator = _built(model=model)
    grid = torch.rand(200, 1, 2, generator=generator_from_seed(4)).expand(-1, 2, -1)
    x = torch.tensor([[0.5, 0.5], [-0.5, 0.2]])
    with torch.no_grad():
        for value in estimator.parameters():
            value += 0.2 * torch.randn(value.shape, generator=generator_from_seed(5))
        values = estimator.log_potential(grid, x)
    shapes = values - values.mean(0)
    assert float((shapes[:, 0] - shapes[:, 1]).abs().max()) > 0.01


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_log_potential_equals_sbi_and_is_differentiable(model):
    """sbi's own method repeats x for every theta."""
    estimator = _built(model=model)
    x = _data(5, seed=3)[1]
    theta = torch.rand(6, 5, 2, generator=generator_from_seed(4)).requires_grad_()
    values = estimator.log_potential(theta, x)
    expected = estimator.unnormalized_log_ratio(theta, x.expand(6, 5, 2))
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(values.sum(), theta)
    assert bool((gradient != 0).all())
    assert torch.equal(estimator.log_potential_embedded(theta, estimator.embed(x)), values)


def test_linear_classifier_holds_the_ratio_of_a_normal_x():
    """log p(x | theta) = t.x / s^2 - t^2 / (2 s^2) with t = 2 theta - 1, up to a function of x."""
    estimator = _built(model="linear", z_score_x="none", z_score_theta="none")
    weight = torch.tensor([2.0, 2.0, -2.0, 0.0, -2.0, 2.0, 0.0, 0.0, 2.0]) / SPREAD**2
    with torch.no_grad():
        estimator.net.output.weight.copy_(weight[None])
        theta, x = _data(50, seed=3)
        grid = _data(200, seed=4)[0][:, None].expand(-1, 50, -1)
        error = estimator.log_potential(grid, x) - _exact(grid, x)
    assert float((error - error.mean(0)).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("model", "changes"),
    [("mlp", {"hidden_features"}), ("resnet", {"hidden_features"}), ("linear", set())],
)
def test_hyperparameters_are_honoured_S10(model, changes):
    def size(**values):
        return sum(value.numel() for value in _built(model=model, **values).parameters())

    changed = {"hidden_features"} if size(hidden_features=9) != size() else set()
    assert changed == changes


@pytest.mark.slow
@pytest.mark.parametrize("model", CLASSIFIERS)
def test_agrees_with_the_analytic_ratio_S01(model):
    """Up to a function of x, which the contrastive loss does not determine."""
    estimator = _built(model=model)
    _train(estimator, 3000, stop_after_epochs=10, max_num_epochs=60)
    theta, x = _data(40, seed=10)
    grid = torch.rand(400, 1, 2, generator=generator_from_seed(6)).expand(-1, 40, -1)
    exact = _exact(grid, x)
    likely = exact > exact.max(0).values - 3
    with torch.no_grad():
        error = estimator.log_potential(grid, x) - exact
    centred = [
        column[keep] - column[keep].mean() for column, keep in zip(error.T, likely.T, strict=True)
    ]
    assert min(len(column) for column in centred) > 20
    assert float(torch.cat(centred).abs().mean()) < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_as_good_as_sbi_S01(silent_tracker, model):
    """Our loop against NRE_B's own training: same data and options, equal loss on new data."""
    from sbi.inference import NRE_B
    from sbi.neural_nets import classifier_nn

    rows = 1500
    estimator = _built(model=model)
    options = {"max_num_epochs": 60, "stop_after_epochs": 10}
    _train(estimator, rows, **options)
    box = torch.distributions.Independent(
        torch.distributions.Uniform(torch.zeros(2), torch.ones(2), validate_args=False), 1
    )
    with lend(generator_from_seed(8)):
        trainer = NRE_B(
            box,
            classifier=classifier_nn(model, hidden_features=32),
            tracker=silent_tracker,
            show_progress_bars=False,
        )
        theirs = trainer.append_simulations(*_data(rows)).train(
            num_atoms=10, training_batch_size=100, learning_rate=3e-3, **options
        )
    theta, x = _data(3000, seed=20)
    losses = []
    for net in (estimator, theirs, None):
        trainer._neural_net = net or (lambda theta, x: _exact(theta, x))
        with lend(generator_from_seed(9)), torch.no_grad():
            losses.append(float(trainer._loss(theta, x, 10)))
    ours, their, exact = losses
    assert ours == pytest.approx(their, abs=0.05)
    assert exact - 0.02 < ours < exact + 0.1
