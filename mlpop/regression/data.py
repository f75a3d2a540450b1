"""Datasets as a training sees them: scaled maps and labels, served in batches.

A set that fits into memory is one tensor, and a batch is a selection of its rows: no file is
read, and nothing is copied between processes, in an epoch. A larger one is read as needed by
torch's DataLoader. Both serve the same batches.
"""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from mlpop.datasets.index import Filter
from mlpop.datasets.loading import Resize, load_dataset
from mlpop.datasets.scaling import LabelScaling, Mode, foreign_statistics, scale_inputs
from mlpop.errors import MlpopError
from mlpop.io.locks import make_room_for_sockets
from mlpop.regression.maps import Kind, MapReader, read_index

EVALUATION_CHUNK = 64
"""Rows of a batch without gradients; 512 take twice as long, as they do not fit the cache."""

logger = logging.getLogger(__name__)

_MIB = 2**20


@dataclass(frozen=True)
class Selection:
    """What is read from an index file, and how maps are scaled.

    Attributes:
        kind: what the files of maps are.
        filter_inputs: columns of the maps, positions in the header or names.
        filter_labels: columns of the labels; None for all.
        input_scaling: of every map by its own pixels; none for pictures.
        resize: `pad` or `none`.
    """

    kind: Kind
    filter_inputs: Filter | None
    filter_labels: Filter | None
    input_scaling: Mode
    resize: Resize = "none"


class PointSet(ABC):
    """N samples of maps (C, H, W) with D labels.

    Args:
        theta: (N, D) float64 labels, physical units.
        scaling: of the labels, which gives `targets` (N, D) float32.
        channels: C names.
        shape: (C, H, W).
        source: the index file.
    """

    def __init__(
        self,
        theta: NDArray[np.float64],
        scaling: LabelScaling,
        channels: Sequence[str],
        shape: tuple[int, ...],
        source: Path,
    ) -> None:
        self.theta, self.labels, self.channels = theta, scaling.labels, tuple(channels)
        self.targets = torch.from_numpy(scaling.scale(theta)).float()
        self.shape, self.source = shape, source

    def __len__(self) -> int:
        return len(self.theta)

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of labels and stored maps, the same in memory and from the files."""

    @abstractmethod
    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield maps (b, C, H, W) and targets (b, D) of the rows `order`, `size` at a time."""

    @abstractmethod
    def evaluation(self, rows: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the maps of the rows, by default of all in order, in larger pieces."""

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Serve from now on tensors on `device`."""


class MemorySet(PointSet):
    """A set as one tensor.

    Args:
        x: (N, C, H, W) float32 scaled maps.
        theta, scaling, channels, source: see `PointSet`.
        digest: SHA-256 of the content; computed if not given.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        theta: NDArray[np.float64],
        scaling: LabelScaling,
        channels: Sequence[str],
        source: Path,
        digest: str | None = None,
    ) -> None:
        super().__init__(theta, scaling, channels, tuple(x.shape[1:]), source)
        self.x = torch.from_numpy(np.ascontiguousarray(x))
        if self.x.ndim == 4:
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self._digest = digest or content_digest(x, theta)

    @property
    def digest(self) -> str:
        return self._digest

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in order.to(self.x.device).split(size):
            yield self.x[rows], self.targets[rows]

    def evaluation(self, rows: Tensor | None = None) -> Iterator[Tensor]:
        x = self.x if rows is None else self.x[rows.to(self.x.device)]
        yield from x.split(EVALUATION_CHUNK)

    def to(self, device: torch.device) -> None:
        self.x, self.targets = self.x.to(device), self.targets.to(device)


class StreamedSet(PointSet):
    """A set that is read as needed, by `num_workers` processes ahead of the training.

    Args:
        reader: of the scaled maps.
        theta, scaling: see `PointSet`.
        num_workers: 0 reads in this process.
    """

    def __init__(
        self,
        reader: MapReader,
        theta: NDArray[np.float64],
        scaling: LabelScaling,
        num_workers: int,
    ) -> None:
        super().__init__(theta, scaling, reader.channels, reader.shape, reader.source)
        self._reader = reader
        self._device = torch.device("cpu")
        if num_workers > 0:
            make_room_for_sockets()
        # the batches that the DataLoader serves next
        self._pieces: list[list[int]] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Served(reader),  # type: ignore[arg-type]
            batch_sampler=self._pieces,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            # the driver has threads, which a forked process would inherit half
            multiprocessing_context="forkserver" if num_workers > 0 else None,
            # otherwise torch's global generator would advance
            generator=torch.Generator(),
        )

    @cached_property
    def digest(self) -> str:
        """See `PointSet.digest`; every map is read once for it."""
        return content_digest(map(self._reader.stored, range(len(self))), self.theta)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        pieces = order.cpu().split(size)
        for rows, x in zip(pieces, self._read(pieces), strict=True):
            yield x, self.targets[rows.to(self._device)]

    def evaluation(self, rows: Tensor | None = None) -> Iterator[Tensor]:
        order = torch.arange(len(self)) if rows is None else rows.cpu()
        yield from self._read(order.split(EVALUATION_CHUNK))

    def to(self, device: torch.device) -> None:
        self._device = device
        self.targets = self.targets.to(device)

    def _read(self, pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        self._pieces[:] = [piece.tolist() for piece in pieces]
        for served in self._loader:
            if isinstance(served, MlpopError):
                raise served
            yield torch.from_numpy(served).to(self._device)


def load_set(
    path: Path,
    selection: Selection,
    scaling_of: LabelScaling | Callable[[tuple[str, ...]], LabelScaling],
    *,
    cache_mb: int = 2048,
    num_workers: int = 0,
) -> PointSet:
    """Load a dataset.

    Args:
        path: its index file.
        selection: what to read.
        scaling_of: the scaling of the labels, or what makes it of their names.
        cache_mb: largest size of a set that is kept in memory [MiB].
        num_workers: processes that read a larger one.

    Raises:
        DataError: a file, column or value is missing or broken; the message names file, row and
            column.
        ConfigError: the scaling does not fit the labels.
    """
    index = read_index(path, selection.kind)
    channels = index.select_channels(selection.filter_inputs)
    labels = index.select_labels(selection.filter_labels)
    scaling = scaling_of if isinstance(scaling_of, LabelScaling) else scaling_of(tuple(labels))
    reader = MapReader(index, channels, selection.kind, selection.input_scaling, selection.resize)
    theta = index.label_values(labels)
    for text in foreign_statistics(scaling, theta):
        logger.warning("%s: %s", path, text)
    if reader.nbytes > cache_mb * _MIB:
        return StreamedSet(reader, theta, scaling, num_workers)
    if selection.kind == "rgb":
        x = reader.read(range(len(reader)))
        return MemorySet(x, theta, scaling, channels, path)
    data = load_dataset(
        path,
        filter_inputs=selection.filter_inputs,
        filter_labels=selection.filter_labels,
        resize=selection.resize,
    )
    return MemorySet(
        scale_inputs(data.x, selection.input_scaling),
        theta,
        scaling,
        channels,
        path,
        content_digest(data.x, theta),
    )


def content_digest(x: Iterable[NDArray[np.float32]], theta: NDArray[np.float64]) -> str:
    """Return the SHA-256 of maps, given sample by sample or as one array, and labels."""
    digest = hashlib.sha256(np.ascontiguousarray(theta, "<f8").tobytes())
    for sample in x:
        digest.update(np.ascontiguousarray(sample, "<f4").tobytes())
    return digest.hexdigest()


class _Served:
    """What a process of the DataLoader runs; an error comes back as a value, in its own words."""

    def __init__(self, reader: MapReader) -> None:
        self.reader = reader

    def __getitems__(self, rows: list[int]) -> Any:
        try:
            return self.reader.read(rows)
        except MlpopError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch
