"""Networks by name: what a configuration's `arch.type` may say."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from mlpop.errors import ConfigError

Network = TypeVar("Network", bound=type[nn.Module])

_NETWORKS: dict[str, type[nn.Module]] = {}


def register(name: str) -> Callable[[Network], Network]:
    """Class decorator that makes a network known as `name`.

    Raises:
        ConfigError: another class already has this name.
    """

    def add(network: Network) -> Network:
        if _NETWORKS.get(name, network) is not network:
            raise ConfigError(f"arch.type '{name}' is already taken by {_NETWORKS[name]!r}")
        _NETWORKS[name] = network
        return network

    return add


def names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_NETWORKS))


def find(name: str) -> type[nn.Module]:
    """Return the network class called `name`: a registered name or `package.module:Class`.

    Raises:
        ConfigError: no such name, module or class, or the class is no `torch.nn.Module`.
    """
    if name in _NETWORKS:
        return _NETWORKS[name]
    module_name, separator, class_name = name.partition(":")
    if not separator:
        raise ConfigError(
            f"arch.type: unknown network '{name}'; allowed: {', '.join(names())}, "
            "or your own class as 'package.module:Class'"
        )
    try:
        network = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"arch.type: '{name}' cannot be imported: {error}") from None
    if not (inspect.isclass(network) and issubclass(network, nn.Module)):
        raise ConfigError(f"arch.type: '{name}' is not a subclass of torch.nn.Module")
    return network


def build(name: str, args: Mapping[str, Any]) -> nn.Module:
    """Build the network `name` with the keyword arguments `args`.

    Weights are PyTorch's default, drawn from torch's global generator: wrap the call in
    `mlpop.inference.rng.lend` to draw them from a generator of your own.

    Raises:
        ConfigError: unknown network, or arguments that its constructor refuses.
    """
    network = find(name)
    try:
        inspect.signature(network).bind(**args)
    except TypeError as error:
        allowed = ", ".join(inspect.signature(network).parameters)
        raise ConfigError(f"arch.args of {name}: {error}; allowed: {allowed}") from None
    return network(**args)


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
