"""Shift and scale of data before a network sees them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mlpop.config.blocks.network import ZScore
from mlpop.io.scratch import BLOCK, LARGE


class Standardize(nn.Module):
    """Subtract `shift` and divide by `scale`; both broadcast against one x."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardized `x` (n, ...)."""
        return (x - self.shift) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """Return the x (n, ...) of standardized `z`."""
        return z * self.scale + self.shift


def standardize(x: Tensor, mode: ZScore) -> Standardize:
    """Return what standardizes data like `x` (n, components or channels, ...).

    What never varies in `x`, next to its own size, is shifted but not scaled: it carries nothing,
    and dividing by rounding errors would make it explode. `none` leaves x as it is.
    """
    if mode == "none":
        return Standardize(torch.zeros_like(x[0]), torch.ones_like(x[0]))
    keep = [] if mode == "structured" else [1]
    over = [axis for axis in range(x.ndim) if axis not in keep]
    if x.nbytes < LARGE:
        values = x.double()
        shift = values.mean(dim=over, keepdim=True)[0]
        scale = values.std(dim=over, keepdim=True, correction=0)[0]
    else:
        shift = _mean(x, over, lambda block: block)
        scale = _mean(x, over, lambda block: (block - shift) ** 2).sqrt()
    scale = torch.where(scale > 1e-7 * shift.abs(), scale, torch.ones_like(scale))
    return Standardize(shift.float(), scale.float())


def _mean(x: Tensor, over: list[int], of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean of `of(x)` over these axes, the first among them, block by block."""
    blocks = x.split(max(1, BLOCK // x[0].nbytes))
    sums = [of(block.double()).sum(dim=over, keepdim=True)[0] for block in blocks]
    count = x.numel() // max(1, sums[0].numel())
    return torch.stack(sums).sum(0) / count
