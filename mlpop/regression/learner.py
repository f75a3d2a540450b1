"""A network of point estimates as the training loop sees it: its epochs, in physical units."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mlpop.regression.data import PointSet
from mlpop.regression.evaluation import Judge, Numbers

Monitor = Literal["metric", "loss"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave, for the record.

    Attributes:
        epoch: number from 1.
        train: numbers of the training set while the weights moved, scaled units.
        train_eval: numbers of the training set after the epoch, physical units.
        valid: numbers of the validation set after the epoch, physical units; None without one.
        lr: learning rate of the epoch.
        seconds: its duration.
        wall_time: its end [s since 1970].
    """

    epoch: int
    train: Numbers
    train_eval: Numbers
    valid: Numbers | None
    lr: float
    seconds: float
    wall_time: float

    @property
    def judged(self) -> Numbers:
        """The numbers that decide: of the validation set, else of the training set."""
        return self.train_eval if self.valid is None else self.valid

    @property
    def diverged(self) -> bool:
        """Whether the training loss is no number any more."""
        return not math.isfinite(self.train["loss"])


class PointLearner:
    """A network and its data, for the training loop.

    Args:
        network: with its first weights, on the device of the data.
        train, valid: the sets; without a validation set the training set judges.
        shuffle: whether every epoch has an order of its own.
        monitor: what improvement means.
    """

    keeps_optimizer: bool = True

    def __init__(
        self,
        network: nn.Module,
        train: PointSet,
        valid: PointSet | None,
        judge: Judge,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        *,
        batch_size: int,
        shuffle: bool = True,
        monitor: Monitor = "metric",
    ) -> None:
        self.network, self.train, self.valid = network, train, valid
        self.device = judge.device
        self.judge, self.optimizer, self.scheduler = judge, optimizer, scheduler
        self._batch_size, self._shuffle, self._monitor = batch_size, shuffle, monitor
        self._train_numbers: Numbers = {}

    def losses(self) -> Iterator[Tensor]:
        """Yield the loss of every batch, summed over the labels."""
        count = len(self.train)
        order = torch.randperm(count) if self._shuffle else torch.arange(count)
        collected = []
        for x, targets in self.train.batches(order, self._batch_size):
            outputs = self.network(x)
            yield self.judge.loss.per_label(outputs, targets).sum()
            collected.append(outputs.detach())
        targets = self.train.targets
        targets = targets[order.to(targets.device)]
        self._train_numbers = self.judge.scaled(torch.cat(collected), targets)

    def evaluate(self, network: nn.Module, epoch: int, started: float) -> Epoch:
        """Return the numbers of both sets."""
        lr = float(self.optimizer.param_groups[0]["lr"])
        train_eval = self.judge.evaluate(network, self.train)
        valid = self.judge.evaluate(network, self.valid) if self.valid else None
        seconds = time.monotonic() - started
        return Epoch(epoch, self._train_numbers, train_eval, valid, lr, seconds, time.time())

    def monitored(self, record: Epoch) -> float:
        """Return the loss or the metric."""
        name = "loss" if self._monitor == "loss" else self.judge.metric_name
        return record.judged[name]

    def distance(self, record: Epoch) -> float:
        """Return how far the monitored number is from perfect."""
        value = self.monitored(record)
        if not math.isfinite(value):
            return math.inf
        return value if self._monitor == "loss" else self.judge.metric.distance(value)
