"""The backends that ship with mlpop pass the conformance suite."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mlpop.compute.backends.base import Backend
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.testing import BACKEND_CHECKS, BackendSuite, check_backend


class Shared(BackendSuite):
    """All tests of a class use one backend, started once."""

    backend: Backend

    @contextmanager
    def make_backend(self) -> Iterator[Backend]:
        yield self.backend


class TestSerial(Shared):
    backend = SerialBackend()


class TestProcesses(Shared):
    @pytest.fixture(autouse=True, scope="class")
    def _started(self, request: pytest.FixtureRequest) -> Iterator[None]:
        with ProcessesBackend(2) as request.cls.backend:
            yield


class TestDask(Shared):
    @pytest.fixture(autouse=True, scope="class")
    def _started(self, request: pytest.FixtureRequest) -> Iterator[None]:
        # pytest puts its handlers on loggers that do not propagate, where Dask would silence them
        for name in ("distributed", "bokeh"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
        with DaskBackend(2) as request.cls.backend:
            yield


def test_the_function_runs_every_check_of_the_class() -> None:
    tests = [name for name in dir(BackendSuite) if name.startswith("test_")]
    assert len(tests) == len(BACKEND_CHECKS)
    with ProcessesBackend(1) as backend:
        check_backend(backend)
