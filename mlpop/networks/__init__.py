"""Networks that compress maps, and how their weights start."""

# each of them registers its networks
from mlpop.networks import convolutional, embedding, joined, linear  # noqa: F401
from mlpop.networks.initializers import Initializer

__all__ = ["Initializer"]
