"""Where to train."""

import logging

import torch

logger = logging.getLogger(__name__)


def training_device(n_gpu: int) -> torch.device:
    """Return the first GPU if any is asked for and there is one, else the CPU."""
    found = torch.cuda.device_count()
    if n_gpu > found:
        logger.warning("n_gpu: %d asked for, %d found; using %s", n_gpu, found, found or "the CPU")
    return torch.device("cuda:0" if min(n_gpu, found) > 0 else "cpu")
