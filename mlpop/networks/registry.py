"""Networks by name: what a configuration's `arch.type` may say."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from mlpop.errors import ConfigError
from mlpop.networks.plugins import Registry

Network = TypeVar("Network", bound=type[nn.Module])

_NETWORKS = Registry("arch.type", "network", nn.Module, "mlpop.networks")


def register(name: str) -> Callable[[Network], Network]:
    """Class decorator that makes a network known as `name`.

    Raises:
        ConfigError: another class already has this name.
    """
    return _NETWORKS.register(name)


def names() -> tuple[str, ...]:
    """Return the names of all networks, sorted."""
    return _NETWORKS.names()


def find(name: str) -> type[nn.Module]:
    """Return the network class called `name`.

    It is a registered name, an entry point of the group `mlpop.networks` in any installed
    package, or `package.module:Class`.

    Raises:
        ConfigError: no such name, module or class, or the class is no `torch.nn.Module`.
    """
    return _NETWORKS.find(name)


def build(name: str, args: Mapping[str, Any]) -> nn.Module:
    """Build the network `name` with the keyword arguments `args`.

    Weights are PyTorch's default, drawn from torch's global generator: wrap the call in
    `mlpop.networks.rng.lend` to draw them from a generator of your own.

    Raises:
        ConfigError: unknown network, or arguments that its constructor refuses.
    """
    return _NETWORKS.build(name, args)


def output_width(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the length of the vector that `network` makes of one input of `input_shape`.

    Raises:
        ConfigError: the network cannot take this shape, or does not return vectors.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            output = network(torch.zeros(2, *input_shape))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the network cannot take inputs of shape {input_shape}: {error}"
        ) from None
    finally:
        network.train(training)
    if output.ndim != 2 or len(output) != 2:
        raise ConfigError(
            f"the network must return one vector an input, shape (2, n) for two inputs; "
            f"found {tuple(output.shape)}"
        )
    return int(output.shape[1])
