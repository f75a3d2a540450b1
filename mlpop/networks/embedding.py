"""Convolutional networks that turn the density maps of one population into a short vector."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mlpop.errors import ConfigError
from mlpop.networks.convolutional import check_input, check_sizes
from mlpop.networks.registry import register

Layout = Literal["documented", "reference"]
Activation = Literal["relu", "none"]


class ConvolutionalEmbedding(nn.Module):
    """Blocks of convolution, ReLU and 2x2 maximum pooling, then one fully connected layer.

    Convolutions are 3x3 with padding 1, so that a block halves height and width (rounded down).
    The pooling is done before the ReLU, which gives the same numbers (both are monotone) for a
    quarter of the work, and in channels-last memory order, where it is five times faster.

    Args:
        input_shape: (channels, height, width) of one input.
        filters: output channels of each block, at least one block.
        len_output_layer: length of the output vector.
        final_activation: `relu` as documented, or `none` against dead output features.

    Raises:
        ConfigError: a size is not positive, or a block would shrink the map to nothing.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        filters: Sequence[int],
        len_output_layer: int,
        final_activation: Activation = "relu",
    ) -> None:
        super().__init__()
        check_sizes(input_shape, len_output_layer, "len_output_layer")
        if final_activation not in ("relu", "none"):
            raise ConfigError(
                f"arch.args.final_activation must be 'relu' or 'none', but got "
                f"'{final_activation}'"
            )
        self.input_shape = tuple(input_shape)
        channels = input_shape[0]
        blocks = []
        for count in filters:
            blocks.append(nn.Conv2d(channels, count, kernel_size=3, padding=1))
            channels = count
        self.convolutions = nn.ModuleList(blocks)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.output = nn.Linear(flattened_size(input_shape, filters), len_output_layer)
        self.final_activation = nn.ReLU() if final_activation == "relu" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding (n, len_output_layer) of the maps `x` (n, channels, h, w).

        Raises:
            ConfigError: `x` does not have the shape that the network was built for.
        """
        check_input(self, x, self.input_shape)
        x = x.contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            x = torch.relu(self.pool(convolution(x)))
        return self.final_activation(self.output(x.flatten(1)))


def flattened_size(input_shape: Sequence[int], filters: Sequence[int]) -> int:
    """Return the number of values that the last block hands to the fully connected layer.

    Args:
        input_shape: (channels, height, width).
        filters: output channels of each block.

    Raises:
        ConfigError: a block would shrink the map to nothing.
    """
    _, height, width = input_shape
    for block in range(1, len(filters) + 1):
        height, width = height // 2, width // 2
        if min(height, width) < 1:
            raise ConfigError(
                f"arch.args.input_shape {list(input_shape)} is too small: block {block} of "
                f"{len(filters)} would leave a map of {height} x {width}; height and width must "
                f"be at least {2 ** len(filters)}, or choose a shallower network"
            )
    return filters[-1] * height * width


@register("ModelConvSBI")
class ModelConvSBI(ConvolutionalEmbedding):
    """The default embedding: three blocks as documented, two in the reference's code.

    `filters` are other output channels, one number a block, in place of those of the layout.
    """

    layouts = {"documented": (32, 64, 64), "reference": (32, 64)}

    def __init__(
        self,
        input_shape: Sequence[int],
        len_output_layer: int = 1,
        layout: Layout = "documented",
        final_activation: Activation = "relu",
        filters: Sequence[int] | None = None,
    ) -> None:
        if layout not in self.layouts:
            raise ConfigError(
                f"arch.args.layout must be one of {', '.join(self.layouts)}, but got '{layout}'"
            )
        if filters is None:
            filters = self.layouts[layout]
        super().__init__(input_shape, filters, len_output_layer, final_activation)


@register("ModelConvSBIdeep")
class ModelConvSBIdeep(ModelConvSBI):
    """Four blocks in both layouts."""

    layouts = {"documented": (32, 32, 64, 64), "reference": (32, 32, 64, 64)}


@register("ModelConvSBIshallow")
class ModelConvSBIshallow(ModelConvSBI):
    """Two blocks as documented, one in the reference's code."""

    layouts = {"documented": (32, 64), "reference": (64,)}
