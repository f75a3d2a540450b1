"""Training of one estimator on theta and x.

The same optimisation as sbi's trainers (Adam, clipped gradients, early stopping), but with the
whole validation set every time, exact counts of epochs, live records, and a state that can be
saved after any epoch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mlpop.config.blocks.training import TrainingOptions, validation_count
from mlpop.errors import DataError, TrainingError
from mlpop.inference.estimators.estimator import EmbedOnce, Estimator
from mlpop.inference.estimators.ratio import RatioClassifier
from mlpop.training.checkpoint import TrainingState
from mlpop.training.events import EpochRecord, TrainingEvent
from mlpop.training.loop import Stopped, Training
from mlpop.training.losses import Loss, Objective, check_num_atoms, make_objective

_VALIDATION_CHUNK = 512
_CHECKED_ROWS = 1024
_DECAYS = 3
"""Times that the learning rate is lowered at most."""
_RESTS_AFTER = 2**25
"""Data that are read before they may leave memory again [byte]."""


@dataclass(frozen=True)
class TrainingReport:
    """What a training gave, for the record."""

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best_loss: float
    stopped: Stopped

    @property
    def seconds(self) -> float:
        """Duration of all epochs [s]."""
        return sum(record.seconds for record in self.history)


def validation_split(num_simulations: int, fraction: float, generator: Generator) -> Tensor:
    """Choose the rows that are kept for validation, the same for all members of an ensemble.

    Args:
        num_simulations: rows of the dataset, at least 2.
        fraction: of them to keep, 0 < fraction < 1; at least one row stays on either side.
        generator: source of the choice.

    Returns:
        Sorted row numbers.

    Raises:
        DataError: the fraction is out of range or there are fewer than two rows.
    """
    if not 0 < fraction < 1:
        raise DataError(f"validation_fraction must be between 0 and 1, but got {fraction}")
    if num_simulations < 2:
        raise DataError(f"training needs at least 2 simulations, but got {num_simulations}")
    count = validation_count(num_simulations, fraction)
    return torch.randperm(num_simulations, generator=generator)[:count].sort().values


def fit(
    estimator: Estimator,
    theta: Tensor,
    x: Tensor,
    *,
    validation: Tensor,
    generator: Generator,
    options: TrainingOptions | None = None,
    loss: Loss = "maximum_likelihood",
    num_atoms: int = 10,
    state: TrainingState[EpochRecord] | None = None,
    emit: Callable[[TrainingEvent], None] = lambda _: None,
    save: Callable[[TrainingState[EpochRecord]], None] | None = None,
    rest: Callable[[], None] = lambda: None,
    ahead: Callable[[Sequence[int]], None] = lambda _: None,
) -> TrainingReport:
    """Train `estimator` in place; it ends with the weights of its best epoch, in evaluation mode.

    Args:
        estimator: freshly built or already trained, on the device to train on.
        theta: (n, d) parameters in the unit cube.
        x: (n, ...) data.
        validation: row numbers of the validation set; all other rows train.
        generator: source of the order of batches (and of dropout, where a network has it).
        options: how to optimise.
        loss: for a posterior; `atomic` corrects for theta that were not drawn from the prior. A
            likelihood is always trained on its likelihood, a ratio on its contrastive loss.
        num_atoms: theta that an x meets in the atomic and the contrastive loss, at most the rows
            of a batch.
        state: where to go on from; estimator and generator are set to it.
        emit, save: see `Training.run`.
        rest: called again and again while x is read: data that lie in a file may leave memory.
        ahead: told which rows of x are read next.

    Raises:
        DataError: the data hold NaN or infinity, the validation rows make no sense, or the loss
            does not suit the estimator or needs more rows to compare.
        TrainingError: the loss became NaN or was never finite.
    """
    options = options or TrainingOptions()
    _check_data(theta, x, validation, rest)
    objective = make_objective(estimator.kind, loss, num_atoms)
    learner = EstimatorLearner(estimator, theta, x, validation, objective, options, rest, ahead)
    training: Training[EpochRecord] = Training(learner, generator, options)
    if state is not None:
        training.restore(state)
    stopped = training.run(emit, save)
    if not training.best_epoch:
        raise TrainingError(
            f"the validation loss was never finite in {training.epoch} epochs; "
            "try a lower learning rate, or check the scaling of inputs and labels"
        )
    history = tuple(training.history)
    return TrainingReport(history, training.best_epoch, training.best_value, stopped)


class EstimatorLearner:
    """An estimator and its data, for the training loop; arguments as those of `fit`."""

    keeps_optimizer: bool = False

    def __init__(
        self,
        estimator: Estimator,
        theta: Tensor,
        x: Tensor,
        validation: Tensor,
        objective: Objective,
        options: TrainingOptions,
        rest: Callable[[], None] = lambda: None,
        ahead: Callable[[Sequence[int]], None] = lambda _: None,
    ) -> None:
        self._rest, self._read = rest, 0
        self.network: nn.Module = estimator
        self.device = estimator.device
        self._theta, self._x = _placed(theta, self.device), _placed(x, self.device)
        # data that were copied to the device are not read again
        self._ahead = ahead if self._x is x else lambda _: None
        self._objective, self._lr = objective, options.lr
        training_rows = torch.ones(len(theta), dtype=torch.bool)
        training_rows[validation] = False
        self._rows, self._validation = training_rows.nonzero()[:, 0], validation
        self._size = min(options.batch_size, len(self._rows))
        if objective.compares:
            check_num_atoms(objective.num_atoms, self._size, len(validation))
        self._held_out = objective.candidates(len(validation), fixed=True)
        groups = _decayed(estimator, options.embedding_weight_decay)
        self.optimizer: Optimizer = torch.optim.AdamW(groups, lr=options.lr, fused=True)
        self.scheduler = _falling_rate(self.optimizer, options)
        self._train_loss = float("nan")

    def losses(self) -> Iterator[Tensor]:
        """Yield the mean loss of every whole batch."""
        count = len(self._rows) // self._size
        order = self._rows[torch.randperm(len(self._rows))][: count * self._size]
        total = torch.zeros((), device=self.device)
        self._train_loss = float("nan")
        with _refused_as_nan():
            for batch in self._announced(order.split(self._size)):
                candidates = batch[self._objective.candidates(self._size)]
                loss = self._losses(self.network, candidates).mean()
                yield loss
                total += loss.detach()
            self._train_loss = float(total) / count

    @torch.no_grad()
    def evaluate(self, network: nn.Module, epoch: int, started: float) -> EpochRecord:
        """Return both losses.

        Raises:
            TrainingError: one of them is NaN.
        """
        network.eval()
        val_loss = float("nan")
        with _refused_as_nan():
            chunks = self._held_out.split(_VALIDATION_CHUNK, dim=1)
            held_out = [self._validation[chunk] for chunk in chunks]
            losses = [self._losses(network, rows) for rows in self._announced(held_out)]
            val_loss = float(torch.cat(losses).double().mean())
        seconds = time.monotonic() - started
        record = EpochRecord(epoch, self._train_loss, val_loss, seconds, time.time())
        if record.diverged:
            raise TrainingError(
                f"the loss became NaN in epoch {epoch} (training {record.train_loss}, validation "
                f"{val_loss}); likely causes: a learning rate that is too high (now {self._lr}), "
                "inputs or labels that are not scaled, or a dataset in which a label never varies"
            )
        return record

    def monitored(self, record: EpochRecord) -> float:
        """Return the validation loss."""
        return record.val_loss

    distance = monitored

    def _announced(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield batches of rows (b,) or candidates (a, b); the next one is asked for meanwhile."""
        rows = [batch.view(-1, batch.shape[-1])[0] for batch in batches]
        self._ahead(rows[0].tolist())
        for batch, coming in zip_longest(batches, rows[1:]):
            if coming is not None:
                self._ahead(coming.tolist())
            yield batch

    def _losses(self, network: nn.Module, candidates: Tensor) -> Tensor:
        """Return the loss (b,) of rows that meet the theta of `candidates` (a, b)."""
        theta = self._theta[candidates].to(self.device)
        x = self._x[candidates[0]].to(self.device)
        self._read += x.nbytes
        if self._read > _RESTS_AFTER:
            self._rest()
            self._read = 0
        return self._objective.losses(cast(Estimator, network), theta, x)


def _placed(values: Tensor, device: torch.device) -> Tensor:
    """Return data on the device, where a quarter of a GPU's free memory holds them."""
    if device.type == "cuda" and 4 * values.nbytes > torch.cuda.mem_get_info(device)[0]:
        return values
    return values.to(device)


@contextmanager
def _refused_as_nan() -> Iterator[None]:
    """Go on where sbi's mixture and torch's distributions refuse NaN with a ValueError."""
    try:
        yield
    except ValueError as error:
        if "nan" not in str(error).lower():
            raise


def _check_data(theta: Tensor, x: Tensor, validation: Tensor, rest: Callable[[], None]) -> None:
    if len(theta) != len(x):
        raise DataError(f"theta has {len(theta)} rows but x has {len(x)}")
    for name, values in (("theta", theta), ("x", x)):
        checked = []
        for block in values.split(_CHECKED_ROWS):
            checked.append(_finite(block))
            rest()
        finite = torch.cat(checked)
        if not bool(finite.all()):
            rows = (~finite).nonzero()[:, 0].tolist()
            raise DataError(
                f"{name} holds NaN or infinity in {len(rows)} of {len(values)} rows, "
                f"first in row {rows[0]}; leave such simulations out of the dataset"
            )
    if (
        validation.ndim != 1
        or not 0 < len(validation) < len(theta)
        or len(validation.unique()) != len(validation)
        or int(validation.min()) < 0
        or int(validation.max()) >= len(theta)
    ):
        raise DataError(
            f"the validation rows must be different numbers from 0 to {len(theta) - 1}, at least "
            f"one and not all, but got {len(validation)} of them"
        )


def _finite(values: Tensor) -> Tensor:
    """Return (n,) which rows of (n, ...) hold finite numbers alone."""
    # one pass over the data is much faster than to look at every row
    if bool(torch.isfinite(values.sum())):
        return torch.ones(len(values), dtype=torch.bool)
    return torch.isfinite(values.flatten(1)).all(1)


def _falling_rate(optimizer: Optimizer, options: TrainingOptions) -> LRScheduler | None:
    """Return what lowers the learning rate where the validation loss stands still.

    At a constant one every weight jitters, and a density learns to be as wide as that needs.
    """
    if options.lr_decay is None:
        return None
    return ReduceLROnPlateau(
        optimizer,
        factor=options.lr_decay,
        # torch bears so many epochs, and lowers the rate after the next one
        patience=max(0, options.stop_after_epochs // 2 - 1),
        threshold=0.0,
        min_lr=options.lr * options.lr_decay**_DECAYS,
    )


def _decayed(estimator: Estimator, embedding_weight_decay: float) -> list[dict[str, Any]]:
    """Return groups of parameters for AdamW: those of the density, then those of the embedding.

    A density that decays is drawn to the middle of the cube; an embedding forgets single maps.
    """
    network: nn.Module | None = None
    if isinstance(estimator, EmbedOnce):
        network = estimator.embedding
    elif isinstance(estimator, RatioClassifier):
        network = estimator.embedding_net_x
    embedding = set() if network is None else {id(value) for value in network.parameters()}
    groups: dict[bool, list[Tensor]] = {False: [], True: []}
    for value in estimator.parameters():
        if value.requires_grad:
            groups[id(value) in embedding].append(value)
    return [
        {"params": values, "weight_decay": embedding_weight_decay if embeds else 0.0}
        for embeds, values in groups.items()
        if values
    ]
