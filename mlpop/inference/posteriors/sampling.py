"""Draws from a density at many embeddings of x at once."""

import gc

import torch
from torch import Generator, Tensor

from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.networks.rng import lend

ROWS = 100_000
"""Draws or densities that are computed at once; bounds the memory."""


@torch.no_grad()
def sample_density(
    member: EmbedOnce, embedding: Tensor, num_samples: int, generator: Generator
) -> Tensor:
    """Draw theta (num_samples, b, d), in the unit cube, given every `embedding` (b, e).

    The member draws where it is; the draws come back to the CPU.
    """
    lot = max(1, ROWS // max(1, num_samples))
    counts = [min(ROWS, num_samples - first) for first in range(0, num_samples, ROWS)]
    with lend(generator, member.device):
        return torch.cat(
            [
                torch.cat([_drawn(member, count, chunk) for count in counts])
                for chunk in embedding.split(lot)
            ],
            dim=1,
        ).cpu()


def _drawn(member: EmbedOnce, count: int, embedding: Tensor) -> Tensor:
    """Draw (count, b, d), and free what it took.

    A transform of torch and its inverse refer to each other, so what a flow has computed on the
    way, a gigabyte of splines, stays until the collector runs, which counts objects, not bytes.
    Meanwhile nothing is collected: all of it is then of the youngest generation.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return member.net.sample(torch.Size((count,)), embedding)
    finally:
        if enabled:
            gc.enable()
        gc.collect(0)
