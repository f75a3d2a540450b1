"""Trained estimators on disk: weights as safetensors, everything else as JSON, no pickle."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sbi
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mlpop.errors import ConfigError, DataError
from mlpop.inference.estimators.estimator import Estimator, empty_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.io.files import sha256_of, write_atomically, write_json

WEIGHTS = "estimator.safetensors"
DESCRIPTION = "estimator.json"


def save_estimator(
    folder: Path,
    estimator: Estimator,
    spec: EstimatorSpec,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write `estimator.safetensors`, then `estimator.json` with the JSON values of `record`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    save_tensors(weights, estimator.state_dict())
    description = {
        "spec": json.loads(spec.model_dump_json()),
        "sha256": sha256_of(weights),
        "versions": {"sbi": sbi.__version__, "torch": str(torch.__version__)},
        "record": dict(record or {}),
    }
    write_json(folder / DESCRIPTION, description)


def load_estimator(folder: Path) -> tuple[Estimator, EstimatorSpec]:
    """Rebuild the estimator of `folder` with its weights, in evaluation mode.

    Raises:
        DataError: a file is missing or damaged, or its weights do not fit this sbi version.
    """
    description = read_record(folder)
    weights = folder / WEIGHTS
    try:
        if sha256_of(weights) != description["sha256"]:
            raise DataError(
                f"{weights}: its SHA-256 is not the one of {DESCRIPTION}; it is damaged"
            )
        if description["spec"].get("schema_version") == 1:
            raise DataError(
                f"{folder}: the estimator was trained by mlpop 0.1 or older, whose networks saw "
                "standardized labels, not the unit cube of the prior; train it again"
            )
        spec = EstimatorSpec.parse(description["spec"], str(folder / DESCRIPTION))
        estimator = empty_estimator(spec)
        estimator.load_state_dict(load_file(weights))
    except (OSError, KeyError, SafetensorError, ConfigError) as error:
        raise DataError(f"{folder}: the estimator cannot be read: {error}") from None
    except RuntimeError as error:
        raise DataError(
            f"{weights}: does not fit the network of {DESCRIPTION} "
            f"(saved with {description.get('versions')}): {error}"
        ) from None
    estimator.eval()
    return estimator, spec


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of the `estimator.json` in `folder`.

    Raises:
        DataError: it is missing or not JSON.
    """
    path = folder / DESCRIPTION
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return description


def load_ensemble(folders: Sequence[Path]) -> list[Estimator]:
    """Load the trained estimators of `folders`.

    Raises:
        DataError: one cannot be read, or they are not of one kind, about the same theta and x.
    """
    loaded = [load_estimator(folder) for folder in folders]
    kinds = {(spec.kind, spec.x_shape, spec.dimension) for _, spec in loaded}
    if len(kinds) != 1:
        raise DataError(
            f"the {len(loaded)} members do not belong together: they differ in kind, in the "
            "shape of x or in the number of labels"
        )
    return [estimator for estimator, _ in loaded]


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` as safetensors; a reader sees the old file or the whole new one."""
    # safetensors refuses tensors that share memory or have gaps
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    write_atomically(path, save(copies))
