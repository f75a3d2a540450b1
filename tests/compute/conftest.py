"""Backends, started once for all tests of this folder."""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

# Workers import `fake_simulator` by its name, as they would a user's own simulator.
sys.path.insert(0, str(Path(__file__).parent))

import queue_standin
from queue_standin import COMMANDS, wait_until

from mlpop.compute.backends import job_queue, queued_jobs
from mlpop.compute.backends.base import Backend
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend

MAKERS = {
    "serial": SerialBackend,
    "processes-2": lambda: ProcessesBackend(2),
    "dask-1": lambda: DaskBackend(1),
    "dask-3": lambda: DaskBackend(3),
}
WITH_WORKERS = [name for name in MAKERS if name != "serial"]


@pytest.fixture(scope="session")
def _backends() -> Iterator[dict[str, Backend]]:
    # Dask's own handler would write to a stream that pytest has closed by then; and pytest puts
    # its handlers on loggers that do not propagate, where Dask would silence them.
    for name in ("distributed", "bokeh"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    started: dict[str, Backend] = {}
    yield started
    for backend in started.values():
        backend.__exit__(None, None, None)


def _get(started: dict[str, Backend], name: str) -> Backend:
    if name not in started:
        started[name] = MAKERS[name]().__enter__()
    return started[name]


@pytest.fixture(params=list(MAKERS))
def backend(request: pytest.FixtureRequest, _backends: dict[str, Backend]) -> Backend:
    """Every backend."""
    return _get(_backends, request.param)


@pytest.fixture(params=WITH_WORKERS)
def pool(request: pytest.FixtureRequest, _backends: dict[str, Backend]) -> Backend:
    """Every backend whose workers are processes that can die."""
    return _get(_backends, request.param)


@pytest.fixture(params=["processes-2", "dask-1"])
def mortal(request: pytest.FixtureRequest, _backends: dict[str, Backend]) -> Backend:
    """One backend of each kind with workers, for tests that end many of them."""
    return _get(_backends, request.param)


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _backends: object) -> Iterator[Path]:
    """Folder of the stand-in's jobs; its commands are on the PATH. No job is left at the end."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in COMMANDS:
        command = folder / name
        script = shlex.join([sys.executable, str(Path(queue_standin.__file__)), name])
        command.write_text(f'#!/bin/sh\nexec {script} "$@"\n')
        command.chmod(0o755)
    home = tmp_path / "queue"
    home.mkdir()
    monkeypatch.setenv("QUEUE_STANDIN", str(home))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    # The user's own simulator is found on the nodes because the environment is exported.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(job_queue, "QUEUE_SECONDS", 0.5)
    monkeypatch.setattr(queued_jobs, "REFILL_SECONDS", 0.5)
    monkeypatch.setattr(queued_jobs, "LOST_WORKER_SECONDS", 1.0)
    yield home
    pids = [int(path.read_text()) for path in home.glob("*.pid")]
    try:
        wait_until(lambda: not any(group_alive(pid) for pid in pids))
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def group_alive(pid: int) -> bool:
    alive = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return bool(alive)
