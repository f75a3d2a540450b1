"""Compressors from what users bring: a trained network, arrays, or a pickle on request."""

import hashlib
import importlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mlpop.errors import ConfigError, DataError
from mlpop.inference.compression.compressor import (
    COMPRESSOR,
    CnnEncoder,
    Compressor,
    PcaEncoder,
    build_network,
    load_compressor,
)
from mlpop.inference.compression.pca import ARRAYS, PCA, load_pca
from mlpop.inference.compression.rescaling import Rescaling
from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.estimators.spec import EmbeddingSpec
from mlpop.inference.estimators.standardize import Standardize
from mlpop.inference.estimators.store import DESCRIPTION, WEIGHTS, load_estimator
from mlpop.io.files import read_json_object, sha256_of
from mlpop.networks.joined import MapsAndNumbers
from mlpop.networks.rng import generator_from_seed, one_thread

PICKLES = (".pickle", ".pkl", ".joblib", ".p")
"""Suffixes of the documented formats, which run code when they are read."""


@dataclass(frozen=True)
class Trust:
    """What the user says of the file of a compressor.

    Attributes:
        allow_pickle: a pickle may be read, if its digest is given too.
        sha256: digest that the file must have; None: any, where it is no pickle.
    """

    allow_pickle: bool = False
    sha256: str | None = None


def read_compressor(
    path: Path,
    kind: Literal["cnn", "pca"],
    *,
    x_shape: tuple[int, ...] | None = None,
    network: EmbeddingSpec | None = None,
    trust: Trust | None = None,
) -> Compressor:
    """Read a compressor, without rescaling; nothing is unpickled unless `trust` says so.

    `cnn` is a folder of `save_estimator` or one of its two files, a `.pt` of weights beside a
    `.json` with `type` and `args` of the network, or the pickle of a trained estimator. `pca` is
    an `.npz` with the arrays `mean`, `components`, `explained_variance` and
    `explained_variance_ratio`, or the pickle (also joblib's) of a scikit-learn PCA. Both may be a
    folder of `Compressor.save`.

    Args:
        path: file or folder.
        kind: what it must be.
        x_shape: shape of one x; None where it is not known yet: then an `.npz` is taken for
            vectors.
        network: the configured embedding network: a pickled one must be of that architecture,
            since a pickle does not say its own.
        trust: in pickles and digests.

    Raises:
        DataError: the file is missing, broken, of another kind, or made for another x; or it is
            a pickle and was not allowed with its digest.
    """
    trust = trust or Trust()
    if (path / COMPRESSOR).is_file() or path.name == COMPRESSOR:
        compressor = _saved(path if path.is_dir() else path.parent, kind, trust)
    elif path.suffix.lower() in PICKLES:
        content = _trusted(path, trust)
        pickled = _unpickle(path, content)
        if kind == "pca":
            compressor = _pca(path, _pca_of_pickle(path, pickled), x_shape)
        else:
            compressor = _cnn_of_pickle(path, pickled, x_shape, network)
    elif kind == "pca":
        if path.is_dir():
            raise DataError(f"{path}: is a folder without {COMPRESSOR}; name the .npz of a PCA")
        if path.is_file() and path.suffix.lower() != ".npz":
            raise DataError(_unknown(path, f".npz, a folder with {COMPRESSOR}"))
        pca = load_pca(path)
        _check_digest(path, trust)
        compressor = _pca(path, pca, x_shape)
    elif path.suffix.lower() in (".pt", ".pth"):
        compressor = _cnn_of_weights(path, x_shape, trust)
    else:
        compressor = _cnn_of_member(path, trust)
    if x_shape is not None and compressor.x_shape != x_shape:
        raise DataError(
            f"{path}: compresses x of shape {list(compressor.x_shape)}, but here x has the shape "
            f"{list(x_shape)}"
        )
    return compressor


def file_digest(path: Path) -> str:
    """Return the SHA-256 that `Trust.sha256` is compared with: of a folder, that of its weights.

    Raises:
        DataError: there is no such file.
    """
    if path.suffix == ".json":
        path = path.parent
    if (path / COMPRESSOR).is_file():
        path /= str(read_json_object(path / COMPRESSOR).get("file"))
    elif path.is_dir():
        path /= WEIGHTS
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _saved(folder: Path, kind: str, trust: Trust) -> Compressor:
    compressor = load_compressor(folder)
    if compressor.numbers:
        maps = compressor.channels[: -compressor.numbers]
        compressor = replace(compressor, channels=maps, numbers=0, kept=(), rescaling=Rescaling())
    if compressor.kind != kind:
        raise DataError(
            f"{folder}: holds a compressor of type '{compressor.kind}', but compression_type is "
            f"'{kind}'"
        )
    _check_digest(folder, trust)
    return compressor


def _check_digest(path: Path, trust: Trust) -> None:
    if trust.sha256 is not None and (found := file_digest(path)) != trust.sha256:
        raise DataError(f"{path}: its SHA-256 is {found}, but sha256 is {trust.sha256}")


def _trusted(path: Path, trust: Trust) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    digest = hashlib.sha256(content).hexdigest()
    if not trust.allow_pickle or trust.sha256 is None:
        raise DataError(
            f"{path}: is a pickle, and reading one runs the code in it; only if you know who "
            f"made it, set allow_pickle to true and sha256 to its digest, {digest}"
        )
    if digest != trust.sha256:
        raise DataError(
            f"{path}: is a pickle with the SHA-256 {digest}, but sha256 is {trust.sha256}; it is "
            "not the file that you trust"
        )
    return content


def _unpickle(path: Path, content: bytes) -> Any:
    try:
        # joblib writes pickles that the standard library alone cannot read
        reader: Any = importlib.import_module("joblib") if find_spec("joblib") else pickle
        return reader.load(BytesIO(content))
    # a pickle runs code, which may raise anything
    except Exception as error:
        raise DataError(
            f"{path}: cannot be unpickled: {type(error).__name__}: {error}; the packages that "
            "made it must be installed"
        ) from None


def _pca_of_pickle(path: Path, pickled: Any) -> PCA:
    names = [f"{name}_" for name in ARRAYS]
    if not all(hasattr(pickled, name) for name in names):
        raise DataError(
            f"{path}: must hold a fitted PCA of scikit-learn, found a {type(pickled).__name__}"
        )
    mean, components, variance, ratio = (getattr(pickled, name) for name in names)
    try:
        return PCA(mean, components, variance, ratio, bool(getattr(pickled, "whiten", False)))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _pca(path: Path, pca: PCA, x_shape: tuple[int, ...] | None) -> Compressor:
    shape = (pca.num_features,) if x_shape is None else x_shape
    try:
        return Compressor(PcaEncoder(pca, shape), source=str(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _cnn_of_member(path: Path, trust: Trust) -> Compressor:
    folder = path.parent if path.name in (WEIGHTS, DESCRIPTION) else path
    if path.exists() and not (folder / DESCRIPTION).is_file():
        if path.is_dir():
            raise DataError(f"{path}: holds neither {DESCRIPTION} nor {COMPRESSOR}")
        raise DataError(_unknown(path, f".pt, a folder with {DESCRIPTION} or {COMPRESSOR}"))
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    estimator, spec = load_estimator(folder)
    _check_digest(folder, trust)
    if spec.embedding is None or not isinstance(estimator, EmbedOnce):
        raise DataError(
            f"{folder}: its estimator has no embedding network; train one with snpe on maps, "
            "or set fit to true"
        )
    standardize, network = _parts(folder, estimator.embedding_net)
    embedding, shape = spec.embedding, spec.x_shape
    if isinstance(network, MapsAndNumbers):
        # numbers join the vectors as they are: what the maps gave stands alone
        shape = (shape[0] - network.num_numbers, *shape[1:])
        embedding = EmbeddingSpec.parse(embedding.args["maps"], f"{folder}/{DESCRIPTION}")
        network = network.maps
        if standardize is not None:
            first = slice(None if len(standardize.shift) == 1 else shape[0])
            standardize = Standardize(standardize.shift[first], standardize.scale[first])
    return Compressor(CnnEncoder(embedding, network, shape, standardize), source=str(folder))


def _cnn_of_weights(path: Path, x_shape: tuple[int, ...] | None, trust: Trust) -> Compressor:
    beside = path.with_suffix(".json")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not beside.is_file():
        raise DataError(
            f"{path}: needs {beside.name} beside it with the network's architecture, as "
            '{"type": "ModelConvSBI", "args": {"input_shape": [3, 32, 32], ...}}'
        )
    _check_digest(path, trust)
    try:
        spec = EmbeddingSpec.parse(read_json_object(beside), str(beside))
        weights: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        network = build_network(spec, weights)
    except ConfigError as error:
        raise DataError(str(error)) from None
    except pickle.UnpicklingError as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{path}: must hold a state_dict of tensors alone: {first}") from None
    except Exception as error:
        # bytes that are no pickle end torch in many ways
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: holds no weights of the network of {beside}: {reason}") from None
    shape = spec.args.get("input_shape", x_shape)
    if shape is None:
        raise DataError(f"{beside}: args must say input_shape")
    return Compressor(CnnEncoder(spec, network, tuple(shape)), source=str(path))


def _cnn_of_pickle(
    path: Path, pickled: Any, x_shape: tuple[int, ...] | None, spec: EmbeddingSpec | None
) -> Compressor:
    embedding = getattr(pickled, "embedding_net", None)
    if not isinstance(embedding, nn.Module):
        raise DataError(
            f"{path}: must hold a trained estimator with an embedding_net, found a "
            f"{type(pickled).__name__}"
        )
    if spec is None:
        raise DataError(f"{path}: a pickled network needs the arch block it was trained with")
    standardize, trained = _parts(path, embedding)
    shape = tuple(spec.args.get("input_shape", x_shape or ()))
    if not shape:
        raise DataError(f"{path}: the shape of the maps is not known; set arch.args.input_shape")
    try:
        network = build_network(spec, trained.state_dict())
        same = _agree(trained, network, shape)
    except (RuntimeError, ValueError) as error:
        raise DataError(_another(path, spec, str(error).partition("\n")[0])) from None
    if not same:
        raise DataError(_another(path, spec, "it computes something else from the same weights"))
    return Compressor(CnnEncoder(spec, network, shape, standardize), source=str(path))


def _agree(one: nn.Module, other: nn.Module, shape: tuple[int, ...]) -> bool:
    """Tell whether two networks with the same weights are the same function."""
    probe = torch.randn(4, *shape, generator=generator_from_seed(0))
    with torch.no_grad(), one_thread():
        first, second = (module.cpu().eval()(probe) for module in (one, other))
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=1e-6)


def _another(path: Path, spec: EmbeddingSpec, why: str) -> str:
    return (
        f"{path}: its embedding network is not the {spec.type} of arch with the arguments "
        f"{json.dumps(spec.args)}; set arch to what it was trained with: {why}"
    )


def _parts(path: Path, embedding: nn.Module) -> tuple[Standardize | None, nn.Module]:
    """Split an estimator's embedding into its standardization, if any, and its network."""
    layers = list(embedding) if type(embedding) is nn.Sequential else [embedding]
    first, *rest = layers
    standardize = None
    if isinstance(first, Standardize):
        standardize = Standardize(first.shift, first.scale)
    elif type(first).__module__.startswith("sbi.") and hasattr(first, "_std"):
        standardize = Standardize(first.get_buffer("_mean"), first.get_buffer("_std"))
    if standardize is not None:
        layers = rest
    if not layers:
        raise DataError(f"{path}: its estimator has no embedding network")
    return standardize, layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _unknown(path: Path, known: str) -> str:
    return f"{path}: of a format that is not known; known are {known}, and {', '.join(PICKLES)}"
