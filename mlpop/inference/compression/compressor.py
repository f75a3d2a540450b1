"""Compressors: maps to vectors by a frozen embedding network or by principal components."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mlpop.datasets.scaling import Mode
from mlpop.errors import ConfigError, DataError
from mlpop.inference.compression.pca import PCA, load_pca, pca_to_bytes
from mlpop.inference.compression.rescaling import RescaleMode, Rescaling, fit_rescaling, varying
from mlpop.inference.estimators.spec import EmbeddingSpec
from mlpop.inference.estimators.standardize import Standardize
from mlpop.io.files import read_json_object, sha256_of, write_atomically, write_json
from mlpop.networks.registry import build, output_width
from mlpop.networks.rng import generator_from_seed, lend, one_thread

COMPRESSOR = "compressor.json"
NETWORK = "network.safetensors"
COMPONENTS = "pca.npz"

_CHUNK = 512


@dataclass(frozen=True, eq=False)
class CnnEncoder:
    """The embedding network of a trained estimator, frozen and in evaluation mode.

    Attributes:
        standardize: the layer before the network, where the estimator was trained with one.
    """

    spec: EmbeddingSpec
    network: nn.Module
    x_shape: tuple[int, ...]
    standardize: Standardize | None = None

    kind: ClassVar[Literal["cnn"]] = "cnn"

    def __post_init__(self) -> None:
        for module in (self.network, self.standardize):
            if module is not None:
                module.eval().requires_grad_(False)

    @cached_property
    def width(self) -> int:
        return output_width(self.network, self.x_shape)

    def encode(self, x: Tensor) -> Tensor:
        """Return the vectors (b, width) of `x` (b, *x_shape)."""
        return self.network(x if self.standardize is None else self.standardize(x))

    def describe(self) -> dict[str, Any]:
        """Return what the weights do not tell."""
        return {
            "network": self.spec.model_dump(mode="json", include={"type", "args"}),
            "standardize": self.standardize is not None,
        }

    def to_bytes(self) -> bytes:
        """Return the weights as safetensors."""
        parts = {"network": self.network, "standardize": self.standardize}
        tensors = {
            f"{name}.{key}": value.detach().cpu().clone()
            for name, part in parts.items()
            if part is not None
            for key, value in part.state_dict().items()
        }
        return save(tensors)


@dataclass(frozen=True, eq=False)
class PcaEncoder:
    """Principal components of the maps, flattened by channel, height, width.

    Raises:
        DataError: the PCA is of vectors of another length.
    """

    pca: PCA
    x_shape: tuple[int, ...]

    kind: ClassVar[Literal["pca"]] = "pca"

    def __post_init__(self) -> None:
        length = int(np.prod(self.x_shape))
        if self.pca.num_features != length:
            raise DataError(
                f"the PCA compresses vectors of {self.pca.num_features} numbers, but one x of "
                f"shape {list(self.x_shape)} has {length}"
            )

    @property
    def width(self) -> int:
        return self.pca.num_components

    def encode(self, x: Tensor) -> Tensor:
        """Return the vectors (b, width) of `x` (b, *x_shape)."""
        return torch.from_numpy(self.pca.transform(x.flatten(1).numpy())).float()

    def describe(self) -> dict[str, Any]:
        return {}

    def to_bytes(self) -> bytes:
        """Return the arrays as `.npz`."""
        return pca_to_bytes(self.pca)


Encoder = CnnEncoder | PcaEncoder
"""What makes vectors of maps, before they are rescaled."""


@dataclass(frozen=True, eq=False)
class Compressor:
    """Maps that are scaled already to vectors.

    Attributes:
        kept: the components of the encoder's vectors that are passed on; empty for all. What
            is the same for all maps, such as a dead ReLU, carries nothing, and no likelihood has
            a density there.
        channels: names of the channels it was made for; empty where nobody knows.
        input_scaling: of the maps it was made for; None where nobody knows.
        log_counts: whether those maps held log(1 + n) of counts n.
        numbers: how many of the last channels of x are one number each, which the encoder does not
            see: they are further components of a vector.
        source: for people: what it was made of.
    """

    encoder: Encoder
    rescaling: Rescaling = Rescaling()
    kept: tuple[int, ...] = ()
    channels: tuple[str, ...] = ()
    input_scaling: Mode | None = None
    source: str = ""
    log_counts: bool = False
    numbers: int = 0

    @property
    def kind(self) -> Literal["cnn", "pca"]:
        return self.encoder.kind

    @property
    def x_shape(self) -> tuple[int, ...]:
        channels, *others = self.encoder.x_shape
        return (channels + self.numbers, *others)

    @property
    def width(self) -> int:
        return len(self.kept) or self.full_width

    @property
    def full_width(self) -> int:
        """Components before those that do not vary are left out."""
        return self.encoder.width + self.numbers

    def maps_of(self, x: Tensor) -> Tensor:
        """Return of `x` (b, *x_shape) what the encoder sees."""
        return x[:, : x.shape[1] - self.numbers]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that its vectors depend on."""
        values = json.dumps(self._description(), sort_keys=True)
        return hashlib.sha256(values.encode() + self.encoder.to_bytes()).hexdigest()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the vectors (b, width) of scaled `x` (b, *x_shape); without gradient.

        Raises:
            DataError: `x` has another shape, or a vector is not finite.
        """
        vectors = self.encode(x)
        return self.rescaling(vectors[:, list(self.kept)] if self.kept else vectors)

    def encode(self, x: Tensor) -> Tensor:
        """Return the encoder's vectors: all components, not rescaled.

        Raises:
            DataError: `x` has another shape, or a vector is not finite.
        """
        if x.shape[1:] != self.x_shape:
            raise DataError(
                f"the compressor takes x of shape (b, {', '.join(map(str, self.x_shape))}), but "
                f"got {tuple(x.shape)}"
            )
        with torch.no_grad(), one_thread():
            maps = self.maps_of(x)
            parts = [self.encoder.encode(chunk) for chunk in maps.float().split(_CHUNK)]
        vectors = torch.cat(parts)
        if self.numbers:
            vectors = torch.cat([vectors, x[:, -self.numbers :, 0, 0].float()], 1)
        if not bool(vectors.isfinite().all()):
            row = int(vectors.isfinite().all(1).float().argmin())
            raise DataError(f"the compressor makes NaN or infinity of x, first in row {row}")
        return vectors

    def rescaled(self, x: Tensor, mode: RescaleMode, method: Mode) -> "Compressor":
        """Return a copy whose rescaling is fitted on training data `x` (n, *x_shape), scaled.

        Components that do not vary over `x` are left out; not with `sample`, the reference
        behaviour, which scales over all of them.

        Raises:
            ConfigError, DataError: as `fit_rescaling`, `varying` and `encode`.
        """
        vectors = self.encode(x)
        columns = () if mode == "sample" else varying(vectors)
        rescaling = fit_rescaling(vectors[:, list(columns)] if columns else vectors, mode, method)
        return replace(self, rescaling=rescaling, kept=columns)

    def _description(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "x_shape": list(self.x_shape),
            "width": self.width,
            "kept": list(self.kept),
            "rescaling": self.rescaling.model_dump(mode="json"),
            **({"numbers": self.numbers} if self.numbers else {}),
            **self.encoder.describe(),
        }

    def save(self, folder: Path) -> list[Path]:
        """Write the weights, then `compressor.json`, into `folder`; no pickle.

        Returns:
            The files.

        Raises:
            DataError: a file cannot be written.
        """
        file = folder / (NETWORK if self.kind == "cnn" else COMPONENTS)
        write_atomically(file, self.encoder.to_bytes())
        values = {
            **self._description(),
            "channels": list(self.channels),
            "input_scaling": self.input_scaling,
            "source": self.source,
            **({"log_counts": True} if self.log_counts else {}),
            "file": file.name,
            "sha256": sha256_of(file),
            "digest": self.digest,
        }
        write_json(folder / COMPRESSOR, values)
        return [file, folder / COMPRESSOR]


def load_compressor(folder: Path) -> Compressor:
    """Read what `Compressor.save` wrote.

    Raises:
        DataError: a file is missing, damaged or changed.
    """
    path = folder / COMPRESSOR
    values = read_json_object(path)
    try:
        file = folder / (NETWORK if values["kind"] == "cnn" else COMPONENTS)
        if (digest := sha256_of(file)) != values["sha256"]:
            raise DataError(
                f"{file}: its SHA-256 is {digest}, {COMPRESSOR} has {values['sha256']}; it is "
                "damaged or of another compressor"
            )
        numbers = int(values.get("numbers", 0))
        channels, *others = (int(length) for length in values["x_shape"])
        shape = (channels - numbers, *others)
        compressor = Compressor(
            _load_encoder(file, values, shape),
            Rescaling.parse(values["rescaling"], str(path)),
            tuple(values["kept"]),
            tuple(values["channels"]),
            values["input_scaling"],
            values["source"],
            bool(values.get("log_counts", False)),
            numbers,
        )
        recorded = values["digest"]
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, ConfigError) as error:
        raise DataError(f"{folder}: the compressor cannot be read: {error!r}") from None
    except RuntimeError as error:
        raise DataError(f"{folder}: the weights do not fit {COMPRESSOR}: {error}") from None
    if compressor.digest != recorded:
        raise DataError(
            f"{path}: its content has the digest {compressor.digest}, it says {recorded}; it was "
            "changed"
        )
    return compressor


def _load_encoder(file: Path, values: Mapping[str, Any], shape: tuple[int, ...]) -> Encoder:
    if values["kind"] == "pca":
        return PcaEncoder(load_pca(file), shape)
    spec = EmbeddingSpec.parse(values["network"], str(file.parent / COMPRESSOR))
    tensors = load(file.read_bytes())
    standardize = None
    if values["standardize"]:
        shift, scale = tensors.pop("standardize.shift"), tensors.pop("standardize.scale")
        standardize = Standardize(shift, scale)
    weights = {name.removeprefix("network."): value for name, value in tensors.items()}
    return CnnEncoder(spec, build_network(spec, weights), shape, standardize)


def build_network(spec: EmbeddingSpec, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return the network of `spec` with `weights`.

    Raises:
        ConfigError: the network cannot be built.
        RuntimeError: the weights are not those of such a network.
    """
    with lend(generator_from_seed(0)):
        network = build(spec.type, spec.args)
    network.load_state_dict(weights)
    return network
