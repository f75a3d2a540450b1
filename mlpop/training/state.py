"""The state of a training between two epochs: all that is needed to go on with the same bits."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mlpop.errors import DataError
from mlpop.inference.estimators.store import save_tensors
from mlpop.io.files import sha256_of, write_json


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave, for the record.

    `epoch` counts from 1; losses are means over the training batches (while the weights moved)
    and over the whole validation set (after the epoch); `seconds` is the epoch's duration and
    `wall_time` its end [s since 1970].
    """

    epoch: int
    train_loss: float
    val_loss: float
    seconds: float
    wall_time: float


@dataclass
class TrainingState:
    """What goes on from one epoch to the next.

    Args:
        epoch: epochs done.
        best_epoch: the epoch of the lowest validation loss, 0 before there is one.
        best_loss: that loss.
        weights: the estimator's state.
        best_weights: its state after `best_epoch`; empty before there is one.
        optimizer: the optimizer's tensors, `<parameter index>.<name>`.
        generator: the state of the random generator.
        history: the record of every epoch done.
        average: the state of the moving average of the weights; empty without one.
    """

    epoch: int
    best_epoch: int
    best_loss: float
    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    generator: Tensor
    history: list[EpochRecord] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)


def save_state(folder: Path, state: TrainingState, fingerprint: str = "") -> None:
    """Write a checkpoint into `folder`; the previous one is replaced only when this is whole.

    Args:
        folder: created where it is missing; holds at most two checkpoints for a moment.
        state: what to save.
        fingerprint: identifies the training that the state belongs to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"generator": state.generator}
    for group in ("weights", "best_weights", "optimizer", "average"):
        for name, value in getattr(state, group).items():
            tensors[f"{group}/{name}"] = value
    path = folder / f"checkpoint_{state.epoch:06d}.safetensors"
    save_tensors(path, tensors)
    write_json(
        folder / "checkpoint.json",
        {
            "file": path.name,
            "sha256": sha256_of(path),
            "fingerprint": fingerprint,
            "epoch": state.epoch,
            "best_epoch": state.best_epoch,
            "best_loss": state.best_loss if state.best_epoch else None,
            "history": [_to_json(record) for record in state.history],
        },
    )
    for old in folder.glob("checkpoint_*.safetensors"):
        if old != path:
            old.unlink(missing_ok=True)


def load_state(folder: Path, fingerprint: str = "") -> TrainingState | None:
    """Read the checkpoint of `folder`.

    Returns:
        The state; None where there is no checkpoint or it belongs to another training.

    Raises:
        DataError: the checkpoint is damaged.
    """
    index = folder / "checkpoint.json"
    if not index.exists():
        return None
    try:
        values = json.loads(index.read_text(encoding="utf-8"))
        if values["fingerprint"] != fingerprint:
            return None
        path = folder / values["file"]
        if sha256_of(path) != values["sha256"]:
            raise DataError(f"{path}: damaged: its SHA-256 is not the one in {index.name}")
        tensors = load_file(path)
        best_epoch = values["best_epoch"]
        return TrainingState(
            epoch=values["epoch"],
            best_epoch=best_epoch,
            best_loss=values["best_loss"] if best_epoch else float("inf"),
            weights=_group(tensors, "weights"),
            best_weights=_group(tensors, "best_weights"),
            optimizer=_group(tensors, "optimizer"),
            generator=tensors["generator"],
            history=[_from_json(record) for record in values["history"]],
            average=_group(tensors, "average"),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"{index}: the checkpoint cannot be read: {error}") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of the tensors of an optimizer, `<parameter index>.<name>`."""
    return {
        f"{index}.{name}": value.detach().clone()
        for index, tensors in optimizer.state_dict()["state"].items()
        for name, value in tensors.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the `tensors` of `optimizer_tensors` back into an optimizer of the same parameters."""
    values: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        values.setdefault(int(index), {})[name] = value.clone()
    whole = optimizer.state_dict()
    whole["state"] = values
    optimizer.load_state_dict(whole)


def _to_json(record: EpochRecord) -> dict[str, float | str]:
    """JSON has no infinity, which a loss may be: it is written as text."""
    values = asdict(record)
    return {name: v if math.isfinite(v) else str(v) for name, v in values.items()}


def _from_json(values: Mapping[str, Any]) -> EpochRecord:
    losses = {name: float(values[name]) for name in ("train_loss", "val_loss")}
    return EpochRecord(**(dict(values) | losses))


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}/"
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
