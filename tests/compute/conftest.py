"""Backends, started once for all tests of this folder."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Workers import `fake_simulator` by its name, as they would a user's own simulator.
sys.path.insert(0, str(Path(__file__).parent))

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
