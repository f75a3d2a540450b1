import sys
import types

import pytest
from torch import nn

from mlpop.errors import ConfigError
from mlpop.networks.embedding import ModelConvSBI
from mlpop.networks.registry import build, find, names, output_width, register


class Mean(nn.Module):
    """One number a channel."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * x.mean((2, 3))


@pytest.fixture
def user_module(monkeypatch):
    module = types.ModuleType("user_networks")
    module.Mean = Mean
    module.number = 3
    monkeypatch.setitem(sys.modules, "user_networks", module)


def test_documented_names_are_registered():
    assert {"ModelConvSBI", "ModelConvSBIdeep", "ModelConvSBIshallow"} <= set(names())


def test_name_cannot_be_taken_twice():
    assert find("ModelConvSBI") is ModelConvSBI
    register("ModelConvSBI")(ModelConvSBI)
    with pytest.raises(ConfigError, match="'ModelConvSBI' is already taken"):
        register("ModelConvSBI")(Mean)
    assert find("ModelConvSBI") is ModelConvSBI


@pytest.mark.usefixtures("user_module")
def test_own_class_by_path():
    network = build("user_networks:Mean", {"scale": 2.0})
    assert isinstance(network, Mean)
    assert output_width(network, (4, 8, 8)) == 4


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ModelConvSB",
            "unknown network 'ModelConvSB'; allowed: .*ModelConvSBIdeep.*did you mean",
        ),
        ("no_such_module:Net", "'no_such_module:Net' cannot be imported"),
        ("user_networks:Missing", "cannot be imported"),
        ("user_networks:number", "not a subclass of torch.nn.Module"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(ConfigError, match=message):
        find(name)


def test_unknown_argument_lists_the_allowed():
    with pytest.raises(ConfigError, match="ModelConvSBI.*'kernel'.*len_output_layer"):
        build("ModelConvSBI", {"input_shape": [3, 32, 32], "kernel": 5})


def test_network_must_return_vectors():
    with pytest.raises(ConfigError, match="one vector an input"):
        output_width(nn.Identity(), (3, 8, 8))
    with pytest.raises(ConfigError, match=r"cannot take inputs of shape \(3, 8, 8\)"):
        output_width(nn.Linear(5, 2), (3, 8, 8))
