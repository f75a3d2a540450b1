"""The backend of Dask workers: an own cluster on this machine, or a running scheduler.

The own cluster listens on the loopback interface only, dashboard included, and with a temporary
TLS identity: whoever reaches an open scheduler port can run code as its owner.
"""

import logging
import os
import pickle
import queue
import signal
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import cloudpickle
import dask.config
from distributed import Client, Future, KilledWorker, LocalCluster, Security, get_worker
from distributed.utils import sync

from mlpop.compute.base import MAX_ATTEMPTS, Event, OnEvent, Outcome, check_run_arguments, describe
from mlpop.compute.execution import dump, execute, lost_outcome, timeout_outcome
from mlpop.compute.workers import (
    THREAD_VARIABLES,
    environment_of_workers,
    prepare_worker,
    sigint_blocked,
)
from mlpop.errors import ComputeError

# A worker that dies before its task starts (it was queued behind another) costs no attempt.
FREE_RESTARTS = 10
POLL_SECONDS = 1.0
# A result that went with its worker would be made again, and be waited for, by Dask.
FETCH_SECONDS = 30.0

_OWN_CLUSTER = {
    # Attempts are counted by the driver, for every backend in the same way.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    # Nannies restart their workers; after this time the cluster gives up the nanny of a worker
    # that was once lost and happens to be away, for instance while it is restarted again.
    "distributed.deploy.lost-worker-timeout": "365d",
    # Set in the worker alone: Dask's default sets them in the driver, where a torch that is
    # loaded later would keep to one thread.
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.nanny.environ": dict.fromkeys(THREAD_VARIABLES, "1"),
}


class DaskBackend:
    """Workers of a Dask cluster, one thread each.

    Args:
        workers: number of workers of an own cluster; ignored if a scheduler is given.
        address: address of a running scheduler, e.g. `tls://host:8786` (credentials are read
            from Dask's configuration, `distributed.comm.tls`); by default the environment
            variable DASK_SCHEDULER_ADDRESS, else an own cluster is started.
        scheduler_file: the JSON file that `dask scheduler --scheduler-file` writes, instead.
        worker_memory: memory of a worker of an own cluster, e.g. "2GB".
        connect_timeout: how long to wait for the scheduler and for a worker [s].

    Raises:
        ComputeError: `workers` is not positive.
    """

    name = "dask"

    def __init__(
        self,
        workers: int = 1,
        *,
        address: str | None = None,
        scheduler_file: str | None = None,
        worker_memory: str | None = None,
        connect_timeout: float = 60.0,
    ) -> None:
        if workers < 1:
            raise ComputeError(f"dask backend: needs at least 1 worker, found {workers}")
        self._wanted = workers
        self._scheduler_file = scheduler_file
        self._address = address
        if address is None and scheduler_file is None:
            self._address = os.environ.get("DASK_SCHEDULER_ADDRESS") or None
        self._worker_memory = worker_memory
        self._connect_timeout = connect_timeout
        self._own = self._address is None and scheduler_file is None
        self._resources = ExitStack()
        self._client: Client | None = None

    @property
    def workers(self) -> int:
        """Number of tasks that can run at a time, now."""
        if self._own or self._client is None:
            return self._wanted
        known = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return max(sum(worker["nthreads"] for worker in known), 1)

    @property
    def dashboard(self) -> str:
        """Address of the dashboard in a browser."""
        return str(self._connected().dashboard_link)

    def __enter__(self) -> Self:
        try:
            with sigint_blocked(), environment_of_workers():
                self._client = self._connect()
        except BaseException as error:
            self._resources.close()
            if not isinstance(error, OSError | ValueError | RuntimeError):
                raise
            where = self._address or self._scheduler_file or "a cluster on this machine"
            raise ComputeError(
                f"dask backend: no connection to {where}: {describe(error)}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client = None
        with sigint_blocked():
            self._resources.close()

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
        client = self._connected()
        # No task waits at a worker behind another, or both would go down with it.
        in_flight = max_in_flight or self.workers
        program = dump(function, "the function")
        run = _Run(client, self._own, program, tasks, on_event, self._connect_timeout)
        return run.outcomes(in_flight, time_limit, max_attempts)

    def _connected(self) -> Client:
        if self._client is None:
            raise ComputeError("dask backend: use it in a `with` block")
        return self._client

    def _connect(self) -> Client:
        timeout = self._connect_timeout
        if self._own:
            self._resources.enter_context(dask.config.set(_OWN_CLUSTER))
            security = Security.temporary()
            cluster = LocalCluster(
                n_workers=self._wanted,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol="tls://",
                security=security,
                dashboard_address="127.0.0.1:0",
                memory_limit=self._worker_memory or "auto",
                # Lost workers are told by outcomes; Dask's log would tell them again.
                silence_logs=logging.CRITICAL,
            )
            self._resources.enter_context(cluster)
            client = Client(cluster, security=security, set_as_default=False, timeout=timeout)
        else:
            self._wait_for_scheduler_file()
            client = Client(
                address=self._address,
                scheduler_file=self._scheduler_file,
                set_as_default=False,
                timeout=timeout,
            )
        self._resources.enter_context(client)
        client.wait_for_workers(self._wanted if self._own else 1, timeout=timeout)
        return client

    def _wait_for_scheduler_file(self) -> None:
        """Wait as long as the scheduler may take; Dask would wait forever."""
        if self._scheduler_file is None:
            return
        end = time.monotonic() + self._connect_timeout
        while not Path(self._scheduler_file).is_file():
            if time.monotonic() > end:
                raise TimeoutError(f"no such file after {self._connect_timeout:g} s")
            time.sleep(0.2)


@dataclass
class _Attempt:
    """One submission of a task; `since` and `where` are known once a worker has begun it."""

    future: Future
    since: float | None = None
    where: tuple[str, int] = ("", 0)

    def seconds(self) -> float:
        return 0.0 if self.since is None else time.monotonic() - self.since


class _Run:
    """One call of `run`. What Dask's threads report meets in one queue, in order."""

    def __init__(
        self,
        client: Client,
        own_cluster: bool,
        program: bytes,
        tasks: Sequence[Any],
        on_event: OnEvent | None,
        patience: float,
    ) -> None:
        self._client = client
        self._own = own_cluster
        self._program = program
        self._tasks = tasks
        self._on_event = on_event
        self._patience = patience
        self._deserted_since: float | None = None
        self._topic = f"mlpop-{uuid4().hex}"
        self._news: queue.SimpleQueue[tuple[str, int, int, Any]] = queue.SimpleQueue()
        self._flying: dict[int, _Attempt] = {}
        self._submitted = [0] * len(tasks)
        self._started = [0] * len(tasks)

    def outcomes(
        self, in_flight: int, limit: float | None, max_attempts: int
    ) -> Iterator[Outcome]:
        """Yield outcomes; at most `in_flight` tasks are with the scheduler at a time."""
        pending = deque(range(len(self._tasks)))
        finished: deque[Outcome] = deque()
        self._client.subscribe_topic(self._topic, self._hear)
        try:
            while pending or finished or self._flying:
                while pending and len(self._flying) < in_flight:
                    self._submit(pending.popleft())
                while finished:
                    yield finished.popleft()
                if not self._flying:
                    continue
                for outcome in self._listen(limit):
                    if not outcome.lost:
                        finished.append(outcome)
                    elif self._may_retry(outcome.index, max_attempts):
                        pending.appendleft(outcome.index)
                    else:
                        finished.append(
                            lost_outcome(
                                outcome.index, outcome.attempts, outcome.seconds, outcome.error
                            )
                        )
                finished.extend(self._stop_overdue(limit))
        finally:
            self._abandon()

    def _submit(self, index: int) -> None:
        number = self._submitted[index] = self._submitted[index] + 1
        future = self._client.submit(
            _run_in_worker,
            self._program,
            dump(self._tasks[index], f"task {index}"),
            self._topic,
            index,
            number,
            self._on_event is not None,
            key=f"{self._topic}-{index}-{number}",
            pure=False,
        )
        self._flying[index] = _Attempt(future)
        future.add_done_callback(lambda _, i=index, n=number: self._news.put(("end", i, n, None)))

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        self._news.put((message["kind"], message["index"], message["number"], message["payload"]))

    def _listen(self, limit: float | None) -> list[Outcome]:
        """Wait for news, until a task is over its limit at the latest; handle one piece."""
        wait = POLL_SECONDS
        if limit is not None:
            longest = max(attempt.seconds() for attempt in self._flying.values())
            wait = min(wait, max(limit - longest, 0.0))
        try:
            kind, index, number, payload = self._news.get(timeout=wait)
        except queue.Empty:
            self._check_cluster()
            return []
        attempt = self._flying.get(index)
        if attempt is None or number != self._submitted[index]:
            return []
        if kind == "start":
            self._note_start(index, attempt, payload)
        elif kind == "event" and self._on_event is not None:
            self._on_event(index, pickle.loads(payload))
        elif kind == "end":
            return [self._take(index, attempt)]
        return []

    def _note_start(self, index: int, attempt: _Attempt, payload: bytes) -> None:
        attempt.since = time.monotonic()
        attempt.where = pickle.loads(payload)
        self._started[index] += 1

    def _take(self, index: int, attempt: _Attempt) -> Outcome:
        """Fetch the outcome of an attempt that has ended."""
        del self._flying[index]
        count = max(self._started[index], 1)
        try:
            outcome: Outcome = pickle.loads(attempt.future.result(timeout=FETCH_SECONDS))
            return replace(outcome, attempts=count)
        except TimeoutError:
            reason = "its result went with its worker"
            return Outcome(index, None, "failed", reason, count, attempt.seconds(), lost=True)
        except KilledWorker as error:
            reason = f"last on {error.last_worker.address}, perhaps out of memory"
            return Outcome(index, None, "failed", reason, count, attempt.seconds(), lost=True)
        except CancelledError:
            raise ComputeError(
                "dask backend: the scheduler has dropped a task; finished work is kept, start "
                "again to do the rest"
            ) from None
        except Exception as error:
            return Outcome(index, None, "failed", describe(error), count, attempt.seconds())
        finally:
            attempt.future.release()

    def _may_retry(self, index: int, max_attempts: int) -> bool:
        idle_losses = self._submitted[index] - self._started[index]
        return self._started[index] < max_attempts and idle_losses <= FREE_RESTARTS

    def _stop_overdue(self, limit: float | None) -> Iterator[Outcome]:
        if limit is None:
            return
        overdue = [i for i, attempt in self._flying.items() if attempt.seconds() > limit]
        if not overdue:
            return
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        for index in overdue:
            attempt = self._flying[index]
            if attempt.where[0] not in known:
                # Its worker has died, and the scheduler will start it again, or say so.
                attempt.since = None
                continue
            seconds = attempt.seconds()
            del self._flying[index]
            attempt.future.cancel()
            self._end_worker(attempt)
            yield timeout_outcome(index, max(self._started[index], 1), seconds, limit)

    def _end_worker(self, attempt: _Attempt) -> None:
        """End the worker that runs `attempt`; its nanny starts a new one."""
        address, process = attempt.where
        if self._own:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        else:
            self._client.restart_workers([address], raise_for_error=False)

    def _check_cluster(self) -> None:
        """Find out whether anybody is left who could send news."""
        problem = ""
        if self._client.status != "running":
            problem = "the connection to the scheduler is lost"
        elif self._client.scheduler_info(n_workers=-1)["workers"]:
            self._deserted_since = None
        elif self._deserted_since is None:
            self._deserted_since = time.monotonic()
        elif time.monotonic() - self._deserted_since > self._patience:
            problem = f"the cluster has had no worker for {self._patience:g} s"
        if problem:
            raise ComputeError(
                f"dask backend: {problem}; finished work is kept, start again to do the rest"
            )

    def _abandon(self) -> None:
        """Forget what is still flying; in an own cluster, end the workers that run it."""
        while not self._news.empty():
            kind, index, number, payload = self._news.get()
            attempt = self._flying.get(index)
            if kind == "start" and attempt is not None and number == self._submitted[index]:
                self._note_start(index, attempt, payload)
        flying, self._flying = list(self._flying.values()), {}
        if self._client.status != "running":
            return
        for attempt in flying:
            attempt.future.cancel()
            if self._own and attempt.since is not None:
                self._end_worker(attempt)
        with suppress(ValueError):
            self._client.unsubscribe_topic(self._topic)


def _run_in_worker(
    program: bytes, payload: bytes, topic: str, index: int, number: int, with_events: bool
) -> bytes:
    prepare_worker()
    worker = get_worker()

    def message(kind: str, thing: Any) -> dict[str, Any]:
        payload = cloudpickle.dumps(thing)
        return {"kind": kind, "index": index, "number": number, "payload": payload}

    def emit(event: Event) -> None:
        worker.log_event(topic, message("event", dict(event)))

    function = pickle.loads(program)
    # Acknowledged, unlike an event: a task may kill its worker, or keep the interpreter's lock,
    # before a buffered message leaves.
    start = message("start", (worker.address, os.getpid()))
    sync(worker.loop, worker.scheduler.log_event, topic=topic, msg=start)
    return execute(function, index, partial(pickle.loads, payload), emit if with_events else None)
