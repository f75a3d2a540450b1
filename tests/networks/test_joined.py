"""Maps and numbers in one network: what joins, what sees what, and that it is rebuilt."""

import pytest
import torch

from mlpop.errors import ConfigError
from mlpop.inference.estimators.estimator import build_estimator, empty_estimator
from mlpop.inference.estimators.spec import EmbeddingSpec, EstimatorSpec
from mlpop.networks.joined import JOINED, MapsAndNumbers
from mlpop.networks.registry import output_width
from mlpop.networks.rng import generator_from_seed, lend

MAPS = {"type": "ModelConvSBIshallow", "args": {"input_shape": [2, 8, 8], "len_output_layer": 5}}


def network(layers: tuple[int, ...] = (4, 3)) -> MapsAndNumbers:
    with lend(generator_from_seed(1)):
        return MapsAndNumbers(MAPS, 3, layers)


def x(seed: int = 0) -> torch.Tensor:
    values = torch.randn(6, 5, 8, 8, generator=generator_from_seed(seed))
    values[:, 2:] = values[:, 2:, :1, :1]
    return values


def test_both_outputs_stand_side_by_side() -> None:
    made, seen = network(), x()
    assert output_width(made, (5, 8, 8)) == 5 + 3
    output = made(seen)
    torch.testing.assert_close(output[:, :5], made.maps(seen[:, :2]))
    first, between, last = made.branch
    by_hand = last(between(first(seen[:, 2:, 0, 0])))
    torch.testing.assert_close(output[:, 5:], by_hand)
    # numbers change nothing of what maps give, and the other way round
    other = torch.cat([seen[:, :2], x(1)[:, 2:]], 1)
    torch.testing.assert_close(made(other)[:, :5], output[:, :5])
    assert not torch.allclose(made(other)[:, 5:], output[:, 5:])


def test_numbers_without_layers_are_passed_on() -> None:
    torch.testing.assert_close(network(())(x())[:, 5:], x()[:, 2:, 0, 0])


def test_gradients_reach_every_parameter() -> None:
    made = network()
    # beside dead features of the maps' last ReLU there is always a live one
    made(x()).square().sum().backward()
    for name, value in made.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 number .* but got 0"):
        MapsAndNumbers(MAPS, 0)
    with pytest.raises(ConfigError, match=r"layers of at least 1 unit, but got 3 and \[0\]"):
        MapsAndNumbers(MAPS, 3, (0,))
    with pytest.raises(
        ConfigError, match=r"was built for maps and 3 numbers, but got \(3, 8, 8\)"
    ):
        network()(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match="unknown network 'ModelNone'"):
        MapsAndNumbers({"type": "ModelNone", "args": {}}, 1)


@pytest.mark.parametrize("kind", ["posterior", "ratio"])
def test_an_estimator_with_numbers_is_built_again(kind: str) -> None:
    spec = EstimatorSpec(
        kind=kind,
        model="mdn" if kind == "posterior" else "resnet",
        num_components=2,
        hidden_features=6,
        embedding=EmbeddingSpec(
            type=JOINED,
            args={"maps": MAPS, "numbers": 3, "layers": [4, 3]},
            initializer="InitializerKaiming",
        ),
        x_shape=(5, 8, 8),
        dimension=2,
    )
    theta = torch.rand(6, 2, generator=generator_from_seed(2))
    made = build_estimator(spec, theta, x(), generator_from_seed(3))
    again = empty_estimator(EstimatorSpec.parse(spec.model_dump(mode="json")))
    again.load_state_dict(made.state_dict())
    with torch.no_grad():
        one, two = (e.eval().log_potential(theta[None], x()) for e in (made, again))
    torch.testing.assert_close(one, two)
    # the initializer has drawn the layers of the numbers too
    biases = [v for k, v in made.state_dict().items() if "branch" in k and k.endswith("bias")]
    assert len(biases) == 2
    assert all((bias == 0.01).all() for bias in biases)
