"""Maps and numbers together: an embedding network, and a small branch beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlpop.errors import ConfigError
from mlpop.networks.registry import build, register

JOINED = "MapsAndNumbers"


@register(JOINED)
class MapsAndNumbers(nn.Module):
    """An embedding network for maps, and layers for numbers, whose outputs stand side by side.

    A number comes as a channel behind those of the maps, which it fills.

    Args:
        maps: `type` and `args` of the network for the maps alone.
        numbers: how many of the last channels are numbers.
        layers: widths of the fully connected layers that the numbers go through, with a ReLU
            between them; none passes them on as they are.

    Raises:
        ConfigError: there is no number, or a width is not positive.
    """

    def __init__(self, maps: Mapping[str, Any], numbers: int, layers: Sequence[int] = ()) -> None:
        super().__init__()
        if numbers < 1 or min(layers, default=1) < 1:
            raise ConfigError(
                f"{JOINED} needs at least 1 number and layers of at least 1 unit, but got "
                f"{numbers} and {list(layers)}"
            )
        self.num_numbers = numbers
        self.maps = build(str(maps["type"]), dict(maps["args"]))
        branch: list[nn.Module] = []
        for place, width in enumerate(layers):
            if place:
                branch.append(nn.ReLU())
            branch.append(nn.Linear(numbers if not place else layers[place - 1], width))
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, e) of `x` (n, channels, h, w): of the maps first, then of the numbers.

        Raises:
            ConfigError: `x` has no more channels than there are numbers.
        """
        if x.ndim != 4 or x.shape[1] <= self.num_numbers:
            raise ConfigError(
                f"{JOINED} was built for maps and {self.num_numbers} numbers, but got "
                f"{tuple(x.shape[1:])}"
            )
        maps, numbers = x[:, : -self.num_numbers], x[:, -self.num_numbers :, 0, 0]
        return torch.cat([self.maps(maps), self.branch(numbers)], 1)
