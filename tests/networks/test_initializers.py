import math

import pytest
import torch
from torch import nn

from mlpop.errors import ConfigError
from mlpop.networks.initializers import INITIALIZERS, initialize

INPUTS, OUTPUTS = 2304, 100


def _initialized(name, **options):
    layer = nn.Linear(INPUTS, OUTPUTS).requires_grad_(False)
    initialize(layer, name, torch.Generator().manual_seed(3), **options)
    assert layer.weight.numel() > 1e5
    return layer


@pytest.mark.parametrize(
    ("name", "low", "high", "bias"),
    [
        ("InitializerKaiming", -0.0510310, 0.0510310, 0.01),
        ("InitializerUniform", 0, 1, 0),
        ("InitializerUniformRule", -1 / 48, 1 / 48, 0),
        (
            "InitializerXavier",
            -math.sqrt(6 / (INPUTS + OUTPUTS)),
            math.sqrt(6 / (INPUTS + OUTPUTS)),
            0.01,
        ),
    ],
)
def test_uniform_bounds_A3(name, low, high, bias):
    layer = _initialized(name)
    width = high - low
    assert low <= float(layer.weight.min()) < low + 1e-3 * width
    assert high - 1e-3 * width < float(layer.weight.max()) <= high + 1e-7
    assert float(layer.weight.mean()) == pytest.approx((low + high) / 2, abs=4e-3 * width)
    assert float(layer.weight.std()) == pytest.approx(width / math.sqrt(12), rel=0.01)
    assert torch.equal(layer.bias, torch.full((OUTPUTS,), bias))


def test_normal_A3():
    layer = _initialized("InitializerNormal")
    assert float(layer.weight.std()) == pytest.approx(1 / 48, rel=0.01)
    assert float(layer.weight.mean()) == pytest.approx(0, abs=1e-3 / 48 * 10)
    assert float((layer.weight.abs() < 1 / 48).float().mean()) == pytest.approx(0.6827, abs=0.01)
    assert not layer.bias.any()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_convolutions_only_on_request(name):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4))
    before = network[0].weight.clone()
    initialize(network, name, torch.Generator().manual_seed(0))
    assert torch.equal(network[0].weight, before)
    initialize(network, name, torch.Generator().manual_seed(0), include_conv=True)
    assert not torch.equal(network[0].weight, before)
    fan_in = 27
    if name == "InitializerUniformRule":
        assert float(network[0].weight.detach().abs().max()) <= 1 / math.sqrt(fan_in)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_generator_alone_decides(name):
    first, second, third = (nn.Linear(20, 10, bias=False) for _ in range(3))
    state = torch.get_rng_state()
    initialize(first, name, torch.Generator().manual_seed(5))
    initialize(second, name, torch.Generator().manual_seed(5))
    initialize(third, name, torch.Generator().manual_seed(6))
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, third.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_name_lists_the_known():
    with pytest.raises(ConfigError, match="'InitializerGlorot'.*InitializerKaiming.*Xavier"):
        initialize(nn.Linear(1, 1), "InitializerGlorot", torch.Generator())
