"""Draws from a density at many embeddings of x at once."""

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
    with lend(generator, member.device):
        return torch.cat(
            [
                torch.cat(
                    [
                        member.net.sample(torch.Size((min(ROWS, num_samples - first),)), chunk)
                        for first in range(0, num_samples, ROWS)
                    ]
                )
                for chunk in embedding.split(lot)
            ],
            dim=1,
        ).cpu()
