"""How the weights of a network start.

Only fully connected layers are touched, as in the reference; convolutions join with
`include_conv`. In all formulas n is the number of inputs of one output value.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn

from mlpop.config.registry import Registry
from mlpop.errors import ConfigError

Rule = Callable[[Tensor, Generator], None]


def kaiming(weight: Tensor, generator: Generator) -> None:
    """U(-b, b) with b = sqrt(6 / n): keeps the variance through ReLU layers.

    References:
        He et al. 2015, https://arxiv.org/abs/1502.01852
    """
    nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)


def normal(weight: Tensor, generator: Generator) -> None:
    """Normal with mean 0 and standard deviation 1 / sqrt(n)."""
    nn.init.normal_(weight, std=1 / math.sqrt(_fan_in(weight)), generator=generator)


def uniform(weight: Tensor, generator: Generator) -> None:
    """U(0, 1)."""
    nn.init.uniform_(weight, generator=generator)


def uniform_rule(weight: Tensor, generator: Generator) -> None:
    """U(-1 / sqrt(n), 1 / sqrt(n))."""
    bound = 1 / math.sqrt(_fan_in(weight))
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def xavier(weight: Tensor, generator: Generator) -> None:
    """U(-a, a) with a = sqrt(6 / (n_in + n_out)).

    References:
        Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html
    """
    nn.init.xavier_uniform_(weight, generator=generator)


INITIALIZERS: Mapping[str, tuple[Rule, float]] = {
    "InitializerKaiming": (kaiming, 0.01),
    "InitializerNormal": (normal, 0.0),
    "InitializerUniform": (uniform, 0.0),
    "InitializerUniformRule": (uniform_rule, 0.0),
    "InitializerXavier": (xavier, 0.01),
}
"""Rule for the weights and value of the biases, by configuration name."""


class Initializer(ABC):
    """An initializer of your own: a subclass, named `package.module:Class` or by entry point."""

    @abstractmethod
    def __call__(self, module: nn.Module, generator: Generator) -> None:
        """Change the weights of one module in place; called for every module of a network."""


OWN_INITIALIZERS = Registry(
    "weights_initializer.type", "initializer", Initializer, "mlpop.initializers"
)


def check_initializer(name: str) -> None:
    """Refuse a name that is no initializer.

    Raises:
        ConfigError: listing what is allowed.
    """
    if name in INITIALIZERS:
        return
    if ":" not in name and name not in OWN_INITIALIZERS.names():
        allowed = [*INITIALIZERS, *OWN_INITIALIZERS.names()]
        raise ConfigError(
            f"weights_initializer.type: unknown initializer '{name}'; "
            f"allowed: {', '.join(allowed)}, or your own class as 'package.module:Class'"
        )
    OWN_INITIALIZERS.find(name)


def initialize(
    network: nn.Module, name: str, generator: Generator, *, include_conv: bool = False
) -> None:
    """Draw new weights for the fully connected layers of `network` in place.

    The `name` is a key of `INITIALIZERS`, or says a class derived from `Initializer`. With
    `include_conv` the convolutions are changed too.

    Raises:
        ConfigError: unknown name.
    """
    check_initializer(name)
    own = None if name in INITIALIZERS else OWN_INITIALIZERS.build(name, {})
    with torch.no_grad():
        for module in network.modules():
            if own is not None:
                own(module, generator)
            elif type(module) is nn.Linear or (include_conv and isinstance(module, nn.Conv2d)):
                rule, bias = INITIALIZERS[name]
                rule(module.weight, generator)
                if module.bias is not None:
                    module.bias.fill_(bias)


def _fan_in(weight: Tensor) -> int:
    return int(weight[0].numel())
