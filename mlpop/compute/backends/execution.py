"""What happens to one task inside a worker process, whoever sent it."""

import time
import traceback
from collections.abc import Callable
from typing import Any

import cloudpickle

from mlpop.compute.backends.base import Emit, Outcome, describe
from mlpop.errors import ComputeError


def dump(thing: object, what: str) -> bytes:
    """Pickle something that shall travel to a worker.

    Raises:
        ComputeError: it cannot be pickled.
    """
    try:
        return cloudpickle.dumps(thing)
    except Exception as error:
        raise ComputeError(
            f"{what} cannot be sent to a worker: {describe(error)}; pass paths and numbers, and "
            "open files, databases and networks in the worker"
        ) from None


def execute(
    function: Callable[..., Any], index: int, load: Callable[[], Any], emit: Emit | None
) -> bytes:
    """Run `function` on the task that `load` returns; return its pickled `Outcome`.

    An outcome is returned whatever happens, also if the value cannot be pickled.
    """
    started = time.perf_counter()
    try:
        task = load()
        value = function(task) if emit is None else function(task, emit)
        seconds = time.perf_counter() - started
        return cloudpickle.dumps(Outcome(index, value, "ok", seconds=seconds))
    except BaseException as error:
        return cloudpickle.dumps(
            Outcome(
                index,
                None,
                "failed",
                error=describe(error),
                seconds=time.perf_counter() - started,
                traceback=traceback.format_exc(),
            )
        )


def lost_outcome(index: int, attempts: int, seconds: float, reason: str) -> Outcome:
    """Outcome of a task whose worker died in every attempt."""
    times = "once" if attempts == 1 else f"{attempts} times"
    return Outcome(
        index,
        None,
        "failed",
        error=f"the worker process died {times} while running it ({reason})",
        attempts=attempts,
        seconds=seconds,
        lost=True,
    )


def timeout_outcome(index: int, attempts: int, seconds: float, limit: float) -> Outcome:
    """Outcome of a task that was stopped at its time limit."""
    return Outcome(
        index,
        None,
        "timeout",
        error=f"ran over its limit of {limit:g} s",
        attempts=attempts,
        seconds=seconds,
    )
