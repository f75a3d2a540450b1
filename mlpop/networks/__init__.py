"""Networks that compress maps, and how their weights start."""

from mlpop.networks.embedding import (
    ConvolutionalEmbedding,
    ModelConvSBI,
    ModelConvSBIdeep,
    ModelConvSBIshallow,
)
from mlpop.networks.initializers import INITIALIZERS, initialize
from mlpop.networks.registry import build, find, names, output_width, register

__all__ = [
    "INITIALIZERS",
    "ConvolutionalEmbedding",
    "ModelConvSBI",
    "ModelConvSBIdeep",
    "ModelConvSBIshallow",
    "build",
    "find",
    "initialize",
    "names",
    "output_width",
    "register",
]
