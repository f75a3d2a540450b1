"""Sets of the next round, simulated by a thread while the driver still tests the last one."""

import threading
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Backend, Progress
from mlpop.datasets.shards import ShardRecord
from mlpop.experiment.simulations.pace import Pace
from mlpop.experiment.simulations.simulated_set import SuppliedSet

LEAVING_SECONDS = 5.0
"""That the thread may take to end after its run was stopped [s]."""

_Told = SimpleQueue[tuple[str, Any]]


class Make(Protocol):
    """Simulates a set; what it tells, and when, is that of `simulate_set`."""

    def __call__(
        self,
        *,
        on_progress: Callable[[Progress, Pace], None],
        on_shard: Callable[[ShardRecord], None],
    ) -> SuppliedSet: ...


@dataclass(frozen=True)
class SetToMake:
    """A set whose theta are known.

    Attributes:
        theta: (n, D) physical units.
        folder: of the set, with theta in it.
        proposal: how theta were drawn, see `ProposalDraw.to_dict`; empty for the prior.
        make: simulates it.
    """

    theta: NDArray[np.float64]
    folder: Path
    proposal: Mapping[str, Any]
    make: Make


class Ahead:
    """Simulates sets in the background, one after the other; a context manager.

    No run of MLflow is written to meanwhile: what a set tells waits until it is taken. Leaving
    the block ends what still runs; its finished shards stay.

    Args:
        backend: with workers; nothing else may run on it until all that was begun is made.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._begun: dict[tuple[int, str], SetToMake] = {}
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._backend.stop()
            self._thread.join(LEAVING_SECONDS)

    def begin(self, round_: int, sets: Mapping[str, SetToMake]) -> None:
        """Begin to simulate sets of a round, use -> set, in this order."""
        told: list[tuple[Make, _Told]] = []
        for use, each in sets.items():
            told.append((each.make, SimpleQueue()))
            self._begun[round_, use] = replace(each, make=partial(_follow, told[-1][1]))
        self._thread = threading.Thread(
            target=_make_all, args=(told,), name="mlpop-ahead", daemon=True
        )
        self._thread.start()

    def taken(self, round_: int, use: str) -> SetToMake | None:
        """Return a set that was begun; None if it was not, and then the backend is free.

        Its `make` waits for the set and tells all that it has told so far, in the caller's
        thread; what went wrong is raised there.
        """
        begun = self._begun.pop((round_, use), None)
        if begun is None and self._thread is not None:
            self._thread.join()
        return begun


def _make_all(sets: list[tuple[Make, _Told]]) -> None:
    try:
        for make, told in sets:
            made = make(on_progress=partial(_note, told), on_shard=partial(_note_shard, told))
            told.put(("made", made))
    except BaseException as error:
        for _, told in sets:
            told.put(("failed", error))


def _note(told: _Told, progress: Progress, pace: Pace) -> None:
    # of a million simulations only their shards are remembered
    if progress.shard is not None:
        told.put(("progress", (replace(progress, shard=_named(progress.shard)), copy(pace))))


def _note_shard(told: _Told, record: ShardRecord) -> None:
    told.put(("shard", _named(record)))


def _named(record: ShardRecord) -> ShardRecord:
    """Return a record with nothing but name and number, which can wait in memory."""
    return replace(record, rows=(), position={}, arrays={})


def _follow(
    told: _Told,
    *,
    on_progress: Callable[[Progress, Pace], None],
    on_shard: Callable[[ShardRecord], None],
) -> SuppliedSet:
    while True:
        kind, what = told.get()
        if kind == "shard":
            on_shard(what)
        elif kind == "progress":
            on_progress(*what)
        elif kind == "failed":
            raise what
        else:
            made: SuppliedSet = what
            return made
