"""The convolutional network of point estimates: maps to labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlpop.errors import ConfigError
from mlpop.networks.registry import register

FILTERS = (32, 64)
HIDDEN = 64
KERNEL = 3


@register("ModelConv")
class ModelConv(nn.Module):
    """Two blocks of 3x3 convolution, ReLU and 2x2 maximum pooling, then two linear layers.

    The convolutions have no padding, so that a block makes h' = floor((h - 2) / 2) of a height
    or width h. The output is linear. The pooling is done before the ReLU, which gives the same
    numbers (both are monotone) for a quarter of the work.

    Args:
        input_shape: (channels, height, width) of one input.
        num_parameters: length of the output vector.

    Raises:
        ConfigError: a size is not positive, or a block would shrink the map to nothing.
    """

    def __init__(self, input_shape: Sequence[int], num_parameters: int = 1) -> None:
        super().__init__()
        check_sizes(input_shape, num_parameters)
        self.input_shape = tuple(input_shape)
        self.conv1 = nn.Conv2d(input_shape[0], FILTERS[0], KERNEL)
        self.conv2 = nn.Conv2d(FILTERS[0], FILTERS[1], KERNEL)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.fc1 = nn.Linear(flattened_size(input_shape), HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, num_parameters)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, num_parameters) of the maps `x` (n, channels, h, w).

        Raises:
            ConfigError: `x` does not have the shape that the network was built for.
        """
        check_input(self, x, self.input_shape)
        x = x.contiguous(memory_format=torch.channels_last)
        x = torch.relu(self.pool(self.conv1(x)))
        x = torch.relu(self.pool(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def flattened_size(input_shape: Sequence[int]) -> int:
    """Return the number of values that the second block hands to the linear layers.

    Args:
        input_shape: (channels, height, width).

    Raises:
        ConfigError: a block would shrink the map to nothing.
    """
    _, height, width = input_shape
    for block in (1, 2):
        height, width = (height - KERNEL + 1) // 2, (width - KERNEL + 1) // 2
        if min(height, width) < 1:
            raise ConfigError(
                f"arch.args.input_shape {list(input_shape)} is too small: block {block} of 2 "
                "would leave nothing of the map; height and width must be at least 10"
            )
    return FILTERS[1] * height * width


def check_sizes(input_shape: Sequence[int], length: int, name: str = "num_parameters") -> None:
    """Refuse an input or a `length` of the output, argument `name`, that is not positive.

    Raises:
        ConfigError: naming the argument.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigError(
            "arch.args.input_shape must be [channels, height, width], all at least 1, "
            f"but got {list(input_shape)}"
        )
    if length < 1:
        raise ConfigError(f"arch.args.{name} must be at least 1, but got {length}")


def check_input(network: nn.Module, x: Tensor, input_shape: tuple[int, ...]) -> None:
    """Refuse maps of another shape than the network was built for.

    Raises:
        ConfigError: naming both shapes.
    """
    if x.shape[1:] != input_shape:
        raise ConfigError(
            f"{type(network).__name__} was built for maps of shape {input_shape}, "
            f"but got {tuple(x.shape[1:])}"
        )
