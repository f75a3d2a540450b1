"""Dask clusters: who may be talked to, workers that retire, and as many as there is work for."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from campaigns import GOLDEN_DIGEST, MIXED, Campaign, digest_of
from distributed import Client, LocalCluster, Security

from mlpop.compute import make_backend
from mlpop.compute.backends.base import Backend
from mlpop.compute.backends.clusters import check_scheduler_address
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.job_queue import identity_in, temporary_identity
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.errors import ComputeError, ConfigError

cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.usefixtures("_backends")


def local(workers: int = 1, **compute: Any) -> Backend:
    block = ComputeConfig.parse(compute)
    return make_backend(enable_dask=True, workers_dask=workers, compute=block)


@pytest.mark.parametrize(
    "address",
    ["tls://node7:8786", "wss://node7:8786", "tcp://127.0.0.1:8786", "localhost:8786", "[::1]:80"],
)
def test_safe_schedulers(address: str) -> None:
    check_scheduler_address(address)


@pytest.mark.parametrize(
    "address", ["tcp://node7:8786", "192.168.1.7:8786", "ws://127.0.0.1.evil.example:80", "node7"]
)
def test_an_open_scheduler_on_another_machine_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ComputeError, match="whoever reaches it can run code as you"):
        local(scheduler_address=address).__enter__()
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    with pytest.raises(ComputeError, match="does not use TLS"):
        local().__enter__()
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": address}))
    with pytest.raises(ComputeError, match="insecure_scheduler"):
        local(scheduler_file=str(file)).__enter__()


def test_an_open_scheduler_is_taken_if_told_so() -> None:
    backend = local(
        scheduler_address="tcp://192.0.2.254:9", insecure_scheduler=True, connect_timeout=0.5
    )
    with pytest.raises(ComputeError, match=r"no connection to tcp://192\.0\.2\.254:9"):
        backend.__enter__()


def test_a_file_without_an_address_is_told(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"type": "Scheduler"')
    with pytest.raises(ComputeError, match="does not hold a scheduler's address"):
        local(scheduler_file=str(file), connect_timeout=0.3).__enter__()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cluster": ""}, "cluster: must not be empty"),
        ({"worker_memory": "lots"}, "worker_memory: must be a number with a unit"),
        ({"htcondor": {"disk": "2"}}, "htcondor.disk: must be a number with a unit"),
        ({"adaptive": {"minimum": 3, "maximum": 2}}, "adaptive.maximum: must be at least"),
        ({"scheduler_address": "tls://a:1", "adaptive": {}}, "adaptive: must be null"),
        ({"scheduler_address": "tls://a:1", "cluster": "htcondor"}, "scheduler_address: must be"),
        ({"scheduler_address": "tls://a:1", "scheduler_file": "b"}, "scheduler_file: must be"),
        ({"worker_lifetime": 5, "worker_lifetime_stagger": 5}, "worker_lifetime_stagger: must"),
        ({"tls": {"ca_file": "a", "cert": "b"}}, "tls.key"),
        ({"htcondor": {"port": 70000}}, "htcondor.port: must be at most 65535"),
    ],
)
def test_wrong_fields_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ComputeConfig.parse(values, "x.json")
    assert message in str(refused.value)


def test_missing_identity_is_named(tmp_path: Path) -> None:
    identity = identity_in(tmp_path).model_dump(mode="json")
    with pytest.raises(ComputeError, match=r"compute\.tls: .*ca\.pem: no such file"):
        local(tls=identity).__enter__()


def test_a_given_identity_on_both_sides(tmp_path: Path) -> None:
    with temporary_identity(tmp_path) as identity:
        tls = identity.model_dump(mode="json")
        with local(tls=tls) as backend:
            assert [o.result() for o in backend.run(abs, [-3])] == [3]
            address = backend._client.scheduler.address
            with local(scheduler_address=address, tls=tls) as guest:
                assert [o.result() for o in guest.run(abs, [-4])] == [4]
            stranger = Security.temporary()
            with pytest.raises(OSError, match="[Tt]imed out|CERTIFICATE|closed|certificate"):
                Client(address, security=stranger, timeout=1, set_as_default=False)


def process_id(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_retired_workers_are_replaced_and_change_no_bit(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    with local(2, worker_lifetime=5.0, worker_lifetime_stagger=1.0) as backend:
        outcomes = list(backend.run(process_id, [0.5] * 24))
        records = campaign.run(backend, MIXED, simulations_per_task=1)
    assert {o.status for o in outcomes} == {"ok"}
    assert sorted(o.index for o in outcomes) == list(range(24))
    assert len({o.value for o in outcomes}) > 2
    assert digest_of(campaign, MIXED, records) == GOLDEN_DIGEST


@pytest.mark.slow
def test_a_task_that_outlives_every_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlpop.compute.backends.dask_run.FREE_RESTARTS", 1)
    with local(worker_lifetime=3.0) as backend:
        [outcome] = backend.run(time.sleep, [60.0])
    assert outcome.status == "failed"
    assert "longer lifetime" in outcome.error


@pytest.mark.slow
def test_the_number_of_workers_follows_the_work() -> None:
    with local(3, adaptive={"minimum": 1}) as backend:
        scheduler = backend._client.cluster.scheduler
        assert len(scheduler.workers) == 1
        pids = {o.result() for o in backend.run(process_id, [1.0] * 15)}
        assert len(pids) == 3
        end = time.monotonic() + 40
        while len(scheduler.workers) > 1:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert [o.result() for o in backend.run(abs, [-3])] == [3]


def test_dashboard_is_on_loopback_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mlpop.compute")
    with DaskBackend(1) as backend:
        link = backend.dashboard_link
        assert link.startswith("http://127.0.0.1:")
        assert link.endswith("/status")
        assert link in caplog.text
    with pytest.raises(ComputeError, match="with` block"):
        _ = backend.dashboard_link


def test_the_dashboard_of_a_running_scheduler() -> None:
    with (
        LocalCluster(1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        local(scheduler_address=cluster.scheduler_address) as backend,
    ):
        assert backend.dashboard_link == cluster.dashboard_link
