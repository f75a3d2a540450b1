"""Ctrl-C, a killed driver, and open ports: seen from outside, on a driver of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

DRIVER = """
import os, sys, time
from mlpop.compute.backends.{module} import {backend}

def work(task, emit):
    emit({{"pid": os.getpid()}})
    time.sleep(60)

if __name__ == "__main__":
    pids = []
    def on_event(index, event):
        pids.append(event["pid"])
        if len(set(pids)) == 2:
            print(*pids, flush=True)
    try:
        with {backend}(2) as backend:
            list(backend.run(work, range(4), on_event=on_event))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
"""
BACKENDS = [("processes", "ProcessesBackend"), ("dask_backend", "DaskBackend")]


@pytest.fixture(params=BACKENDS, ids=["processes", "dask"])
def driver(request: pytest.FixtureRequest, tmp_path: Path):
    """A driver in a process group of its own, with two busy workers; and their pids."""
    module, backend = request.param
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(module=module, backend=backend))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    workers: list[int] = []
    try:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        family = psutil.Process(process.pid).children(recursive=True) if workers else []
        assert len(workers) == 2, process.communicate(timeout=10)
        yield process, workers, family
    finally:
        for pid in [process.pid, *workers]:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def gone(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    return psutil.wait_procs(family, timeout=seconds)[1]


def test_ctrl_c_ends_all_and_is_raised_once(driver) -> None:
    process, workers, family = driver
    assert set(workers) <= {member.pid for member in family}
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert out == "interrupted\n"
    assert err == ""
    assert gone(family, 5) == []


def test_ports_are_on_loopback_and_a_killed_driver_leaves_no_worker(driver) -> None:
    process, workers, family = driver
    ports = listening([psutil.Process(process.pid), *family])
    assert set(ports) <= {"127.0.0.1", "::1"}
    # Dask: the scheduler, its dashboard, and a worker and a nanny each.
    assert len(ports) >= (3 if "DaskBackend" in Path(process.args[1]).read_text() else 0)
    assert set(workers) <= {member.pid for member in family}
    process.kill()
    assert gone(family, 10) == []


def listening(family: list[psutil.Process]) -> list[str]:
    return [
        connection.laddr.ip
        for member in family
        for connection in member.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]


UNGUARDED = """
from mlpop.compute.backends.processes import ProcessesBackend

class Pair:
    def __init__(self, x):
        self.x = x

with ProcessesBackend(2) as backend:
    values = [outcome.result() for outcome in backend.run(lambda x: Pair(x), range(4))]
assert all(type(value) is Pair for value in values)
print("sum", sum(value.x for value in values))
"""


@pytest.mark.parametrize("from_file", [True, False])
def test_a_script_needs_no_guard(from_file: bool, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(script) if from_file else "-"],
        input=None if from_file else UNGUARDED,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("sum 6\n", "")
