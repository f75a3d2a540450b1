"""Networks that compress maps, and how their weights start."""

from mlpop.networks.convolutional import ModelConv
from mlpop.networks.embedding import (
    ConvolutionalEmbedding,
    ModelConvSBI,
    ModelConvSBIdeep,
    ModelConvSBIshallow,
)
from mlpop.networks.initializers import INITIALIZERS, Initializer, check_initializer, initialize
from mlpop.networks.linear import ModelLinear
from mlpop.networks.registry import build, find, names, output_width, register

__all__ = [
    "INITIALIZERS",
    "ConvolutionalEmbedding",
    "Initializer",
    "ModelConv",
    "ModelConvSBI",
    "ModelConvSBIdeep",
    "ModelConvSBIshallow",
    "ModelLinear",
    "build",
    "check_initializer",
    "find",
    "initialize",
    "names",
    "output_width",
    "register",
]
