"""The multi-layer perceptron of point estimates: pixels to labels."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from mlpop.errors import ConfigError
from mlpop.networks.convolutional import check_input, check_sizes
from mlpop.networks.registry import register


@register("ModelLinear")
class ModelLinear(nn.Module):
    """Fully connected layers on the flattened maps, ReLU between them, a linear output.

    The reference has a single layer and a ReLU on the output, which cannot predict a negative
    value; `hidden: []` gives its single layer without that ReLU.

    Args:
        input_shape: (channels, height, width) of one input.
        num_parameters: length of the output vector.
        hidden: sizes of the hidden layers.

    Raises:
        ConfigError: a size is not positive.
    """

    def __init__(
        self, input_shape: Sequence[int], num_parameters: int = 1, hidden: Sequence[int] = (64,)
    ) -> None:
        super().__init__()
        check_sizes(input_shape, num_parameters)
        if any(size < 1 for size in hidden):
            raise ConfigError(f"arch.args.hidden must all be at least 1, but got {list(hidden)}")
        self.input_shape = tuple(input_shape)
        sizes = [prod(input_shape), *hidden, num_parameters]
        layers: list[nn.Module] = [nn.Flatten()]
        for size, following in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(size, following), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, num_parameters) of the maps `x` (n, channels, h, w).

        Raises:
            ConfigError: `x` does not have the shape that the network was built for.
        """
        check_input(self, x, self.input_shape)
        return self.layers(x)
