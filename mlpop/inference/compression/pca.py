"""Principal components of flattened maps: fitted by an SVD, kept as plain numbers."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlpop.errors import ConfigError, DataError
from mlpop.io.files import write_atomically
from mlpop.networks.rng import one_thread

ARRAYS = ("mean", "components", "explained_variance", "explained_variance_ratio")
"""What an `.npz` of a PCA holds; also the names of scikit-learn's attributes, less their `_`."""

_CHUNK = 512
_SMALLEST = 1e-100
"""Squares of smaller numbers leave double precision."""


@dataclass(frozen=True, eq=False)
class PCA:
    """Principal components: `z = (v - mean) @ components.T`.

    Attributes:
        mean: (f,) of the training vectors.
        components: (k, f) orthonormal rows, by falling variance.
        explained_variance: (k,) variance of the training set along each (divisor n - 1).
        explained_variance_ratio: (k,) the same as a fraction of the total variance.
        whiten: divide every z by its standard deviation, as scikit-learn's `whiten` does.

    Raises:
        DataError: shapes contradict each other, a number is not finite, or whitening would
            divide by zero.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    explained_variance: NDArray[np.float64]
    explained_variance_ratio: NDArray[np.float64]
    whiten: bool = False

    def __post_init__(self) -> None:
        for name in ARRAYS:
            values = np.array(getattr(self, name), dtype=np.float64)
            if not np.isfinite(values).all():
                raise DataError(f"PCA: {name} holds NaN or infinity")
            object.__setattr__(self, name, values)
        shape = self.components.shape
        if self.components.ndim != 2 or 0 in shape:
            raise DataError(f"PCA: components must have the shape (k, f), but got {shape}")
        shapes = {"mean": (shape[1],), ARRAYS[2]: (shape[0],), ARRAYS[3]: (shape[0],)}
        for name, expected in shapes.items():
            if (actual := getattr(self, name).shape) != expected:
                raise DataError(
                    f"PCA: with components of shape {shape} {name} must have the shape "
                    f"{expected}, but got {actual}"
                )
        if self.whiten and not (self.explained_variance > 0).all():
            raise DataError("PCA: whitening needs an explained_variance above 0 everywhere")

    @property
    def num_components(self) -> int:
        return len(self.components)

    @property
    def num_features(self) -> int:
        return len(self.mean)

    def transform(self, v: ArrayLike) -> NDArray[np.float64]:
        """Return the components (n, k) of vectors (n, f).

        Raises:
            DataError: the vectors have another length.
        """
        values = np.asarray(v, dtype=np.float64)
        self._check(values, self.num_features)
        # torch, because its number of threads can be set: the bits are those of any machine
        with one_thread():
            z = torch.from_numpy(values - self.mean) @ torch.from_numpy(self.components).T
        return z.numpy() / self._width

    def inverse_transform(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return the vectors (n, f) that components (n, k) stand for.

        Raises:
            DataError: there are not k components.
        """
        values = np.asarray(z, dtype=np.float64)
        self._check(values, self.num_components)
        with one_thread():
            v = torch.from_numpy(values * self._width) @ torch.from_numpy(self.components)
        return v.numpy() + self.mean

    def unexplained(self, v: ArrayLike) -> float:
        """Return the part of the variance of vectors (n, f) that the reconstruction loses.

        It is sum |v - v'|^2 / sum |v - mean|^2 with v' the reconstruction: 0 is perfect, 1 is
        as good as the mean of the training set.
        """
        values = np.asarray(v)
        lost = total = 0.0
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK].astype(np.float64)
            lost += float(np.sum((part - self.inverse_transform(self.transform(part))) ** 2))
            total += float(np.sum((part - self.mean) ** 2))
        return lost / total if total > 0 else 0.0

    @property
    def _width(self) -> NDArray[np.float64]:
        return np.sqrt(self.explained_variance) if self.whiten else np.ones(self.num_components)

    def _check(self, values: NDArray[np.float64], length: int) -> None:
        if values.ndim != 2 or values.shape[1] != length:
            raise DataError(
                f"PCA: expected vectors of shape (n, {length}), but got {values.shape}"
            )


def fit_pca(v: ArrayLike, num_components: int | float) -> PCA:
    """Fit principal components to vectors; the same numbers as scikit-learn's exact solvers.

    More vectors than features are reduced to their covariance matrix, piece by piece; fewer are
    decomposed as they are. The sign of a component is free; here its entry of largest magnitude
    is positive.

    Args:
        v: (n, f) training vectors, n >= 2.
        num_components: how many to keep; or, as a float between 0 and 1, the fraction of the
            variance that those kept must exceed.

    Raises:
        ConfigError: n vectors do not have so many components, or the number means nothing.
        DataError: there are fewer than two vectors, all are equal, or one is not finite.

    References:
        Jolliffe 2002, "Principal Component Analysis"; scikit-learn's `PCA`.
    """
    values = np.asarray(v)
    if values.ndim != 2 or len(values) < 2:
        raise DataError(f"a PCA needs at least 2 vectors (n, f), but got the shape {values.shape}")
    if not np.isfinite(values).all():
        raise DataError("a PCA needs finite vectors, but they hold NaN or infinity")
    mean = values.mean(axis=0, dtype=np.float64)
    unit = _unit(values, mean)
    decomposed = _of_covariance if len(values) > values.shape[1] else _of_vectors
    with one_thread():
        variance, components = (
            decomposed(values, mean) if unit == 1.0 else decomposed(values / unit, mean / unit)
        )
    total = float(variance.sum())
    if not total > 0:
        raise DataError(f"a PCA needs vectors that differ, but all {len(values)} are equal")
    # what is left are rounding errors, and n centred vectors span at most n - 1 directions
    noise = variance[0] * np.finfo(np.float64).eps * max(values.shape)
    rank = min(int(np.count_nonzero(variance > noise)), len(values) - 1)
    number = _number_kept(num_components, variance[:rank] / total, len(values))
    components = components[:number]
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(number), largest])
    variance = variance[:number]
    return PCA(mean, components * signs[:, None], variance * unit * unit, variance / total)


def _unit(values: NDArray[Any], mean: NDArray[np.float64]) -> float:
    """Return 1, or what vectors of which the squares vanish are to be divided by."""
    spread = float(np.maximum(values.max(axis=0) - mean, mean - values.min(axis=0)).max())
    return 1.0 if spread == 0.0 or spread > _SMALLEST else spread


Decomposition = tuple[NDArray[np.float64], NDArray[np.float64]]


def _of_vectors(values: NDArray[Any], mean: NDArray[np.float64]) -> Decomposition:
    centred = torch.from_numpy(values - mean)
    _, singular, rows = torch.linalg.svd(centred, full_matrices=False)
    return singular.numpy() ** 2 / (len(values) - 1), rows.numpy()


def _of_covariance(values: NDArray[Any], mean: NDArray[np.float64]) -> Decomposition:
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for start in range(0, len(values), _CHUNK):
        part = torch.from_numpy(values[start : start + _CHUNK] - mean)
        covariance.addmm_(part.T, part)
    variance, columns = torch.linalg.eigh(covariance / (len(values) - 1))
    return variance.flip(0).clamp_min(0).numpy(), columns.T.flip(0).numpy()


def _number_kept(wanted: int | float, ratio: NDArray[np.float64], count: int) -> int:
    if isinstance(wanted, float) and 0 < wanted < 1:
        return min(int(np.searchsorted(np.cumsum(ratio), wanted, side="right")) + 1, len(ratio))
    if isinstance(wanted, float) or wanted < 1:
        raise ConfigError(
            "num_components must be an integer of at least 1, or a fraction between 0 and 1, but "
            f"got {wanted}"
        )
    if wanted > len(ratio):
        raise ConfigError(
            f"num_components is {wanted}, but {count} training maps have only {len(ratio)} "
            "principal components; lower it or simulate more"
        )
    return wanted


def pca_to_bytes(pca: PCA) -> bytes:
    """Return `pca` as the bytes of an `.npz` file; the same PCA gives the same bytes."""
    buffer = io.BytesIO()
    arrays = {name: getattr(pca, name) for name in ARRAYS}
    np.savez(buffer, **arrays, whiten=np.array(pca.whiten))
    return buffer.getvalue()


def save_pca(path: Path, pca: PCA) -> None:
    """Write an `.npz` with mean, components, explained variance, its ratio, and whiten."""
    write_atomically(path, pca_to_bytes(pca))


def load_pca(path: Path) -> PCA:
    """Read the PCA of an `.npz`, of `save_pca` or with the same arrays; `whiten` may lack.

    Raises:
        DataError: the file cannot be read, lacks an array, or its arrays do not fit each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            # a lone .npy comes as an array
            names = getattr(file, "files", [])
            missing = [name for name in ARRAYS if name not in names]
            if missing:
                raise DataError(
                    f"{path}: lacks {', '.join(missing)}; the .npz of a PCA holds "
                    f"{', '.join(ARRAYS)}, found {', '.join(names) or 'none of them'}"
                )
            whiten = bool(file["whiten"]) if "whiten" in names else False
            mean, components, variance, ratio = (file[name] for name in ARRAYS)
            return PCA(mean, components, variance, ratio, whiten)
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError) as error:
        raise DataError(f"{path}: cannot be read as the .npz of a PCA: {error}") from None
