"""Trained networks and interrupted trainings on disk: plain types and tensors only.

A checkpoint is loaded with `weights_only=True`: a file from anywhere cannot run code.
"""

import json
import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlpop import __version__
from mlpop.config.reading import sought_in
from mlpop.datasets.scaling import LabelScaling, Mode
from mlpop.errors import DataError
from mlpop.networks.registry import build
from mlpop.regression.learner import Epoch
from mlpop.regression.maps import Kind
from mlpop.training.checkpoint import TrainingState

SCHEMA = 1
KEYS = ("arch", "epoch", "state_dict", "monitor_best", "config", "labels", "channels", "scaling")
AS_WRITTEN = ("arch", "loss", "kind", "input_scaling", "config", "epoch", "monitor_best")
"""Fields of a model that a file holds as they are."""


@dataclass(frozen=True)
class PointModel:
    """Everything a prediction needs, without the data it was trained on.

    Attributes:
        loss: which says what the outputs mean.
        shape: (C, H, W) of the maps.
        input_scaling: of every map by its own pixels.
        scaling: of the labels.
        config: the resolved configuration as JSON text.
        epoch: after which the weights were taken.
        monitor_best: the monitored value.
    """

    arch: str
    arch_args: Mapping[str, Any]
    loss: str
    loss_args: Mapping[str, Any]
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    shape: tuple[int, ...]
    kind: Kind
    input_scaling: Mode
    scaling: LabelScaling
    config: str
    weights: Mapping[str, Tensor]
    epoch: int
    monitor_best: float

    def build_network(self, source: str) -> nn.Module:
        """Return the network with its weights, in evaluation mode.

        Raises:
            ConfigError: the network is not known here.
            DataError: the weights do not fit it; the message names layer and shapes.
        """
        network = build(self.arch, self.arch_args)
        load_weights(network, self.weights, source)
        return network.eval()


def save_model(
    path: Path,
    model: PointModel,
    *,
    optimizer: Mapping[str, Any] | None = None,
    state: TrainingState[Epoch] | None = None,
) -> None:
    """Write a model to a `.pth` file, whole or not at all; with `state` training can go on.

    Raises:
        DataError: the file cannot be written.
    """
    fields = {name: value for name, value in vars(model).items() if name != "weights"}
    content: dict[str, Any] = fields | {
        "schema": SCHEMA,
        "version": __version__,
        "state_dict": dict(model.weights),
        "optimizer": dict(optimizer or {}),
        "arch_args": json.dumps(dict(model.arch_args)),
        "loss_args": json.dumps(dict(model.loss_args)),
        "labels": list(model.labels),
        "channels": list(model.channels),
        "shape": list(model.shape),
        "scaling": model.scaling.to_dict(),
    }
    if state is not None:
        content["training"] = state.to_dict()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written: {error}") from error


def load_model(path: Path) -> tuple[PointModel, TrainingState[Epoch] | None]:
    """Read a model, and the state of its training if the file is a checkpoint.

    A leading `module.` of the names of weights, which DataParallel adds, is dropped.

    Raises:
        DataError: the file is missing, is no checkpoint of mlpop, or would have to be unpickled.
    """
    content = _read(path)
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise DataError(
            f"{path}: is no trained model of mlpop: it has no '{missing[0]}'; found "
            f"{', '.join(map(str, content)) or 'nothing'}"
        )
    if content.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: schema {content.get('schema')}, this mlpop reads schema {SCHEMA}"
        )
    try:
        model = PointModel(
            **{name: content[name] for name in AS_WRITTEN},
            arch_args=json.loads(content["arch_args"]),
            loss_args=json.loads(content["loss_args"]),
            labels=tuple(content["labels"]),
            channels=tuple(content["channels"]),
            shape=tuple(content["shape"]),
            scaling=LabelScaling.from_dict(content["scaling"]),
            weights={k.removeprefix("module."): v for k, v in content["state_dict"].items()},
        )
        training = content.get("training")
        state = TrainingState.from_dict(training, Epoch) if training else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: a broken checkpoint: {error!r}") from None
    return model, state


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network.

    Raises:
        DataError: a layer is missing or has another shape; the message names all of them.
    """
    check_weights(network, weights, source)
    network.load_state_dict(dict(weights))


def check_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse a network that weights do not fit; it may be on the meta device.

    Raises:
        DataError: a layer is missing or has another shape; the message names all of them.
    """
    if problems := weight_problems(network, weights):
        raise DataError(
            f"{source}: the weights do not fit the network: {'; '.join(problems)}; "
            "arch and the resolution of the maps must be those of the training"
        )


def weight_problems(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Return what keeps weights from fitting a network: layer and both shapes."""
    own = network.state_dict()
    problems = [
        f"layer {name} has shape {tuple(weights[name].shape)} in the trained model, "
        f"{tuple(value.shape)} in the network"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems += [
        f"layer {name} is not in the trained model" for name in own if name not in weights
    ]
    problems += [f"layer {name} is not in the network" for name in weights if name not in own]
    return problems


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such trained model{sought_in(path)}")
    try:
        with warnings.catch_warnings():
            # about files of other programs, which are refused below
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(
            f"{path}: cannot be read without running the code that it holds, which mlpop does "
            "not do; it was not written by mlpop, or is damaged"
        ) from None
    except Exception as error:
        # bytes that are no pickle end torch in many ways; some say one number, their code
        first = str(error).partition("\n")[0]
        words = f" ({first})" if " " in first else ""
        raise DataError(
            f"{path}: cannot be read: it is no file of torch.save, or is cut or damaged{words}"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no trained model: holds {type(content).__name__}")
    return content
