"""Stop Python code that runs too long: in any thread, and, in a worker, native code too.

`time_limit` raises inside the running code, which stops anything that comes back to the
interpreter now and then. Compiled code that does not can only be stopped with its process:
`exit_after` does that from a thread of the interpreter's C core, which needs no lock.
"""

import ctypes
import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO

# A cleanup handler or a destructor may swallow the first interruption.
REPEAT_SECONDS = 1.0


class TimeLimitReached(Exception):
    """Raised by `time_limit` at the end of its block if the block ran over its limit."""


class _Interruption(BaseException):
    """Raised inside the block: no `except Exception` there can swallow it.

    Its only argument says whose limit it is: of nested limits, each ends its own block.
    """


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Stop the block once it has run for `seconds` [s] (None: never); limits may be nested.

    In the main thread a timer signal is used, which also ends a blocking system call. In another
    thread the interruption arrives with the next Python instruction.

    Raises:
        TimeLimitReached: the block was stopped.
    """
    if seconds is None:
        yield
        return
    in_main_thread = threading.current_thread() is threading.main_thread()
    owner = object()
    try:
        with (_limit_by_signal if in_main_thread else _limit_by_thread)(seconds, owner):
            yield
    except _Interruption as interruption:
        if interruption.args[0] is not owner:
            raise
        raise TimeLimitReached(f"ran over its limit of {seconds:g} s") from None


@contextmanager
def exit_after(seconds: float | None, log: IO[str]) -> Iterator[None]:
    """End this process if the body still runs after `seconds` [s]; write its stack to `log`.

    Only for a worker process that runs one task at a time: there is one such timer a process.
    """
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=log)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _limit_by_signal(seconds: float, owner: object) -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Interruption(owner)

    started = time.monotonic()
    outer_handler = signal.signal(signal.SIGALRM, interrupt)
    outer_left, outer_repeat = signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, outer_handler)
        if outer_left:
            left = outer_left - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), outer_repeat)
            if left <= 0 and callable(outer_handler):
                outer_handler(signal.SIGALRM, None)


@contextmanager
def _limit_by_thread(seconds: float, owner: object) -> Iterator[None]:
    # An asynchronous exception is given as a class, which is called without arguments.
    class Interruption(_Interruption):
        def __init__(self) -> None:
            super().__init__(owner)

    target = threading.get_ident()
    over = threading.Event()
    lock = threading.Lock()

    def interrupt() -> None:
        wait = seconds
        while not over.wait(wait):
            with lock:
                if not over.is_set():
                    _raise_in_thread(target, Interruption)
            wait = REPEAT_SECONDS

    watch = threading.Thread(target=interrupt, name="time-limit", daemon=True)
    watch.start()
    try:
        yield
    finally:
        with lock:
            over.set()
            _raise_in_thread(target, None)


def _raise_in_thread(target: int, error: type[BaseException] | None) -> None:
    """Make `error` pending in thread `target`; None takes back one that is still pending."""
    instance = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), instance)
