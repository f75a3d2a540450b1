import numpy as np
import pytest
import torch
from sbi.neural_nets import posterior_nn
from scipy import stats

from mlpop.config.methods import DENSITIES
from mlpop.errors import ConfigError, DataError
from mlpop.inference.estimators.cube import probit
from mlpop.inference.estimators.estimator import build_estimator, empty_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed, lend

MAPS = {
    "hidden_features": 16,
    "num_components": 4,
    "num_transforms": 2,
    "x_shape": (2, 16, 16),
    "dimension": 3,
    "embedding": {
        "type": "ModelConvSBIshallow",
        "args": {"input_shape": [2, 16, 16], "len_output_layer": 6},
        "initializer": "InitializerKaiming",
    },
}


def _data(rows=30):
    generator = generator_from_seed(7)
    theta = torch.rand(rows, 3, generator=generator)
    return theta, torch.randn(rows, 2, 16, 16, generator=generator)


@pytest.mark.parametrize("model", DENSITIES)
@pytest.mark.parametrize("z_score_theta", ["none", "independent", "structured"])
def test_rebuilt_from_spec_and_state_gives_identical_outputs(model, z_score_theta):
    spec = EstimatorSpec.parse(MAPS | {"model": model, "z_score_theta": z_score_theta})
    theta, x = _data()
    estimator = build_estimator(spec, theta, x, generator_from_seed(1)).eval()
    copy = empty_estimator(EstimatorSpec.model_validate_json(spec.model_dump_json())).eval()
    assert not torch.equal(copy.log_prob(theta[None], x), estimator.log_prob(theta[None], x))
    copy.load_state_dict(estimator.state_dict())
    assert torch.equal(copy.log_prob(theta[None], x), estimator.log_prob(theta[None], x))


@pytest.mark.parametrize("model", ["maf", "nsf", "zuko_nsf"])
def test_embed_once_equals_sbi_with_the_embedding_inside(model):
    """sbi runs the network for every theta; ours once for every x; the density is the same.

    That of z = probit(theta), whose prior is a standard normal.
    """
    spec = EstimatorSpec.parse(MAPS | {"model": model})
    theta, x = _data()
    ours = build_estimator(spec, theta, x, generator_from_seed(1)).eval()
    theirs = posterior_nn(
        model,
        z_score_theta="independent",
        z_score_x="none",
        hidden_features=16,
        num_components=4,
        num_transforms=2,
        embedding_net=ours.embedding,
    )(probit(theta), x).eval()
    head = ours.net.net.state_dict()
    state = {name: head.get(name, value) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    assert len(set(head) & set(theirs.state_dict())) == len(head) > 0
    points = theta[torch.randperm(30, generator=generator_from_seed(2))].expand(5, 30, 3)
    z = probit(points)
    over_prior = stats.norm.logpdf(z).sum(-1)
    with torch.no_grad():
        expected = theirs.log_prob(z, x).double().numpy() - over_prior
        np.testing.assert_allclose(ours.log_prob(points, x), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ours.loss(points[0], x), -expected[0], rtol=1e-5, atol=1e-5)


def test_embedding_runs_once_an_observation():
    spec = EstimatorSpec.parse(MAPS | {"model": "maf"})
    theta, x = _data()
    estimator = build_estimator(spec, theta, x, generator_from_seed(1)).eval()
    rows = []
    estimator.embedding.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    with torch.no_grad():
        estimator.log_prob(theta.expand(50, 30, 3), x)
        estimator.sample(torch.Size([50]), x)
    assert rows == [30, 30]


def test_same_seed_same_bits_and_members_share_nothing():
    spec = EstimatorSpec.parse(MAPS)
    theta, x = _data()
    first, again, other = (
        build_estimator(spec, theta, x, generator_from_seed(seed)) for seed in (1, 1, 2)
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    pointers = {value.data_ptr() for value in first.parameters()}
    assert not pointers & {value.data_ptr() for value in again.parameters()}
    differing = [
        name
        for name, value in first.named_parameters()
        if not torch.equal(value, other.state_dict()[name])
    ]
    assert any(name.startswith("embedding.0.convolutions") for name in differing)
    assert any(name.startswith("net.") for name in differing)


def test_initializer_touches_the_embedding_alone():
    theta, x = _data()
    spec = EstimatorSpec.parse(MAPS)
    estimator = build_estimator(spec, theta, x, generator_from_seed(1))
    output = estimator.embedding[0].output
    bound = np.sqrt(6 / output.in_features)
    assert torch.equal(output.bias, torch.full_like(output.bias, 0.01))
    assert 0.99 * bound < float(output.weight.abs().max().detach()) <= bound
    heads = list(estimator.net.parameters())
    assert heads
    assert not any(torch.all(value == 0.01) for value in heads)


def test_building_leaves_the_global_generator_alone():
    theta, x = _data()
    state = torch.get_rng_state()
    build_estimator(EstimatorSpec.parse(MAPS), theta, x, generator_from_seed(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_constant_pixels_do_not_explode():
    """Regression: sbi divides by 1e-7 what never varied in training."""
    theta, x = _data()
    x[:, 1] = 3.0
    spec = EstimatorSpec.parse(MAPS | {"z_score_x": "independent"})
    estimator = build_estimator(spec, theta, x, generator_from_seed(1)).eval()
    standardize = estimator.embedding[0]
    assert standardize.shift.shape == (2, 1, 1)
    scaled = standardize(x)
    assert float(scaled[:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(scaled[:, 0].std()) == pytest.approx(1, abs=1e-3)
    x[:, 1] = 4.0
    assert float(standardize(x)[:, 1].abs().max()) == pytest.approx(1.0)


def test_vectors_need_no_embedding(small_estimator):
    estimator, _, theta, x = small_estimator("mdn", z_score_x="independent")
    scaled = estimator.embed(x)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert estimator.log_prob(theta[None], x).shape == (1, 40)


@pytest.mark.parametrize("labels", [1, 2, 3, 7])
@pytest.mark.parametrize("model", DENSITIES)
def test_every_label_depends_on_x_S10(model, labels):
    """Regression: in sbi's maf, permutations may leave one label in front that never sees x."""
    generator = generator_from_seed(0)
    theta, x = torch.rand(20, labels, generator=generator), torch.zeros(20, 3)
    x[10:] = 1.0
    spec = EstimatorSpec.parse(
        {
            "model": model,
            "num_transforms": 2,
            "x_shape": [3],
            "dimension": labels,
        }
    )
    # only the permutations of maf are random
    for seed in range(20 if model == "maf" else 2):
        estimator = build_estimator(spec, theta, x, generator_from_seed(seed))
        with torch.no_grad():
            for value in estimator.parameters():
                value += 0.3 * torch.randn(value.shape, generator=generator)
            first, second = (
                _sample_from_fixed_noise(estimator, value) for value in (x[:1], x[-1:])
            )
        assert bool(((first - second).abs() > 1e-6).any(0).all()), seed


def _sample_from_fixed_noise(estimator, x):
    with lend(generator_from_seed(5)):
        return estimator.sample(torch.Size([50]), x)[:, 0]


@pytest.mark.parametrize("model", ["maf", "nsf", "zuko_nice"])
def test_one_transform_that_hides_x_is_refused(model):
    """Its first label, or half of them, could not see x."""
    with pytest.raises(ConfigError, match="num_transforms of at least 2, or one label ignores x"):
        EstimatorSpec.parse(MAPS | {"model": model, "num_transforms": 1})
    one = {"x_shape": (2,), "dimension": 1, "num_transforms": 1}
    assert EstimatorSpec.parse(one | {"model": model}).num_transforms == 1


@pytest.mark.parametrize("model", ["zuko_maf", "zuko_nsf", "zuko_bpf"])
def test_one_transform_that_sees_x_everywhere(model):
    spec = EstimatorSpec.parse(
        {
            "model": model,
            "num_transforms": 1,
            "x_shape": [3],
            "dimension": 3,
        }
    )
    x = torch.stack([torch.zeros(3), torch.ones(3)])
    estimator = build_estimator(spec, torch.rand(2, 3), x, generator_from_seed(0))
    with torch.no_grad():
        for value in estimator.parameters():
            value += 0.3 * torch.randn(value.shape, generator=generator_from_seed(1))
        first, second = (_sample_from_fixed_noise(estimator, value[None]) for value in x)
    assert bool(((first - second).abs() > 1e-6).any(0).all())


@pytest.mark.parametrize("kind", ["posterior", "likelihood"])
@pytest.mark.parametrize("model", DENSITIES)
def test_hyperparameters_are_honoured_S10(small_estimator, model, kind):
    def size(**changes):
        estimator, *_ = small_estimator(model, kind=kind, **changes)
        return sum(value.numel() for value in estimator.parameters())

    plain = size()
    changes = {"hidden_features": 11, "num_components": 5, "num_transforms": 3, "num_bins": 6}
    changed = {name for name, value in changes.items() if size(**{name: value}) != plain}
    assert changed == set(DENSITIES[model].arguments)


@pytest.mark.parametrize("model", DENSITIES)
def test_one_parameter(model):
    spec = EstimatorSpec.parse({"model": model, "x_shape": (2,), "dimension": 1})
    theta = torch.rand(20, 1)
    estimator = build_estimator(spec, theta, torch.rand(20, 2), generator_from_seed(0))
    assert torch.isfinite(estimator.loss(theta, torch.rand(20, 2))).all()


@pytest.mark.parametrize(
    ("theta", "x", "message"),
    [
        (torch.zeros(5, 2), torch.zeros(5, 2, 16, 16), r"theta \(n, 3\).*\(5, 2\)"),
        (torch.zeros(5, 3), torch.zeros(5, 1, 16, 16), r"x \(n, 2, 16, 16\).*\(5, 1, 16, 16\)"),
        (torch.zeros(4, 3), torch.zeros(5, 2, 16, 16), "training data"),
        (torch.zeros(1, 3), torch.zeros(1, 2, 16, 16), "at least 2 simulations, but got 1"),
    ],
)
def test_bad_data(theta, x, message):
    with pytest.raises(DataError, match=message):
        build_estimator(EstimatorSpec.parse(MAPS), theta, x, generator_from_seed(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "zuko_unaf"}, "model: must be one of .*'zuko_nsf'.*found 'zuko_unaf'"),
        ({"model": "resnet"}, "model of a posterior must be one of mdn.*found resnet"),
        ({"kind": "ratio", "model": "maf"}, "model of a ratio must be one of linear.*found maf"),
        ({"kind": "likelihood"}, "needs vectors, found x_shape .2, 16, 16. with an embedding"),
        ({"num_bins": 1}, "num_bins"),
        ({"dimension": 0}, "dimension: must be at least 1, found 0"),
        ({"schema_version": 1}, "schema_version"),
        ({"x_shape": [0]}, "must be positive"),
        ({"hidden_features": 0}, "hidden_features"),
        ({"hiden_features": 3}, "did you mean 'hidden_features'"),
    ],
)
def test_bad_spec(change, message):
    with pytest.raises(ConfigError, match=message):
        EstimatorSpec.parse(MAPS | change)
