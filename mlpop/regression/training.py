"""The training of one trial: epochs, evaluation in physical units, early stopping.

On one kind of device it gives the same bits again, also when it is interrupted and continued
from any of its states. It computes with one thread: batches are small, and threads that wait for
each other on a shared machine take many times longer.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mlpop.networks.rng import lend, one_thread
from mlpop.regression.data import PointSet
from mlpop.regression.evaluation import Judge, Numbers

Monitor = Literal["metric", "loss"]
Stopped = Literal["early_stop", "epochs", "nan"]


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


@dataclass(frozen=True)
class Options:
    """How long to train, and what improvement means."""

    epochs: int
    batch_size: int
    shuffle: bool = True
    early_stop: int | None = None
    monitor: Monitor = "metric"


@dataclass
class State:
    """What goes on from one epoch to the next; plain values and tensors.

    Attributes:
        epoch: epochs done.
        best_epoch: the epoch of the best monitored value, 0 before there is one.
        best_distance: how far that value is from perfect.
        weights: of the network.
        best_weights: of the network after `best_epoch`; empty before there is one.
        best_optimizer: state of the optimizer after `best_epoch`.
        optimizer: its state.
        scheduler: its state; empty without one.
        generator: state of the random generator.
        history: of every epoch done.
    """

    epoch: int
    best_epoch: int
    best_distance: float
    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    best_optimizer: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    generator: Tensor
    history: list[Epoch] = field(default_factory=list)


class Training:
    """A training that can be continued after any epoch.

    Args:
        network: with its first weights, on the device of the data.
        train: the training set.
        valid: the validation set; None to judge by the training set.
        judge: losses and metric.
        optimizer: of the network's parameters.
        scheduler: of the optimizer's learning rate, stepped once an epoch.
        generator: source of the order of batches, and of dropout where a network has it.
        options: how long to train.
    """

    def __init__(
        self,
        network: nn.Module,
        train: PointSet,
        valid: PointSet | None,
        judge: Judge,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        generator: Generator,
        options: Options,
    ) -> None:
        self.network, self.train, self.valid = network, train, valid
        self.judge, self.optimizer, self.scheduler = judge, optimizer, scheduler
        self.generator, self.options = generator, options
        self.epoch = 0
        self.best_epoch = 0
        self.best_distance = math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.best_optimizer: dict[str, Any] = {}
        self.history: list[Epoch] = []

    @property
    def best(self) -> Epoch | None:
        """The best epoch, None before any."""
        return self.history[self.best_epoch - 1] if self.best_epoch else None

    def state(self) -> State:
        """Return a copy of everything that the next epoch depends on."""
        return State(
            self.epoch,
            self.best_epoch,
            self.best_distance,
            _cpu(self.network.state_dict()),
            self.best_weights,
            self.best_optimizer,
            _plain(self.optimizer.state_dict()),
            _plain(self.scheduler.state_dict()) if self.scheduler else {},
            self.generator.get_state(),
            list(self.history),
        )

    def restore(self, state: State) -> None:
        """Go on from a state of the same training."""
        self.network.load_state_dict(state.weights)
        self.optimizer.load_state_dict(_plain(state.optimizer))
        if self.scheduler:
            self.scheduler.load_state_dict(_plain(state.scheduler))
        self.generator.set_state(state.generator)
        self.epoch, self.best_epoch = state.epoch, state.best_epoch
        self.best_distance = state.best_distance
        self.best_weights, self.best_optimizer = state.best_weights, state.best_optimizer
        self.history = list(state.history)

    def run(self, on_epoch: Callable[[Epoch, bool], None] | None = None) -> Stopped:
        """Train to the end; the network ends with its best weights, in evaluation mode.

        Args:
            on_epoch: called after every epoch with its record and whether it is the best so far.
                What it raises ends the training.

        Returns:
            Why it ended: no improvement, all epochs done, or a loss that is no number, after
            which no weight is a number either.
        """
        with one_thread():
            while not (stopped := self._why_stop()):
                record = self._one_epoch()
                self.epoch = record.epoch
                self.history.append(record)
                distance = self._distance(record)
                improved = distance < self.best_distance
                if improved:
                    self.best_epoch, self.best_distance = self.epoch, distance
                    self.best_weights = _cpu(self.network.state_dict())
                    self.best_optimizer = _plain(self.optimizer.state_dict())
                if on_epoch is not None:
                    on_epoch(record, improved)
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
        self.network.eval()
        return stopped

    def _one_epoch(self) -> Epoch:
        started = time.monotonic()
        lr = float(self.optimizer.param_groups[0]["lr"])
        with lend(self.generator):
            train = self._train()
        train_eval = self.judge.evaluate(self.network, self.train)
        valid = self.judge.evaluate(self.network, self.valid) if self.valid else None
        record = Epoch(self.epoch + 1, train, train_eval, valid, lr, 0.0, 0.0)
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(record.judged[self._monitored])
        elif self.scheduler is not None:
            self.scheduler.step()
        seconds = time.monotonic() - started
        return Epoch(self.epoch + 1, train, train_eval, valid, lr, seconds, time.time())

    def _train(self) -> Numbers:
        self.network.train()
        count = len(self.train)
        order = torch.randperm(count) if self.options.shuffle else torch.arange(count)
        collected = []
        for x, targets in self.train.batches(order, self.options.batch_size):
            outputs = self.network(x)
            loss = self.judge.loss.per_label(outputs, targets).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            collected.append(outputs.detach())
        targets = self.train.targets
        return self.judge.scaled(torch.cat(collected), targets[order.to(targets.device)])

    @property
    def _monitored(self) -> str:
        return "loss" if self.options.monitor == "loss" else self.judge.metric_name

    def _distance(self, record: Epoch) -> float:
        value = record.judged[self._monitored]
        if not math.isfinite(value):
            return math.inf
        return value if self.options.monitor == "loss" else self.judge.metric.distance(value)

    def _why_stop(self) -> Stopped | None:
        if self.history and not math.isfinite(self.history[-1].train["loss"]):
            return "nan"
        patience = self.options.early_stop
        if patience is not None and self.epoch - self.best_epoch >= patience:
            return "early_stop"
        return "epochs" if self.epoch >= self.options.epochs else None


def _cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def _plain(value: Any) -> Any:
    """Copy nested containers and their tensors."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(entry) for entry in value)
    return value
