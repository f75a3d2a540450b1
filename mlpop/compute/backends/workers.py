"""What is true in every worker: one thread, no MLflow run, no life without its driver."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process, resource_tracker
from multiprocessing.connection import wait
from typing import Any

from threadpoolctl import ThreadpoolController

from mlpop.config.allowed_modules import trust_the_driver

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# Numba refuses a change of its variable once its threads run.
SINGLE_THREAD = {name: "1" for name in THREAD_VARIABLES if name != "NUMBA_NUM_THREADS"}
# A worker that inherits it would write into the driver's run.
DRIVER_VARIABLES = ("MLFLOW_RUN_ID",)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prepared: set[int] = set()


def prepare_worker() -> None:
    """Make this process a worker: one thread each, no MLflow run. Later calls do nothing."""
    if os.getpid() in _prepared:
        return
    _prepared.add(os.getpid())
    trust_the_driver()
    for name in THREAD_VARIABLES:
        if name != "NUMBA_NUM_THREADS" or "numba" not in sys.modules:
            os.environ[name] = "1"
    for name in DRIVER_VARIABLES:
        os.environ.pop(name, None)
    ThreadpoolController().limit(limits=1)
    _set_torch_threads(1)
    _set_numba_threads(1)


def is_worker() -> bool:
    """Whether this process was made a worker (and so may be ended without harm)."""
    return os.getpid() in _prepared


def die_with_parent() -> None:
    """End this process as soon as the driver is gone, also if the driver was killed."""
    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # The kernel's signal ends native code that holds the interpreter lock, too.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextmanager
def environment_of_workers() -> Iterator[None]:
    """Within the block, `os.environ` is what new worker processes shall inherit."""
    with environment(dict.fromkeys(THREAD_VARIABLES, "1") | dict.fromkeys(DRIVER_VARIABLES)):
        yield


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Within the block, variables of `os.environ` have these values; None: they are not set."""
    before = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Within the block, new processes and threads are born with SIGINT blocked.

    Ctrl-C reaches every process of the terminal; only the driver shall answer it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The thread that starts this helper of multiprocessing is left with SIGINT unblocked, and so
    # would be the worker that it starts next.
    resource_tracker.ensure_running()
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Within the block, new processes do not run the driver's main script again.

    What is defined there travels by value with cloudpickle, so a script needs no
    `if __name__ == "__main__"`, and a worker does not import the command line.
    """
    main = vars(sys.modules["__main__"])
    saved: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(saved)


class SingleThread:
    """Runs functions in the driver as a worker would: with one thread each.

    The order of floating point sums, and so the last bits of a result, can depend on the
    number of threads.
    """

    def __init__(self) -> None:
        self._pools = ThreadpoolController()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return `function(*arguments)`."""
        torch_threads = _set_torch_threads(1)
        numba_threads = _set_numba_threads(1)
        try:
            with environment(SINGLE_THREAD), self._pools.limit(limits=1):
                return function(*arguments)
        finally:
            # A torch that the function has loaded has one thread until told otherwise.
            _set_torch_threads(torch_threads or available_cores())
            _set_numba_threads(numba_threads)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _set_torch_threads(count: int | None) -> int | None:
    """Set the number of torch's threads if torch is loaded; return what it was."""
    torch = sys.modules.get("torch")
    if torch is None or count is None:
        return None
    before: int = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    return before


def _set_numba_threads(count: int | None) -> int | None:
    """Set the number of numba's threads if numba is loaded; return what it was."""
    numba = sys.modules.get("numba")
    if numba is None or count is None:
        return None
    if numba.config.NUMBA_NUM_THREADS == 1:
        return None
    before: int = numba.get_num_threads()
    if before != count:
        numba.set_num_threads(count)
    return before
