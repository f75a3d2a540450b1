"""What every compute backend does: run a function over tasks, stream outcomes as they finish."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from mlpop.errors import ComputeError

Event = Any
"""Anything that cloudpickle can carry."""
Emit = Callable[[Event], None]
OnEvent = Callable[[int, Event], object]

MAX_ATTEMPTS = 3
STOPPED = "the run was stopped; finished work is kept, start again to do the rest"


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    Attributes:
        index: place of the task in the sequence given to `run`.
        value: what the function returned; None unless `status` is "ok".
        status: "ok"; "failed" if the function raised or its workers were lost; "timeout" if the
            task ran over its time limit.
        error: one line, empty if ok.
        attempts: how many times the task was started.
        seconds: run time of the last attempt [s].
        lost: True if it failed because its worker processes died, not because it raised.
        traceback: the worker's traceback if the function raised, for the log.
    """

    index: int
    value: Any
    status: Literal["ok", "failed", "timeout"]
    error: str = ""
    attempts: int = 1
    seconds: float = 0.0
    lost: bool = False
    traceback: str = ""

    def result(self) -> Any:
        """Return `value`.

        Raises:
            ComputeError: the task did not end well; the message is `error`.
        """
        if self.status != "ok":
            raise ComputeError(f"task {self.index}: {self.status}: {self.error}")
        return self.value


@runtime_checkable
class Backend(Protocol):
    """A pool of workers, used as a context manager.

    Workers run one task at a time with one thread for BLAS, torch and numba, so that the bits of
    a result do not depend on the backend. Tasks must be idempotent: a task whose worker died is
    run again.
    """

    @property
    def name(self) -> str:
        """Short name for logs."""
        ...

    @property
    def workers(self) -> int:
        """Number of tasks that run at a time."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

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
        """Run `function(task)` for every task; yield outcomes in the order of completion.

        Leaving the iterator early abandons the rest: running tasks are stopped.

        Args:
            function: called in a worker; anything that cloudpickle can carry.
            tasks: one picklable object a task.
            on_event: if given, `function(task, emit)` is called, and every `emit(event)` reaches
                `on_event(index, event)` in the caller's thread while the task runs: in order,
                and all of them before the task's outcome. A task that runs again after it lost
                its worker emits again from its start.
            max_in_flight: at most so many tasks are handed to workers at a time; by default as
                many as keep all workers busy.
            time_limit: seconds that one attempt may run [s]; over it the task is stopped and its
                outcome is "timeout" (not tried again). None: no limit.
            max_attempts: a task whose worker died is started at most so many times.

        Raises:
            ComputeError: the function or a task cannot be pickled, no worker can be had, or
                `stop` was called.
        """
        ...

    def stop(self) -> None:
        """End the run that another thread is waiting in, and let none follow: before leaving.

        Within a second or two that thread gets a `ComputeError`, and its tasks are stopped.
        """
        ...


def describe(error: BaseException) -> str:
    """Return one line that names the error and its message."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def check_run_arguments(
    max_in_flight: int | None, time_limit: float | None, max_attempts: int
) -> None:
    """Refuse arguments of `Backend.run` that mean nothing.

    Raises:
        ComputeError: one of them is not positive.
    """
    named = {
        "max_in_flight": max_in_flight,
        "time_limit": time_limit,
        "max_attempts": max_attempts,
    }
    for name, value in named.items():
        if value is not None and not value > 0:
            raise ComputeError(f"{name} must be above 0, found {value}")
