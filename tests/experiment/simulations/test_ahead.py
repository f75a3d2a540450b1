"""Sets that a thread simulates: what they tell waits for whoever takes them, errors too."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpop.compute import Progress
from mlpop.datasets.shards import ShardRecord, SimulationRow
from mlpop.errors import DataError
from mlpop.experiment.simulations.ahead import Ahead, Make, SetToMake
from mlpop.experiment.simulations.pace import Pace
from mlpop.experiment.simulations.simulated_set import SuppliedSet

THETA = np.zeros((3, 2))
RECORD = ShardRecord("shard-00004", 4, (), (SimulationRow(0, "seed"),), {0: 0}, {})


class Workers:
    """A backend of which only the end matters."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()


def to_make(make: Callable[..., SuppliedSet]) -> SetToMake:
    return SetToMake(THETA, Path("folder"), {"kind": "truncated"}, make)


def making(name: str, *, until: threading.Event | None = None) -> Make:
    """Return a set that tells one shard, and of two simulations."""

    def make(on_progress: Any, on_shard: Any) -> SuppliedSet:
        pace = Pace("title", lines=False, rate=2.0)
        on_progress(Progress(1, 3, {"ok": 1}), pace)
        on_shard(RECORD)
        on_progress(Progress(3, 3, {"ok": 3}, RECORD), pace)
        pace.rate = 9.0
        if until is not None:
            until.wait(60)
        return SuppliedSet(Path(name), "digest", 3)

    return make


def failing(on_progress: Any, on_shard: Any) -> SuppliedSet:
    raise DataError("the disk is full")


def heard(begun: SetToMake) -> tuple[SuppliedSet, list[Any]]:
    told: list[Any] = []
    made = begun.make(
        on_progress=lambda progress, pace: told.append((progress, pace.rate)),
        on_shard=told.append,
    )
    return made, told


def test_what_a_set_tells_waits_in_order_and_small() -> None:
    with Ahead(Workers()) as ahead:  # type: ignore[arg-type]
        ahead.begin(1, {"training": to_make(making("a")), "test": to_make(making("b"))})
        for use, name in (("training", "a"), ("test", "b")):
            begun = ahead.taken(1, use)
            assert begun is not None
            assert (begun.theta is THETA, begun.proposal) == (True, {"kind": "truncated"})
            made, (shard, (progress, rate)) = heard(begun)
            assert made.csv == Path(name)
            # a million rows do not wait in memory; the pace is that of its time
            assert (shard.name, shard.number, shard.rows) == (RECORD.name, 4, ())
            assert (progress.done, progress.shard, rate) == (3, shard, 2.0)


def test_a_set_of_another_round_was_not_begun_and_finds_the_workers_free() -> None:
    release, workers = threading.Event(), Workers()
    with Ahead(workers) as ahead:  # type: ignore[arg-type]
        assert ahead.taken(0, "training") is None
        ahead.begin(1, {"training": to_make(making("a", until=release))})
        threading.Timer(0.2, release.set).start()
        assert ahead.taken(0, "predictive") is None
        assert release.is_set()
        assert ahead.taken(1, "training") is not None
        assert ahead.taken(1, "training") is None
    assert not workers.stopped.is_set()


def test_an_error_is_raised_where_the_set_is_taken_and_nothing_follows_it() -> None:
    made: list[str] = []

    def never(on_progress: Any, on_shard: Any) -> SuppliedSet:
        made.append("test")
        raise AssertionError

    with Ahead(Workers()) as ahead:  # type: ignore[arg-type]
        ahead.begin(1, {"training": to_make(failing), "test": to_make(never)})
        for use in ("training", "test"):
            begun = ahead.taken(1, use)
            assert begun is not None
            with pytest.raises(DataError, match="the disk is full"):
                heard(begun)
    assert not made


def test_leaving_stops_what_runs() -> None:
    workers = Workers()
    with Ahead(workers) as ahead:  # type: ignore[arg-type]
        ahead.begin(1, {"training": to_make(making("a", until=workers.stopped))})
    assert workers.stopped.is_set()
    assert "mlpop-ahead" not in {thread.name for thread in threading.enumerate()}
