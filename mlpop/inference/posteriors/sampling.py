"""Draws from a density at many embeddings of x at once."""

import gc

import torch
from torch import Generator, Tensor

from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.networks.rng import lend

ROWS = 20_000
"""Draws or densities that a CPU computes at once: bounds the memory, and fits into caches."""

DEVICE_ROWS = 100_000
"""The same of a GPU, which larger lots keep busy."""


def rows_at_once(device: torch.device) -> int:
    """Return how many draws or densities are computed at once."""
    return ROWS if device.type == "cpu" else DEVICE_ROWS


@torch.no_grad()
def sample_density(
    member: EmbedOnce, embedding: Tensor, num_samples: int, generator: Generator
) -> Tensor:
    """Draw theta (num_samples, b, d), in the unit cube, given every `embedding` (b, e).

    The member draws where it is; the draws come back to the CPU.
    """
    rows = rows_at_once(member.device)
    lot = max(1, rows // max(1, num_samples))
    counts = [min(rows, num_samples - first) for first in range(0, num_samples, rows)]
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
