"""The state of a training between two epochs: all that is needed to go on with the same bits."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Self, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mlpop.errors import DataError
from mlpop.inference.estimators.store import save_tensors
from mlpop.io.files import sha256_of, write_json
from mlpop.training.events import EpochRecord, R

INDEX = "checkpoint.json"


@dataclass
class TrainingState(Generic[R]):
    """What goes on from one epoch to the next; plain values and tensors.

    Attributes:
        epoch: epochs done.
        best_epoch: the epoch of the best monitored value, 0 before there is one.
        best_value: that value, the smaller the better.
        weights: of the network.
        best_weights: those that are kept, after `best_epoch`; empty before there is one.
        optimizer: its state.
        generator: state of the random generator.
        average: state of the moving average of the weights; empty without one.
        best_optimizer: state of the optimizer after `best_epoch`; empty where it is not kept.
        scheduler: its state; empty without one.
        history: of every epoch done.
    """

    epoch: int
    best_epoch: int
    best_value: float
    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    generator: Tensor
    average: dict[str, Tensor] = field(default_factory=dict)
    best_optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    history: list[R] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, records as dictionaries too."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"history": [asdict(cast(Any, record)) for record in self.history]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], record: Callable[..., R]) -> Self:
        """Return the state that `to_dict` was called of; `record` makes the records."""
        return cls(**{**values, "history": [record(**epoch) for epoch in values["history"]]})


def save_state(folder: Path, state: TrainingState[EpochRecord], fingerprint: str = "") -> None:
    """Write the checkpoint of an estimator; the last one goes only when this one is whole.

    Args:
        folder: created where it is missing; holds at most two checkpoints for a moment.
        state: what to save.
        fingerprint: identifies the training that the state belongs to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = _text_if_infinite(state.to_dict())
    values["history"] = [_text_if_infinite(epoch) for epoch in values["history"]]
    values["scheduler"] = _text_if_infinite(values["scheduler"])
    optimizer = values.pop("optimizer")
    groups = {name: values.pop(name) for name in ("weights", "best_weights", "average")}
    groups["optimizer"] = {
        f"{number}.{name}": tensor
        for number, part in optimizer["state"].items()
        for name, tensor in part.items()
    }
    tensors = {f"{group}/{name}": t for group, part in groups.items() for name, t in part.items()}
    path = folder / f"checkpoint_{state.epoch:06d}.safetensors"
    save_tensors(path, tensors | {"generator": values.pop("generator")})
    index = {
        "file": path.name,
        "sha256": sha256_of(path),
        "fingerprint": fingerprint,
        **values,
        "param_groups": optimizer["param_groups"],
    }
    write_json(folder / INDEX, index)
    for old in folder.glob("checkpoint_*.safetensors"):
        if old != path:
            old.unlink(missing_ok=True)


def load_state(folder: Path, fingerprint: str = "") -> TrainingState[EpochRecord] | None:
    """Read the checkpoint of `folder`.

    Returns:
        The state; None where there is no checkpoint or it belongs to another training.

    Raises:
        DataError: the checkpoint is damaged.
    """
    index = folder / INDEX
    if not index.exists():
        return None
    try:
        values = json.loads(index.read_text(encoding="utf-8"))
        if values.pop("fingerprint") != fingerprint:
            return None
        path = folder / values.pop("file")
        if sha256_of(path) != values.pop("sha256"):
            raise DataError(f"{path}: damaged: its SHA-256 is not the one in {index.name}")
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "best_weights": {}, "average": {}}
        moments: dict[int, dict[str, Tensor]] = {}
        for place, tensor in load_file(path).items():
            group, _, name = place.partition("/")
            if group == "generator":
                values["generator"] = tensor
            elif group == "optimizer":
                number, _, name = name.partition(".")
                moments.setdefault(int(number), {})[name] = tensor
            else:
                groups[group][name] = tensor
        values["best_value"] = float(values["best_value"])
        values["scheduler"] = _infinite_if_text(values["scheduler"])
        optimizer = {"state": moments, "param_groups": values.pop("param_groups")}
        return TrainingState.from_dict(values | groups | {"optimizer": optimizer}, _epoch)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"{index}: the checkpoint cannot be read: {error}") from None


def _text_if_infinite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which a loss may be."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _infinite_if_text(values: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `_text_if_infinite` where other texts, such as the mode of a scheduler, stay."""
    infinite = ("inf", "-inf", "nan")
    return {name: float(v) if v in infinite else v for name, v in values.items()}


def _epoch(train_loss: float | str, val_loss: float | str, **others: Any) -> EpochRecord:
    return EpochRecord(train_loss=float(train_loss), val_loss=float(val_loss), **others)
