"""Where networks compute."""

import logging
from itertools import chain

import torch
from torch import nn

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")


def network_device(n_gpu: int) -> torch.device:
    """Return the first GPU if any is asked for and there is one, else the CPU."""
    available = torch.cuda.device_count()
    if n_gpu > available:
        used = available or "the CPU"
        logger.warning("n_gpu: %d asked for, %d found; using %s", n_gpu, available, used)
    return torch.device("cuda:0" if min(n_gpu, available) > 0 else "cpu")


class OnDevice:
    """Lets a torch module tell where it computes."""

    @property
    def device(self) -> torch.device:
        """Where its weights are: the CPU if it holds none."""
        assert isinstance(self, nn.Module)
        held = chain(self.parameters(), self.buffers())
        return next((values.device for values in held), CPU)
