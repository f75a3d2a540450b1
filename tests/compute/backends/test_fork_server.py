"""The server that workers are forked from: killed, or with a long path for its socket."""

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mlpop.compute.backends import processes
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.errors import ComputeError


def double(task: int) -> int:
    return 2 * task


@pytest.fixture
def own_server(own_fork_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fork server of this test that is quick to start."""
    monkeypatch.setattr(processes, "_PRELOADED", ("compute",))
    monkeypatch.setattr(processes, "_PRELOADED_OF_OTHERS", ())
    return own_fork_server


def answers(backend: ProcessesBackend, count: int = 3) -> list[Any]:
    found = {outcome.index: outcome.value for outcome in backend.run(double, list(range(count)))}
    return [found[index] for index in range(count)]


def test_a_killed_fork_server_is_started_again(own_server: Any) -> None:
    with ProcessesBackend(2) as backend:
        assert answers(backend) == [0, 2, 4]
    os.kill(own_server._forkserver_pid, signal.SIGKILL)
    with ProcessesBackend(2) as backend:
        assert answers(backend) == [0, 2, 4]


def test_a_fork_server_that_is_killed_at_every_start_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """multiprocessing tells it by an EOFError, which click takes for Ctrl-C."""

    class Process:
        def __init__(self, **_: Any) -> None: ...

        def start(self) -> None:
            raise EOFError("unexpected EOF")

    class Context:
        Pipe = staticmethod(processes.multiprocessing.Pipe)

    Context.Process = Process  # type: ignore[attr-defined]
    monkeypatch.setattr(processes, "_context", Context)
    monkeypatch.setattr(processes, "START_PAUSE", 0.0)
    with (
        pytest.raises(ComputeError, match="the fork server of the workers died 3 times"),
        ProcessesBackend(1) as backend,
    ):
        answers(backend)


def test_a_long_tmpdir_is_no_obstacle(own_server: Any, long_tmpdir: Path) -> None:
    with ProcessesBackend(1) as backend:
        assert answers(backend) == [0, 2, 4]
    assert tempfile.gettempdir() == str(long_tmpdir)
