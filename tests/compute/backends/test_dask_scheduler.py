"""A Dask scheduler that somebody else runs: what is promised holds there too."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import pytest
from campaigns import PAUSED, PAUSED_DIGEST, Campaign, digest_of
from distributed import LocalCluster

from mlpop.compute import Progress, make_backend
from mlpop.compute.backends.base import Event
from mlpop.compute.backends.clusters import RunningScheduler
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.errors import ComputeError

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=[2])
def cluster(request: pytest.FixtureRequest, _backends: object) -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=request.param,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


def work(task: str, emit: Callable[[Event], None]) -> str:
    emit({"task": task})
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "sleep":
        time.sleep(60)
    return task


def test_values_deaths_and_limits(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
    heard: list[tuple[int, str]] = []
    tasks = ["a", "die", "b", "sleep", "c"]
    with make_backend(enable_dask=True) as backend:
        assert backend.workers == 2
        outcomes = {
            outcome.index: outcome
            for outcome in backend.run(
                work,
                tasks,
                on_event=lambda index, event: heard.append((index, event["task"])),
                time_limit=3.0,
                max_attempts=2,
            )
        }
    assert [outcomes[k].status for k in range(5)] == ["ok", "failed", "ok", "timeout", "ok"]
    assert outcomes[1].lost
    # The scheduler has its own idea of attempts, and ours is the least it can be asked for.
    assert outcomes[1].attempts >= 2
    assert {(0, "a"), (2, "b"), (3, "sleep"), (4, "c")} <= set(heard)
    assert cluster.scheduler_info["workers"], "the cluster of somebody else is left running"


def test_a_scheduler_that_goes_away_is_told(cluster: LocalCluster) -> None:
    with DaskBackend(RunningScheduler(cluster.scheduler_address, timeout=2.0)) as backend:
        outcomes = backend.run(time.sleep, [0.01, 60.0])
        assert next(outcomes).status == "ok"
        cluster.close()
        with pytest.raises(ComputeError, match="finished work is kept"):
            next(outcomes)


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_a_cluster_without_workers_is_told(cluster: LocalCluster) -> None:
    with DaskBackend(RunningScheduler(cluster.scheduler_address, timeout=1.5)) as backend:
        outcomes = backend.run(time.sleep, [0.01, 60.0])
        assert next(outcomes).status == "ok"
        cluster.scale(0)
        with pytest.raises(ComputeError, match=r"no worker for 1\.5 s"):
            next(outcomes)


def test_a_campaign_goes_on_after_its_scheduler_went_away(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    campaign = Campaign(tmp_path)

    def leave(progress: Progress) -> None:
        if progress.shard is not None and len(campaign.finished()) >= 2:
            cluster.close()

    with (
        DaskBackend(RunningScheduler(cluster.scheduler_address, timeout=2.0)) as backend,
        pytest.raises(ComputeError, match="finished work is kept"),
    ):
        campaign.run(backend, PAUSED, simulations_per_task=2, on_progress=leave)
    finished = campaign.finished()
    assert 2 <= len(finished) < len(PAUSED) // 2
    simulations = [2 * number + k for number in finished for k in (0, 1)]
    before = {index: campaign.count(index) for index in simulations}
    records = campaign.run(SerialBackend(), PAUSED, simulations_per_task=2)
    assert {index: campaign.count(index) for index in simulations} == before
    assert digest_of(campaign, PAUSED, records) == PAUSED_DIGEST
