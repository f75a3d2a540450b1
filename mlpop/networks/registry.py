"""Networks by name: what a configuration's `arch.type` may say."""

import torch
from torch import nn

from mlpop.config.registry import Registry
from mlpop.errors import ConfigError

NETWORKS = Registry("arch.type", "network", nn.Module, "mlpop.networks")
"""Weights of a network that is built are PyTorch's default, drawn from torch's global generator:
`mlpop.networks.rng.lend` draws them from a generator of your own."""

register, names, find, build = NETWORKS.register, NETWORKS.names, NETWORKS.find, NETWORKS.build


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
