"""The backend of worker processes on this machine.

Each worker has a pipe of its own, so that a killed worker takes nothing with it but its task:
`concurrent.futures` and loky give up the whole pool then, and none of them (nor pebble, which
does survive it) carries events in order with results. Workers are forked from a small server
process that has imported, before any thread exists, what the driver has imported of mlpop: a
fresh worker takes milliseconds, and a fork never copies a lock that another thread holds.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from mlpop.compute.backends.base import (
    MAX_ATTEMPTS,
    STOPPED,
    OnEvent,
    Outcome,
    check_run_arguments,
    describe,
)
from mlpop.compute.backends.execution import dump, lost_outcome, timeout_outcome
from mlpop.compute.backends.worker_loop import serve
from mlpop.compute.backends.workers import (
    environment_of_workers,
    main_module_hidden,
    sigint_blocked,
)
from mlpop.errors import ComputeError
from mlpop.io.locks import make_room_for_sockets

logger = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
START_ATTEMPTS = 3
START_PAUSE = 0.5  # [s]
POLL_SECONDS = 0.5  # between two looks whether the run was stopped

_PRELOADED = (
    "population",
    "maps",
    "networks",
    "inference",
    "simulators",
    "regression",
    "training",
)
_PRELOADED_OF_OTHERS = ("torch", "numba", "sbi.inference")


class ProcessesBackend:
    """A fixed number of worker processes, started when needed and kept between runs.

    Args:
        workers: number of processes, at least 1.

    Raises:
        ComputeError: `workers` is not positive.
    """

    name = "processes"

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ComputeError(f"processes backend: needs at least 1 worker, found {workers}")
        self.workers = workers
        self._pool: list[_Worker] = []
        self._running = False
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        pool, self._pool = self._pool, []
        for worker in pool:
            worker.ask_to_stop()
        end = time.monotonic() + (GRACE_SECONDS if kind is None else 0.0)
        for worker in pool:
            worker.end(patience=max(end - time.monotonic(), 0.0))

    def run(
        self,
        function: Callable[..., Any],
        tasks: Sequence[Any],
        *,
        on_event: OnEvent | None = None,
        max_in_flight: int | None = None,
        time_limit: float | None = None,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Iterator[Outcome]:
        """See `Backend.run`."""
        check_run_arguments(max_in_flight, time_limit, max_attempts)
        program = dump(("function", dump(function, "the function"), on_event is not None), "")
        limit = min(max_in_flight or self.workers, self.workers)
        return self._outcomes(program, tasks, on_event, limit, time_limit, max_attempts)

    def stop(self) -> None:
        """See `Backend.stop`."""
        self._stopped.set()

    def _outcomes(
        self,
        program: bytes,
        tasks: Sequence[Any],
        on_event: OnEvent | None,
        in_flight: int,
        time_limit: float | None,
        max_attempts: int,
    ) -> Iterator[Outcome]:
        if self._running:
            raise ComputeError("processes backend: a run on it is not finished yet")
        self._running = True
        pending = deque(range(len(tasks)))
        attempts = [0] * len(tasks)
        finished: deque[Outcome] = deque()
        for worker in self._pool:
            worker.has_function = False
        try:
            while pending or finished or self._busy():
                if self._stopped.is_set():
                    raise ComputeError(f"processes backend: {STOPPED}")
                while pending and len(self._busy()) < in_flight:
                    index = pending.popleft()
                    payload = dump(("task", index, dump(tasks[index], f"task {index}")), "")
                    attempts[index] += 1
                    self._idle_worker().give(index, program, payload)
                while finished:
                    yield finished.popleft()
                for worker in self._wait(time_limit):
                    outcome = self._receive(worker, on_event)
                    if outcome is None:
                        continue
                    count = attempts[outcome.index]
                    if not outcome.lost:
                        finished.append(replace(outcome, attempts=count))
                    elif count < max_attempts:
                        pending.appendleft(outcome.index)
                    else:
                        finished.append(
                            lost_outcome(outcome.index, count, outcome.seconds, outcome.error)
                        )
                for worker in self._over(time_limit):
                    assert worker.index is not None
                    assert time_limit is not None
                    seconds = worker.seconds()
                    count = attempts[worker.index]
                    finished.append(timeout_outcome(worker.index, count, seconds, time_limit))
                    self._discard(worker)
        finally:
            for worker in self._busy():
                self._discard(worker)
            self._running = False

    def _busy(self) -> list["_Worker"]:
        return [worker for worker in self._pool if worker.index is not None]

    def _idle_worker(self) -> "_Worker":
        for worker in self._pool:
            if worker.index is None:
                return worker
        worker = _Worker()
        self._pool.append(worker)
        return worker

    def _wait(self, time_limit: float | None) -> list["_Worker"]:
        """Workers with a message (or with an end), at the latest when one is over its limit.

        There may be none: somebody who stops the run shall not wait for the next message.
        """
        busy = self._busy()
        if not busy:
            return []
        timeout = POLL_SECONDS
        if time_limit is not None:
            left = time_limit - max(worker.seconds() for worker in busy)
            timeout = min(timeout, max(left, 0.0))
        ready = set(wait([worker.connection for worker in busy], timeout))
        return [worker for worker in busy if worker.connection in ready]

    def _over(self, time_limit: float | None) -> list["_Worker"]:
        if time_limit is None:
            return []
        return [worker for worker in self._busy() if worker.seconds() > time_limit]

    def _receive(self, worker: "_Worker", on_event: OnEvent | None) -> Outcome | None:
        """Handle one message of a busy worker; return an outcome if that ends its task."""
        assert worker.index is not None
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            index, seconds = worker.index, worker.seconds()
            self._discard(worker)
            return Outcome(index, None, "failed", error=worker.epitaph, seconds=seconds, lost=True)
        kind, *rest = pickle.loads(message)
        if kind == "ready":
            if rest[0]:
                raise ComputeError(f"the function cannot be loaded in a worker: {rest[0]}")
            worker.start_task()
        elif kind == "event":
            if on_event is not None and rest[0] == worker.index:
                on_event(*rest)
        elif kind == "done":
            index, worker.index = worker.index, None
            return _load_outcome(index, rest[1])
        return None

    def _discard(self, worker: "_Worker") -> None:
        self._pool.remove(worker)
        worker.end(patience=0.0)


class _Worker:
    """One worker process, seen from the driver; `index` is the task that it has, if any."""

    def __init__(self) -> None:
        self.index: int | None = None
        self.has_function = False
        self.epitaph = ""
        self._since: float | None = None
        self._payload = b""
        context = _context()
        with sigint_blocked(), environment_of_workers(), main_module_hidden():
            self.connection, far_end = context.Pipe()
            self._process = _started(context, far_end)
        far_end.close()

    def give(self, index: int, program: bytes, payload: bytes) -> None:
        """Hand over a task, and the function before the first one."""
        self.index = index
        self._payload = payload
        self._since = None
        if self.has_function:
            self.start_task()
        else:
            self.has_function = True
            self._send(program)

    def start_task(self) -> None:
        """Send the task; its time runs from now."""
        self._since = time.monotonic()
        self._send(self._payload)
        self._payload = b""

    def seconds(self) -> float:
        """How long the task has run [s]; 0 while the function is being loaded."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def ask_to_stop(self) -> None:
        """Tell an idle worker to leave."""
        if self.index is None:
            self._send(pickle.dumps(("stop",)))

    def end(self, patience: float) -> None:
        """Wait `patience` seconds for the process to leave, then kill it."""
        self._process.join(patience)
        if self._process.is_alive():
            # One that closed its pipe is about to leave: its exit code is the news.
            self._process.join(0.2 if self._closed() else 0.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.epitaph = _epitaph(self._process.exitcode)
        self.connection.close()
        self._process.close()

    def _closed(self) -> bool:
        try:
            return self.connection.poll() and not self.connection.recv_bytes()
        except (EOFError, OSError):
            return True

    def _send(self, payload: bytes) -> None:
        try:
            self.connection.send_bytes(payload)
        except OSError:
            # It died; its pipe says so to whoever reads it next.
            return


def _started(context: Any, far_end: Connection) -> Any:
    """Start a worker process, with a new fork server where the one that there was has died.

    Raises:
        ComputeError: the fork server dies again and again, or no process can be started.
    """
    for attempt in range(START_ATTEMPTS):
        # the fork server has the environment of the time when it was started
        process = context.Process(target=serve, args=(far_end, dict(os.environ)), daemon=True)
        try:
            process.start()
            return process
        except (EOFError, ConnectionError) as error:
            logger.warning("the fork server of the workers has died; starting another: %r", error)
            time.sleep(START_PAUSE * attempt)
        except OSError as error:
            raise ComputeError(
                f"processes backend: no worker process can be started: {error.strerror or error}"
            ) from error
    raise ComputeError(
        f"processes backend: the fork server of the workers died {START_ATTEMPTS} times while a "
        "worker was started; is something killing it, for instance for want of memory?"
    )


def _context() -> Any:
    """Start method of the workers: forkserver where there is one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    make_room_for_sockets()
    prefixes = tuple(f"mlpop.{name}." for name in _PRELOADED)
    loaded = [name for name in sys.modules if name.startswith(prefixes)]
    loaded += [name for name in _PRELOADED_OF_OTHERS if name in sys.modules]
    context.set_forkserver_preload(["mlpop.compute.backends.worker_loop", *sorted(loaded)])
    return context


def _load_outcome(index: int, payload: bytes) -> Outcome:
    try:
        outcome: Outcome = pickle.loads(payload)
    except Exception as error:
        reason = f"its result cannot be read back: {describe(error)}"
        return Outcome(index, None, "failed", error=reason)
    return outcome


def _epitaph(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"exit code {exit_code}"
