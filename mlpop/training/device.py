"""Where to train."""

import logging

import torch

logger = logging.getLogger(__name__)


def training_device(n_gpu: int) -> torch.device:
    """Return the first GPU if any is asked for and there is one, else the CPU."""
    available = torch.cuda.device_count()
    if n_gpu > available:
        used = available or "the CPU"
        logger.warning("n_gpu: %d asked for, %d found; using %s", n_gpu, available, used)
    return torch.device("cuda:0" if min(n_gpu, available) > 0 else "cpu")
