"""The backend without workers: tasks run one after the other in the driver."""

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Self

from mlpop.compute.backends.base import (
    MAX_ATTEMPTS,
    STOPPED,
    Event,
    OnEvent,
    Outcome,
    check_run_arguments,
    describe,
)
from mlpop.compute.backends.execution import timeout_outcome
from mlpop.compute.backends.limits import TimeLimitReached, call_within
from mlpop.compute.backends.workers import SingleThread
from mlpop.errors import ComputeError


class SerialBackend:
    """Runs tasks in the calling thread: easy to debug, the same bits as the other backends.

    Warning:
        A time limit stops Python code; compiled code that never returns to the interpreter can
        only be stopped by a backend with worker processes.
    """

    name = "serial"
    workers = 1

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

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
        return _outcomes(function, tasks, on_event, time_limit, self._stopped)

    def stop(self) -> None:
        """See `Backend.stop`; a task that runs is not interrupted."""
        self._stopped.set()


def _outcomes(
    function: Callable[..., Any],
    tasks: Sequence[Any],
    on_event: OnEvent | None,
    limit: float | None,
    stopped: threading.Event,
) -> Iterator[Outcome]:
    single_thread = SingleThread()
    for index, task in enumerate(tasks):
        if stopped.is_set():
            raise ComputeError(f"serial backend: {STOPPED}")
        listener = None if on_event is None else _Listener(index, on_event)
        arguments = (task,) if listener is None else (task, listener)
        started = time.perf_counter()
        try:
            value = call_within(limit, partial(single_thread, function, *arguments))
            outcome = Outcome(index, value, "ok", seconds=time.perf_counter() - started)
        except TimeLimitReached:
            seconds = time.perf_counter() - started
            outcome = timeout_outcome(index, 1, seconds, limit or 0.0)
        except Exception as error:
            outcome = Outcome(
                index,
                None,
                "failed",
                error=describe(error),
                seconds=time.perf_counter() - started,
                traceback=traceback.format_exc(),
            )
        if listener is not None and listener.error is not None:
            raise listener.error
        yield outcome


class _Listener:
    """The `emit` of one task; keeps an error of `on_event`, which is the caller's to handle."""

    def __init__(self, index: int, on_event: OnEvent) -> None:
        self.error: Exception | None = None
        self._index = index
        self._on_event = on_event

    def __call__(self, event: Event) -> None:
        try:
            self._on_event(self._index, event)
        except Exception as error:
            self.error = error
            raise
