"""Explicit random generators, and sums that do not depend on the number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlpop.networks.rng import generator_from_seed, lend

__all__ = ["generator_from_seed", "lend", "one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread, so that sums come out the same bits in any process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
