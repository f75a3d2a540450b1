"""The curves of a trial as TensorBoard events."""

import math
import time
from pathlib import Path
from typing import Any

from torch import nn

from mlpop.regression.learner import Epoch

HISTOGRAM_SECONDS = 10.0
"""Least time between two sets of histograms, which take longer than a short epoch."""

PARTS = {"train": "train", "train_eval": "training_denormalized", "valid": "validation"}
"""Part of an epoch's record -> the last part of its tags, as the reference names them."""


class Board:
    """Writes events: `<name>/train`, `/training_denormalized`, `/validation`, `steps_per_sec`.

    Args:
        folder: of the events.
        epoch: the last epoch that is there already; later ones are hidden from view.
    """

    def __init__(self, folder: Path, epoch: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = epoch + 1 if epoch else None
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge)
        self._histograms_at = -math.inf

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def add(self, record: Epoch, network: nn.Module | None = None) -> None:
        """Write an epoch, and now and then histograms of the parameters of `network`."""
        for part, word in PARTS.items():
            for name, value in (getattr(record, part) or {}).items():
                self._writer.add_scalar(f"{name}/{word}", value, record.epoch)
        self._writer.add_scalar("lr", record.lr, record.epoch)
        if record.seconds > 0:
            self._writer.add_scalar("steps_per_sec", 1 / record.seconds, record.epoch)
        due = time.monotonic() - self._histograms_at >= HISTOGRAM_SECONDS
        if network is not None and due:
            self._histograms_at = time.monotonic()
            for name, value in network.named_parameters():
                self._writer.add_histogram(name, value.detach().cpu(), record.epoch)
