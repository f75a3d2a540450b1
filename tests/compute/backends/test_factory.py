import os
from pathlib import Path

import pytest

from mlpop.compute import available_cores, make_backend
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.errors import ComputeError, ConfigError


def test_one_process_is_the_driver_itself() -> None:
    assert isinstance(make_backend(n_processes=1), SerialBackend)


def test_several_processes() -> None:
    backend = make_backend(n_processes=3)
    assert isinstance(backend, ProcessesBackend)
    assert backend.workers == 3


def test_dask_wins_over_processes() -> None:
    backend = make_backend(n_processes=3, enable_dask=True, workers_dask=2)
    assert isinstance(backend, DaskBackend)
    assert backend.workers == 2


def test_dask_takes_the_cores_of_the_machine_unless_told() -> None:
    assert make_backend(enable_dask=True).workers == available_cores()


def test_more_local_workers_than_cores_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    cores = available_cores()
    make_backend(enable_dask=True, workers_dask=cores)
    assert not caplog.records
    make_backend(enable_dask=True, workers_dask=cores + 3)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{cores + 3} workers on {cores} cores" in record.getMessage()


@pytest.mark.parametrize("kind", [ProcessesBackend, DaskBackend])
def test_no_workers_are_refused(kind: type[ProcessesBackend] | type[DaskBackend]) -> None:
    with pytest.raises(ComputeError, match="at least 1 worker, found 0"):
        kind(0)


def test_unreachable_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    block = ComputeConfig(scheduler_address="tcp://127.0.0.1:9", connect_timeout=0.5)
    backend = make_backend(enable_dask=True, compute=block)
    with pytest.raises(ComputeError, match=r"no connection to tcp://127\.0\.0\.1:9"):
        backend.__enter__()
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:10")
    backend = make_backend(enable_dask=True, compute=ComputeConfig(connect_timeout=0.5))
    with pytest.raises(ComputeError, match=r"no connection to tcp://127\.0\.0\.1:10"):
        backend.__enter__()


def test_missing_scheduler_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    block = ComputeConfig(scheduler_file=str(path), connect_timeout=0.5)
    with pytest.raises(ComputeError, match=r"scheduler\.json"):
        make_backend(enable_dask=True, compute=block).__enter__()


def test_run_outside_of_its_block_is_refused() -> None:
    with pytest.raises(ComputeError, match="with` block"):
        DaskBackend(1).run(abs, [1])


def test_available_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("simulations_per_task", 0),
        ("time_limit", 0.0),
        ("max_attempts", 0),
        ("max_in_flight", 0),
        ("connect_timeout", -1.0),
        ("workers", 3),
    ],
)
def test_wrong_compute_field_is_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        ComputeConfig.parse({field: value}, "x.json")
