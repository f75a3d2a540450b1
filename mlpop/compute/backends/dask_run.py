"""Tasks on a Dask cluster: submit, listen, count attempts, stop what runs too long."""

import os
import pickle
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import cloudpickle
from dask._task_spec import Task
from distributed import Client, Future, KilledWorker, Worker, get_worker
from distributed.utils import sync

from mlpop.compute.backends.base import STOPPED, Event, OnEvent, Outcome, describe
from mlpop.compute.backends.execution import dump, execute, lost_outcome, timeout_outcome
from mlpop.compute.backends.workers import prepare_worker
from mlpop.errors import ComputeError

# A worker that dies before its task starts, or that retires, costs no attempt.
FREE_RESTARTS = 10
POLL_SECONDS = 1.0
# Events of a task that follow each other within this time travel together.
EVENT_SECONDS = 0.5
# A result that went with its worker would be made again, and be waited for, by Dask.
FETCH_SECONDS = 30.0


@dataclass
class _Attempt:
    """One submission of a task; `since` and `where` are known once a worker has begun it."""

    future: Future
    since: float | None = None
    where: tuple[str, int] = ("", 0)
    starts: int = 0

    def seconds(self) -> float:
        return 0.0 if self.since is None else time.monotonic() - self.since


class DaskRun:
    """One call of `run`. What Dask's threads report meets in one queue, in order.

    Args:
        client: of the cluster.
        program: the pickled function.
        tasks: one object a task.
        on_event: told what tasks emit.
        own_scheduler: whether it tells of every worker that is lost, so that what it starts
            again without a word has lost a worker that retired.
        own_processes: whether workers are processes of this machine that may be killed.
        patience: how long the cluster may be without any worker [s].
        stopped: set when the run is to end.
    """

    def __init__(
        self,
        client: Client,
        program: bytes,
        tasks: Sequence[Any],
        on_event: OnEvent | None,
        *,
        own_scheduler: bool,
        own_processes: bool,
        patience: float,
        stopped: threading.Event,
    ) -> None:
        self._client = client
        self._own_scheduler = own_scheduler
        self._own_processes = own_processes
        self._program = program
        self._tasks = tasks
        self._on_event = on_event
        self._patience = patience
        self._stopped = stopped
        self._deserted_since: float | None = None
        self._topic = f"mlpop-{uuid4().hex}"
        self._news: queue.SimpleQueue[tuple[str, int, int, Any]] = queue.SimpleQueue()
        self._flying: dict[int, _Attempt] = {}
        self._submitted = [0] * len(tasks)
        self._started = [0] * len(tasks)
        self._retired = [0] * len(tasks)

    def outcomes(
        self, in_flight: Callable[[], int], limit: float | None, max_attempts: int
    ) -> Iterator[Outcome]:
        """Yield outcomes; at most `in_flight()` tasks are with the scheduler at a time."""
        pending = deque(range(len(self._tasks)))
        finished: deque[Outcome] = deque()
        self._client.subscribe_topic(self._topic, self._hear)
        try:
            while pending or finished or self._flying:
                if self._stopped.is_set():
                    raise ComputeError(f"dask backend: {STOPPED}")
                while pending and len(self._flying) < in_flight():
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
        key = f"{self._topic}-{index}-{number}"
        task = Task(
            key,
            _run_in_worker,
            self._program,
            dump(self._tasks[index], f"task {index}"),
            self._topic,
            index,
            number,
            self._on_event is not None,
            # Such a task waits at the scheduler for an idle worker: behind another task of a
            # worker it would go down with that.
            _data_producer=True,
        )
        future = self._client.get({key: task}, key, sync=False)
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
            return self._stop_restarted(index, attempt)
        if kind == "events" and self._on_event is not None:
            for event in pickle.loads(payload):
                self._on_event(index, pickle.loads(event))
        return [self._take(index, attempt)] if kind == "end" else []

    def _note_start(self, index: int, attempt: _Attempt, payload: bytes) -> None:
        attempt.since = time.monotonic()
        attempt.where = pickle.loads(payload)
        attempt.starts += 1
        self._started[index] += 1
        if self._own_scheduler and attempt.starts > 1:
            self._retired[index] += 1

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
            if self._was_retiring(error.last_worker.address):
                self._retired[index] += 1
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
        attempts = self._started[index] - self._retired[index]
        idle_losses = self._submitted[index] - attempts
        return attempts < max_attempts and idle_losses <= FREE_RESTARTS

    def _was_retiring(self, address: str) -> bool:
        """Whether a lost worker had said that it would go."""
        if not self._own_scheduler:
            return False
        events = self._client.get_events(address)
        said = [message.get("action") for _, message in events if isinstance(message, dict)]
        return "retired" in said or "could-not-retire" in said

    def _stop_restarted(self, index: int, attempt: _Attempt) -> list[Outcome]:
        """Give up a task that workers never live long enough for."""
        if self._retired[index] <= FREE_RESTARTS:
            return []
        del self._flying[index]
        attempt.future.cancel()
        self._end_worker(attempt)
        error = f"{FREE_RESTARTS} workers retired while running it; give them a longer lifetime"
        return [Outcome(index, None, "failed", error, self._started[index])]

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
        if self._own_processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        else:
            # A worker that is gone already makes Dask stumble.
            with suppress(KeyError, OSError, TimeoutError):
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
            if self._own_processes and attempt.since is not None:
                self._end_worker(attempt)
        with suppress(ValueError):
            self._client.unsubscribe_topic(self._topic)


class _Events:
    """What a task emits, on its way to the driver: together where it follows closely.

    Each message passes the scheduler, encrypted, and wakes threads on its way; simulations of a
    few ms would spend a twentieth of the cores on telling that they are done.
    """

    def __init__(self, worker: Worker, send: Callable[[list[bytes]], None]) -> None:
        self._loop = worker.loop
        self._send = send
        self._waiting: list[bytes] = []
        self._sent = float("-inf")
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Send the event now or, soon after another, with those that follow."""
        # pickled now: the task may go on to change it
        pickled = cloudpickle.dumps(event)
        with self._lock:
            self._waiting.append(pickled)
            late = time.monotonic() - self._sent
            later = len(self._waiting) == 1 and late < EVENT_SECONDS
        if late >= EVENT_SECONDS:
            self.flush()
        elif later:
            self._loop.add_callback(self._loop.call_later, EVENT_SECONDS - late, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        with self._lock:
            if self._waiting:
                self._send(self._waiting)
                self._waiting = []
                self._sent = time.monotonic()


def _run_in_worker(
    program: bytes, payload: bytes, topic: str, index: int, number: int, with_events: bool
) -> bytes:
    prepare_worker()
    worker = get_worker()

    def message(kind: str, thing: Any) -> dict[str, Any]:
        payload = cloudpickle.dumps(thing)
        return {"kind": kind, "index": index, "number": number, "payload": payload}

    function = pickle.loads(program)
    # Acknowledged, unlike an event: a task may kill its worker, or keep the interpreter's lock,
    # before a buffered message leaves.
    start = message("start", (worker.address, os.getpid()))
    sync(worker.loop, worker.scheduler.log_event, topic=topic, msg=start)
    load = partial(pickle.loads, payload)
    if not with_events:
        return execute(function, index, load, None)
    events = _Events(worker, lambda waiting: worker.log_event(topic, message("events", waiting)))
    outcome = execute(function, index, load, events.emit)
    events.flush()
    return outcome
