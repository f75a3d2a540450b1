"""Explicit random generators, and sums that do not depend on the number of threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator

_GLOBAL_GENERATOR = threading.RLock()


def generator_from_seed(seed: int) -> Generator:
    """Return a new CPU generator that starts at `seed`."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def lend(generator: Generator) -> Iterator[None]:
    """Let libraries that draw from torch's global generator draw from `generator`.

    The global generator gets its own state back afterwards, also after an error, and
    `generator` has advanced as if it had been drawn from directly. One thread at a time may be
    inside. Inside, draw from `generator`, of the CPU, only through the global one.
    """
    with _GLOBAL_GENERATOR:
        global_state = torch.get_rng_state()
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())
            torch.set_rng_state(global_state)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread, so that sums come out the same bits in any process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
