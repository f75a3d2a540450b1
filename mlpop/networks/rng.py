"""Explicit random generators, and sums that do not depend on the number of threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator

from mlpop.networks.device import CPU

_GLOBAL_GENERATOR = threading.RLock()


def generator_from_seed(seed: int) -> Generator:
    """Return a new CPU generator that starts at `seed`."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def lend(generator: Generator, device: torch.device = CPU) -> Iterator[None]:
    """Let libraries that draw from torch's global generators draw from `generator`.

    The global generator of the CPU gets its own state back afterwards, also after an error, and
    `generator` has advanced as if it had been drawn from directly. Draws on another `device` come
    from a seed that the state of `generator` gives, and leave no trace there; a block that draws
    nothing on the CPU advances `generator` too. One thread at a time may be inside. Inside, draw
    from `generator`, of the CPU, only through the global one.
    """
    with _GLOBAL_GENERATOR:
        global_state = torch.get_rng_state()
        torch.set_rng_state(generator.get_state())
        try:
            with _seeded(device, generator):
                yield
        finally:
            generator.set_state(torch.get_rng_state())
            torch.set_rng_state(global_state)


@contextmanager
def _seeded(device: torch.device, generator: Generator) -> Iterator[None]:
    """Start the global generator of a device that is not the CPU at a seed from `generator`."""
    if device.type == "cpu":
        yield
        return
    lent_state = torch.get_rng_state()
    accelerator = torch.get_device_module(device)
    own_state = accelerator.get_rng_state(device)
    # `generator` itself does not count until it has its state back
    accelerator.manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
    try:
        yield
    finally:
        accelerator.set_rng_state(own_state, device)
        if torch.equal(torch.get_rng_state(), lent_state):
            torch.rand(())


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread, so that sums come out the same bits in any process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
