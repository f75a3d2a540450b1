"""Training of one estimator: an own loop over sbi's public estimator interface.

The same optimisation as sbi's trainers (Adam, clipped gradients, early stopping), but with the
whole validation set every time, exact counts of epochs, live records, and a state that can be
saved after any epoch. On one device with one number of threads it gives the same bits again.
"""

import time
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mlpop.config.base import StrictModel
from mlpop.errors import DataError, TrainingError
from mlpop.inference.estimators.estimator import Estimator
from mlpop.networks.rng import lend
from mlpop.training.losses import Loss, Objective, check_num_atoms, make_objective
from mlpop.training.state import (
    EpochRecord,
    TrainingState,
    load_optimizer_tensors,
    optimizer_tensors,
)

_VALIDATION_CHUNK = 512


class TrainingOptions(StrictModel):
    """How to optimise.

    `stop_after_epochs` is the number of epochs without a lower validation loss after which the
    training stops; `max_num_epochs` None means no other limit. A batch larger than the training
    set is the whole set; what is left over of an epoch after whole batches is not used in it.

    With `ema_decay` the weights that are validated and kept are not those of a step but their
    exponential moving average, to which a step contributes `ema_decay` times as much as the next
    one. Single steps of Adam jump about, and all posteriors of a network with them.
    """

    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    clip_max_norm: float | None = Field(default=5.0, gt=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    stop_after_epochs: int = Field(default=20, ge=1)
    max_num_epochs: int | None = Field(default=None, ge=1)


class TrainingReport(NamedTuple):
    """What a training gave, for the record."""

    history: tuple[EpochRecord, ...]
    best_epoch: int
    best_loss: float
    stopped: Literal["patience", "max_num_epochs"]
    seconds: float


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
    count = min(max(1, round(fraction * num_simulations)), num_simulations - 1)
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
    state: TrainingState | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    checkpoint_seconds: float = 60.0,
) -> tuple[TrainingState, TrainingReport]:
    """Train `estimator` in place; it ends with the weights of its best epoch, in evaluation mode.

    Args:
        estimator: freshly built or already trained, on the device to train on.
        theta: (n, d) scaled parameters.
        x: (n, ...) data.
        validation: row numbers of the validation set; all other rows train.
        generator: source of the order of batches (and of dropout, where a network has it).
        options: how to optimise.
        loss: for a posterior; `atomic` corrects for theta that were not drawn from the prior. A
            likelihood is always trained on its likelihood, a ratio on its contrastive loss.
        num_atoms: theta that an x meets in the atomic and the contrastive loss, at most the rows
            of a batch.
        state: where to go on from; estimator and generator are set to it.
        on_epoch: called after every epoch. What it raises ends the training.
        on_checkpoint: called with the state after an epoch, when `checkpoint_seconds` have
            passed since the last call, and once at the end.
        checkpoint_seconds: 0 to be called after every epoch.

    Returns:
        The state after the last epoch and the report.

    Raises:
        DataError: the data hold NaN or infinity, the validation rows make no sense, or the loss
            does not suit the estimator or needs more rows to compare.
        TrainingError: the loss became NaN or was never finite.
    """
    options = options or TrainingOptions()
    _check_data(theta, x, validation)
    training_rows = _all_but(len(theta), validation)
    objective = make_objective(estimator.kind, loss, num_atoms)
    if objective.compares:
        batch = min(options.batch_size, len(training_rows))
        check_num_atoms(num_atoms, batch, len(validation))
    held_out = objective.fixed_candidates(len(validation))
    parameters = [value for value in estimator.parameters() if value.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.Adam(parameters, lr=options.learning_rate, fused=True)
    if state is None:
        state = TrainingState(0, 0, float("inf"), {}, {}, {}, generator.get_state())
    else:
        estimator.load_state_dict(state.weights)
        load_optimizer_tensors(optimizer, state.optimizer)
        generator.set_state(state.generator)
    average = _average(estimator, options.ema_decay, state.average)
    judged = estimator if average is None else cast(Estimator, average.module)
    epoch, best_epoch, best_loss = state.epoch, state.best_epoch, state.best_loss
    best_weights, history = state.best_weights, list(state.history)
    saved_at = time.monotonic()

    def current() -> TrainingState:
        return TrainingState(
            epoch,
            best_epoch,
            best_loss,
            _copy(estimator),
            best_weights,
            optimizer_tensors(optimizer),
            generator.get_state(),
            list(history),
            {} if average is None else _copy(average),
        )

    while not (stopped := _why_stop(epoch, best_epoch, options)):
        started = time.monotonic()
        epoch += 1
        try:
            with lend(generator):
                train_loss = _train_epoch(
                    estimator,
                    theta,
                    x,
                    training_rows,
                    objective,
                    optimizer,
                    parameters,
                    options,
                    average,
                )
            val_loss = _validate(judged, theta, x, validation, held_out, objective, device)
        except ValueError as error:
            # sbi's mixture and torch's distributions refuse NaN with a ValueError
            if "nan" not in str(error).lower():
                raise
            train_loss = val_loss = float("nan")
        _check_losses(epoch, train_loss, val_loss, options)
        if val_loss < best_loss:
            best_epoch, best_loss = epoch, val_loss
            best_weights = _copy(judged)
        record = EpochRecord(epoch, train_loss, val_loss, time.monotonic() - started, time.time())
        history.append(record)
        if on_epoch is not None:
            on_epoch(record)
        if on_checkpoint is not None and time.monotonic() - saved_at >= checkpoint_seconds:
            on_checkpoint(current())
            saved_at = time.monotonic()

    state = current()
    if on_checkpoint is not None:
        on_checkpoint(state)
    if not best_weights:
        raise TrainingError(
            f"the validation loss was never finite in {epoch} epochs; "
            "try a lower learning rate, or check the scaling of inputs and labels"
        )
    estimator.load_state_dict(best_weights)
    estimator.eval()
    seconds = sum(record.seconds for record in history)
    return state, TrainingReport(tuple(history), best_epoch, best_loss, stopped, seconds)


def _train_epoch(
    estimator: Estimator,
    theta: Tensor,
    x: Tensor,
    rows: Tensor,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    parameters: list[Tensor],
    options: TrainingOptions,
    average: AveragedModel | None,
) -> float:
    estimator.train()
    device = parameters[0].device
    size = min(options.batch_size, len(rows))
    batches = len(rows) // size
    order = rows[torch.randperm(len(rows))][: batches * size]
    total = torch.zeros((), device=device)
    for batch in order.split(size):
        optimizer.zero_grad(set_to_none=True)
        candidates = theta[batch[objective.candidates(size)]].to(device)
        value = objective.losses(estimator, candidates, x[batch].to(device)).mean()
        value.backward()
        if options.clip_max_norm is not None:
            clip_grad_norm_(parameters, options.clip_max_norm, foreach=True)
        optimizer.step()
        if average is not None:
            average.update_parameters(estimator)
        total += value.detach()
    return float(total) / batches


def _average(
    estimator: Estimator, decay: float | None, state: Mapping[str, Tensor]
) -> AveragedModel | None:
    """Return the moving average of the weights, gone on from `state` where there is one."""
    if decay is None:
        return None
    average = AveragedModel(estimator, multi_avg_fn=get_ema_multi_avg_fn(decay))
    if state:
        average.load_state_dict(state)
    return average


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@torch.no_grad()
def _validate(
    estimator: Estimator,
    theta: Tensor,
    x: Tensor,
    rows: Tensor,
    candidates: Tensor,
    objective: Objective,
    device: torch.device,
) -> float:
    estimator.eval()
    losses = [
        objective.losses(estimator, theta[rows[chunk]].to(device), x[rows[chunk[0]]].to(device))
        for chunk in candidates.split(_VALIDATION_CHUNK, dim=1)
    ]
    return float(torch.cat(losses).double().mean())


def _why_stop(
    epoch: int, best_epoch: int, options: TrainingOptions
) -> Literal["patience", "max_num_epochs"] | None:
    if epoch - best_epoch >= options.stop_after_epochs:
        return "patience"
    if options.max_num_epochs is not None and epoch >= options.max_num_epochs:
        return "max_num_epochs"
    return None


def _check_losses(
    epoch: int, train_loss: float, val_loss: float, options: TrainingOptions
) -> None:
    if train_loss != train_loss or val_loss != val_loss:
        raise TrainingError(
            f"the loss became NaN in epoch {epoch} (training {train_loss}, validation "
            f"{val_loss}); likely causes: a learning rate that is too high (now "
            f"{options.learning_rate}), inputs or labels that are not scaled, or a dataset in "
            "which a label never varies"
        )


def _check_data(theta: Tensor, x: Tensor, validation: Tensor) -> None:
    if len(theta) != len(x):
        raise DataError(f"theta has {len(theta)} rows but x has {len(x)}")
    for name, values in (("theta", theta), ("x", x)):
        # one pass over the data is much faster than to look at every row
        if bool(torch.isfinite(values.sum())):
            continue
        finite = torch.isfinite(values.flatten(1)).all(1)
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


def _all_but(count: int, rows: Tensor) -> Tensor:
    keep = torch.ones(count, dtype=torch.bool)
    keep[rows] = False
    return keep.nonzero()[:, 0]
