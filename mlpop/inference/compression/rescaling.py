"""What happens to the vectors of a compressor, so that their components are alike."""

from typing import Literal

import torch
from torch import Tensor

from mlpop.config.base import StrictModel
from mlpop.datasets.scaling import Mode
from mlpop.errors import ConfigError, DataError

RescaleMode = Literal["component", "sample", "none"]

_ZERO = 1e-8
"""What the reference puts in the place of a denominator of 0."""
_CONSTANT = 1e-6
"""A component with less than this fraction of the largest standard deviation does not vary."""


class Rescaling(StrictModel):
    """What happens to the vectors afterwards.

    `component` subtracts `shift` from every component and divides it by `scale`, both measured
    on the training set. `sample` is the reference behaviour: every vector is scaled over its own
    components, `standardize` to mean 0 and standard deviation 1 or `normalize` to [0, 1], a
    denominator of 0 becoming 1e-8; the mean and the scale of the vector are lost thereby.
    """

    mode: RescaleMode = "none"
    method: Mode = "none"
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the rescaled `vectors` (b, width)."""
        if self.mode == "component":
            shift, scale = torch.tensor((self.shift, self.scale), dtype=torch.float64)
            return ((vectors.double() - shift) / scale).float()
        if self.mode == "none" or self.method == "none":
            return vectors
        values = vectors.double()
        if self.method == "standardize":
            low = values.mean(1, keepdim=True)
            width = values.std(1, keepdim=True, correction=0)
        else:
            low = values.amin(1, keepdim=True)
            width = values.amax(1, keepdim=True) - low
        return ((values - low) / torch.where(width > 0, width, _ZERO)).float()


def fit_rescaling(vectors: Tensor, mode: RescaleMode, method: Mode) -> Rescaling:
    """Return the rescaling, measured on `vectors` where it depends on them.

    Args:
        vectors: (n, width) of the training set, every component of which varies.
        mode: which.
        method: for `sample`: how the maps were scaled.

    Raises:
        ConfigError: `sample` is asked for vectors of one component, which it would make constant.
    """
    if mode == "sample" and vectors.shape[1] == 1:
        raise ConfigError(
            "compression_input.rescale: 'sample' turns vectors of one component into a constant; "
            "use 'component'"
        )
    if mode != "component":
        return Rescaling(mode=mode, method=method if mode == "sample" else "none")
    values = vectors.double()
    return Rescaling(
        mode=mode,
        shift=tuple(values.mean(0).tolist()),
        scale=tuple(values.std(0, correction=0).tolist()),
    )


def varying(vectors: Tensor) -> tuple[int, ...]:
    """Return the components of `vectors` (n, width) that vary, next to the one that varies most.

    Raises:
        DataError: none does.
    """
    spread = vectors.double().std(0, correction=0)
    columns = tuple((spread > _CONSTANT * spread.max()).nonzero()[:, 0].tolist())
    if not columns:
        raise DataError(
            f"the compressor makes the same vector of all {len(vectors)} training maps: it was "
            "made for other maps, or its network is dead"
        )
    return columns
