"""The training of a network, whatever it is: epochs, early stopping, the state to go on from.

On one kind of device it gives the same bits again, also when it is interrupted and continued
from any of its states. It computes with one thread: batches are small, and threads that wait for
each other on a shared machine take many times longer.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mlpop.config.blocks.training import TrainingOptions
from mlpop.config.files.regression import PointTrainerConfig
from mlpop.networks.rng import lend, one_thread
from mlpop.training.checkpoint import TrainingState
from mlpop.training.events import CheckpointWritten, EpochEnded, R, Started, TrainingEvent

Stopped = Literal["patience", "max_num_epochs", "nan"]


LoopOptions = TrainingOptions | PointTrainerConfig
"""What says how long to train: both have the fields that the loop reads."""


class Learner(Protocol[R]):
    """What is trained, and what one epoch of it is.

    Attributes:
        network: with its first weights.
        device: of the network.
        optimizer: of the parameters that are trained.
        scheduler: of the learning rate, stepped once an epoch; None without one.
        keeps_optimizer: whether the best weights are kept with the state of their optimizer.
    """

    network: nn.Module
    device: torch.device
    optimizer: Optimizer
    scheduler: LRScheduler | None
    keeps_optimizer: bool

    def losses(self) -> Iterator[Tensor]:
        """Yield the loss of every batch of an epoch; after each the loop makes a step.

        What is random comes from torch's global generator.
        """

    def evaluate(self, network: nn.Module, epoch: int, started: float) -> R:
        """Return the record of the epoch that has just been trained.

        Args:
            network: with the weights to judge, which may be an average.
            epoch: its number from 1.
            started: when it began, by `time.monotonic`.
        """

    def monitored(self, record: R) -> float:
        """Return the number that a scheduler watches."""

    def distance(self, record: R) -> float:
        """Return what decides which epoch is the best: the smallest; infinite if none can be."""


class Training(Generic[R]):
    """A training that can be continued after any epoch.

    From `generator` come the order of batches, and dropout where a network has it.
    """

    def __init__(self, learner: Learner[R], generator: Generator, options: LoopOptions) -> None:
        self.learner, self.generator, self.options = learner, generator, options
        self.epoch = self.best_epoch = 0
        self.best_value = math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.best_optimizer: dict[str, Any] = {}
        self.history: list[R] = []
        self._average = None
        if options.ema_decay is not None:
            average = get_ema_multi_avg_fn(options.ema_decay)
            self._average = AveragedModel(learner.network, multi_avg_fn=average)

    @property
    def network(self) -> nn.Module:
        return self.learner.network

    @property
    def best(self) -> R | None:
        """The best epoch, None before any."""
        return self.history[self.best_epoch - 1] if self.best_epoch else None

    def state(self) -> TrainingState[R]:
        """Return a copy of everything that the next epoch depends on."""
        scheduler = self.learner.scheduler
        return TrainingState(
            self.epoch,
            self.best_epoch,
            self.best_value,
            copied(self.network.state_dict()),
            self.best_weights,
            copied(self.learner.optimizer.state_dict()),
            self.generator.get_state(),
            average=copied(self._average.state_dict()) if self._average else {},
            best_optimizer=self.best_optimizer,
            scheduler=copied(scheduler.state_dict()) if scheduler else {},
            history=list(self.history),
        )

    def restore(self, state: TrainingState[R]) -> None:
        """Go on from a state of the same training."""
        self.network.load_state_dict(state.weights)
        self.learner.optimizer.load_state_dict(copied(state.optimizer))
        if self.learner.scheduler:
            self.learner.scheduler.load_state_dict(copied(state.scheduler))
        if self._average:
            self._average.load_state_dict(state.average)
        self.generator.set_state(state.generator)
        self.epoch, self.best_epoch = state.epoch, state.best_epoch
        self.best_value = state.best_value
        self.best_weights, self.best_optimizer = state.best_weights, state.best_optimizer
        self.history = list(state.history)

    def run(
        self,
        emit: Callable[[TrainingEvent], None] = lambda _: None,
        save: Callable[[TrainingState[R]], None] | None = None,
    ) -> Stopped:
        """Train to the end; the network ends with its best weights, in evaluation mode.

        Args:
            emit: receives `Started`, `EpochEnded` after every epoch and `CheckpointWritten` after
                every `save`. What it raises ends the training.
            save: is given the state after an epoch when `checkpoint_seconds` have passed since
                the last time, and once at the end.

        Returns:
            Why it ended: no improvement, all epochs done, or a loss that is no number, after
            which no weight is a number either.
        """
        emit(Started(tuple(self.history)))

        def checkpoint() -> None:
            if save is not None:
                save(self.state())
                emit(CheckpointWritten(self.epoch))

        with one_thread():
            saved_at = time.monotonic()
            while not (stopped := self._why_stop()):
                emit(self._one_epoch())
                if time.monotonic() - saved_at >= self.options.checkpoint_seconds:
                    checkpoint()
                    saved_at = time.monotonic()
            checkpoint()
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
        self.network.eval()
        return stopped

    def _one_epoch(self) -> EpochEnded[R]:
        started = time.monotonic()
        learner, judged = self.learner, self._average.module if self._average else self.network
        self.network.train()
        with lend(self.generator, learner.device):
            for loss in learner.losses():
                self._step(loss)
        record = learner.evaluate(judged, self.epoch + 1, started)
        if isinstance(learner.scheduler, ReduceLROnPlateau):
            learner.scheduler.step(learner.monitored(record))
        elif learner.scheduler is not None:
            learner.scheduler.step()
        self.epoch = record.epoch
        self.history.append(record)
        distance = learner.distance(record)
        improved = distance < self.best_value
        if improved:
            self.best_epoch, self.best_value = self.epoch, distance
            self.best_weights = copied(judged.state_dict())
            if learner.keeps_optimizer:
                self.best_optimizer = copied(learner.optimizer.state_dict())
        return EpochEnded(record, improved)

    def _step(self, loss: Tensor) -> None:
        optimizer = self.learner.optimizer
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.options.clip_max_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            clip_grad_norm_(parameters, self.options.clip_max_norm)
        optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.network)

    def _why_stop(self) -> Stopped | None:
        options = self.options
        if self.history and self.history[-1].diverged:
            return "nan"
        patience = options.stop_after_epochs
        if patience is not None and self.epoch - self.best_epoch >= patience:
            return "patience"
        if options.max_num_epochs is not None and self.epoch >= options.max_num_epochs:
            return "max_num_epochs"
        return None


def copied(value: Any) -> Any:
    """Copy nested containers and their tensors, these to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(entry) for entry in value)
    return value
