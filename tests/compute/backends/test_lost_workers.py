"""Workers that die: kill -9 in the middle of a task, tasks that kill every worker."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cloudpickle
import pytest

from mlpop.compute.backends.base import Backend, Event
from mlpop.compute.backends.dask_backend import DaskBackend
from mlpop.compute.backends.processes import ProcessesBackend

cloudpickle.register_pickle_by_value(sys.modules[__name__])

Emit = Callable[[Event], None]


def square_slowly(task: tuple[int, Path], emit: Emit) -> int:
    number, folder = task
    with (folder / f"starts-{number}").open("a") as starts:
        starts.write("x")
    emit({"pid": os.getpid()})
    time.sleep(0.3)
    return number**2


def test_kill_9_in_the_middle_of_a_task_changes_no_answer(pool: Backend, tmp_path: Path) -> None:
    killed = []

    def on_event(index: int, event: Event) -> None:
        if index == 2 and not killed:
            killed.append(event["pid"])
            os.kill(event["pid"], signal.SIGKILL)

    tasks = [(number, tmp_path) for number in range(6)]
    outcomes = {o.index: o for o in pool.run(square_slowly, tasks, on_event=on_event)}
    assert len(killed) == 1
    assert [outcomes[i].result() for i in range(6)] == [0, 1, 4, 9, 16, 25]
    assert outcomes[2].attempts == 2
    assert (tmp_path / "starts-2").read_text() == "xx"


def kill_own_process(task: tuple[int, Path]) -> int:
    number, folder = task
    with (folder / f"starts-{number}").open("a") as starts:
        starts.write("x")
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_task_that_kills_every_worker_fails_and_the_pool_goes_on(
    mortal: Backend, tmp_path: Path, max_attempts: int
) -> None:
    tasks = [(number, tmp_path) for number in range(4)]
    outcomes = {o.index: o for o in mortal.run(kill_own_process, tasks, max_attempts=max_attempts)}
    bad = outcomes.pop(1)
    assert (bad.status, bad.lost, bad.attempts) == ("failed", True, max_attempts)
    times = {1: "once", 3: "3 times"}[max_attempts]
    assert bad.error.startswith(f"the worker process died {times} while running it (")
    assert (tmp_path / "starts-1").read_text() == "x" * max_attempts
    assert {i: o.result() for i, o in outcomes.items()} == {0: 0, 2: 2, 3: 3}


def test_the_signal_is_named() -> None:
    with ProcessesBackend(1) as backend:
        [outcome] = backend.run(lambda _: os.kill(os.getpid(), signal.SIGSEGV), [0])
        assert outcome.error.endswith("(SIGSEGV)")
        [outcome] = backend.run(os._exit, [7])
        assert outcome.error.endswith("(exit code 7)")


def hold_the_interpreter(seconds: float) -> None:
    """Run compiled code that keeps the interpreter's lock (what a numba function does)."""
    import ctypes

    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def test_compiled_code_is_stopped_at_the_limit(mortal: Backend) -> None:
    started = time.monotonic()
    outcomes = {o.index: o for o in mortal.run(hold_the_interpreter, [40.0, 0.0], time_limit=0.5)}
    assert [outcomes[0].status, outcomes[1].status] == ["timeout", "ok"]
    assert time.monotonic() - started < 20


def variables(die: bool) -> tuple[str | None, str | None]:
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ.get("MLFLOW_RUN_ID"), os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("kind", [ProcessesBackend, DaskBackend])
def test_workers_do_not_inherit_the_mlflow_run(
    kind: type[ProcessesBackend] | type[DaskBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with kind(1) as backend:
        first, killed, second = sorted(
            backend.run(variables, [False, True, False], max_attempts=1), key=lambda o: o.index
        )
    assert killed.lost
    assert first.result() == (None, "1")
    assert second.result() == (None, "1")
    assert os.environ["MLFLOW_RUN_ID"] == "0123"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("kind", [ProcessesBackend, DaskBackend])
def test_leaving_the_block_ends_all_workers(
    kind: type[ProcessesBackend] | type[DaskBackend],
) -> None:
    with kind(2) as backend:
        pids = {o.result() for o in backend.run(_pid, [0.2] * 4)}
        assert len(pids) == 2
    for _ in range(200):
        alive = set()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, 0)
                alive.add(pid)
        if not alive:
            break
        time.sleep(0.02)
    assert not alive


def _pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()
