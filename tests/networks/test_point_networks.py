"""ModelConv and ModelLinear: sizes, parameter counts, agreement with the plain formula."""

import sys
import types

import pytest
import torch
from torch import nn
from torch.nn import functional

from mlpop.errors import ConfigError
from mlpop.networks.convolutional import ModelConv, flattened_size
from mlpop.networks.initializers import Initializer, check_initializer, initialize
from mlpop.networks.linear import ModelLinear
from mlpop.networks.registry import build, find


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_A2_N04():
    assert count(ModelConv((3, 32, 32), 2)) == 167_042
    assert count(ModelLinear((3, 32, 32), 2)) == 196_802
    assert count(ModelLinear((3, 32, 32), 2, hidden=[])) == 6_146


@pytest.mark.parametrize(
    ("shape", "flat"), [((3, 32, 32), 2304), ((3, 64, 128), 26_880), ((3, 64, 64), 12_544)]
)
def test_first_linear_layer_A2_N20(shape, flat):
    assert flattened_size(shape) == flat
    assert ModelConv(shape, 2).fc1.in_features == flat


@pytest.mark.parametrize("size", [(10, 10), (11, 13), (32, 16)])
def test_convolution_is_the_documented_one_N04(size):
    network = ModelConv((2, *size), 3)
    x = torch.randn(4, 2, *size, generator=torch.Generator().manual_seed(0))
    h = functional.max_pool2d(functional.relu(network.conv1(x)), 2)
    h = functional.max_pool2d(functional.relu(network.conv2(h)), 2)
    expected = network.fc2(functional.relu(network.fc1(h.flatten(1))))
    torch.testing.assert_close(network(x), expected)
    assert network.conv1.padding == (0, 0)


def test_outputs_may_be_negative_D2():
    torch.manual_seed(0)
    for network in (ModelConv((1, 12, 12), 2), ModelLinear((1, 12, 12), 2)):
        outputs = network(torch.randn(64, 1, 12, 12))
        assert outputs.shape == (64, 2)
        assert bool((outputs < 0).any())
        assert bool((outputs > 0).any())
        for parameter in network.parameters():
            assert parameter.grad is None
        outputs.square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: ModelConv((3, 9, 32)), "too small: block 2 of 2"),
        (lambda: ModelConv((3, 32)), "input_shape must be"),
        (lambda: ModelConv((3, 32, 32), 0), "num_parameters must be at least 1"),
        (lambda: ModelLinear((3, 8, 8), 2, hidden=[0]), "hidden must all be at least 1"),
        (lambda: ModelConv((1, 12, 12))(torch.zeros(1, 1, 12, 13)), "was built for maps"),
        (lambda: ModelLinear((1, 12, 12))(torch.zeros(1, 2, 12, 12)), "was built for maps"),
    ],
)
def test_bad_sizes_name_the_field(build_it, message):
    with pytest.raises(ConfigError, match=message):
        build_it()


def test_registered_by_name_N04_N05():
    assert find("ModelConv") is ModelConv
    assert isinstance(build("ModelLinear", {"input_shape": [1, 4, 4]}), ModelLinear)


class Ones(Initializer):
    """Every linear weight is 1."""

    def __call__(self, module: nn.Module, generator: torch.Generator) -> None:
        if isinstance(module, nn.Linear):
            module.weight.fill_(1)


def test_own_initializer_N06(monkeypatch):
    module = types.ModuleType("user_initializers")
    module.Ones = Ones
    module.Wrong = nn.Linear
    monkeypatch.setitem(sys.modules, "user_initializers", module)
    network = ModelConv((1, 12, 12))
    initialize(network, "user_initializers:Ones", torch.Generator())
    assert bool((network.fc1.weight == 1).all())
    assert not bool((network.conv1.weight == 1).any())
    with pytest.raises(ConfigError, match="not a subclass of .*Initializer"):
        check_initializer("user_initializers:Wrong")
    with pytest.raises(ConfigError, match="unknown initializer 'Kaiming'; allowed: Initializer"):
        check_initializer("Kaiming")


def test_entry_point_makes_a_network_known_N05(monkeypatch):
    import importlib.metadata as metadata

    point = metadata.EntryPoint("Mine", "mlpop.networks.linear:ModelLinear", "mlpop.networks")
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [point] if group == "mlpop.networks" else []
    )
    assert find("Mine") is ModelLinear
    with pytest.raises(ConfigError, match="allowed: .*Mine"):
        find("Other")
