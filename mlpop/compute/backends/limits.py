"""Stop Python code that runs too long: in any thread, and, in a worker, native code too.

`call_within` raises inside the running code, which stops anything that comes back to the
interpreter now and then. Compiled code that does not can only be stopped with its process:
`exit_after` does that from a thread of the interpreter's C core, which needs no lock.
"""

import ctypes
import faulthandler
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import IO, Protocol, TypeVar

# A cleanup handler or a destructor may swallow the first interruption.
REPEAT_SECONDS = 1.0

Value = TypeVar("Value")


class TimeLimitReached(Exception):
    """Raised by `call_within` if the call ran over its limit."""


class _Interruption(BaseException):
    """Raised inside the call: no `except Exception` there can swallow it.

    Its only argument says whose limit it is: of nested limits, each ends its own call.
    """


class _Limit(Protocol):
    disarmed: bool

    def arm(self) -> None: ...

    def disarm(self) -> None: ...


def call_within(seconds: float | None, function: Callable[[], Value]) -> Value:
    """Return `function()`, stopped once it has run for `seconds` [s] (None: never).

    In the main thread a timer signal is used, which also ends a blocking system call. In another
    thread the interruption arrives with the next Python instruction. Calls may be nested.

    Raises:
        TimeLimitReached: the call was stopped.
    """
    if seconds is None:
        return function()
    in_main_thread = threading.current_thread() is threading.main_thread()
    limit: _Limit = _SignalLimit(seconds) if in_main_thread else _ThreadLimit(seconds)
    try:
        # A function and not a `with` block: an interruption at its very end must find a handler.
        try:
            limit.arm()
            return function()
        finally:
            foreign: BaseException | None = None
            while not limit.disarmed:
                try:
                    limit.disarm()
                except BaseException as error:
                    if not _is_from(error, limit):
                        foreign = error
            if foreign is not None:
                raise foreign
    except _Interruption as interruption:
        if not _is_from(interruption, limit):
            raise
        raise TimeLimitReached(f"ran over its limit of {seconds:g} s") from None


@contextmanager
def exit_after(seconds: float | None, log: IO[str]) -> Iterator[None]:
    """End this process if the block still runs after `seconds` [s]; write its stack to `log`.

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


def _is_from(error: BaseException, limit: _Limit) -> bool:
    return isinstance(error, _Interruption) and error.args[0] is limit


class _SignalLimit:
    """The process's one interval timer; an outer limit is put off and comes back."""

    def __init__(self, seconds: float) -> None:
        self.disarmed = False
        self._seconds = seconds
        self._started = time.monotonic()
        self._former = signal.getsignal(signal.SIGALRM)
        self._outer = (0.0, 0.0)

    def arm(self) -> None:
        signal.signal(signal.SIGALRM, self._interrupt)
        self._outer = signal.setitimer(signal.ITIMER_REAL, self._seconds, REPEAT_SECONDS)

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, self._former)
        self.disarmed = True
        left, repeat = self._outer
        if left:
            left -= time.monotonic() - self._started
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), repeat)
            if left <= 0 and callable(self._former):
                self._former(signal.SIGALRM, None)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise _Interruption(self)


class _ThreadLimit:
    """An exception that the watch makes pending in the thread that made the limit."""

    def __init__(self, seconds: float) -> None:
        self.disarmed = False
        self.target = threading.get_ident()
        self.seconds = seconds
        self.end = math.inf
        self._watch = _running_watch()
        limit = self

        # An asynchronous exception is given as a class, which is called without arguments.
        class Interruption(_Interruption):
            def __init__(self) -> None:
                super().__init__(limit)

        self.interruption = Interruption

    def arm(self) -> None:
        self._watch.add(self)

    def disarm(self) -> None:
        self._watch.remove(self)
        self.disarmed = True


class _Watch:
    """A thread that sleeps until the first of the limits that it was given is over.

    One for all calls of a process: a thread of its own for each, which must have the
    interpreter's lock to begin and to end, costs a simulation milliseconds.
    """

    def __init__(self) -> None:
        self._limits: set[_ThreadLimit] = set()
        self._lock = threading.Lock()
        self._wakes = math.inf
        self._woken: SimpleQueue[None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="time-limits", daemon=True)
        self.thread.start()

    def add(self, limit: _ThreadLimit) -> None:
        with self._lock:
            limit.end = time.monotonic() + limit.seconds
            self._limits.add(limit)
            sooner = limit.end < self._wakes
        if sooner:
            self._woken.put(None)

    def remove(self, limit: _ThreadLimit) -> None:
        with self._lock:
            self._limits.discard(limit)
            _raise_in_thread(limit.target, None)

    def _run(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                for limit in self._limits:
                    if limit.end <= now:
                        _raise_in_thread(limit.target, limit.interruption)
                        limit.end = now + REPEAT_SECONDS
                self._wakes = min((limit.end for limit in self._limits), default=math.inf)
                wait = min(self._wakes - now, threading.TIMEOUT_MAX)
            with suppress(Empty):
                self._woken.get(timeout=wait)


_watch: _Watch | None = None


def _running_watch() -> _Watch:
    global _watch
    # a process that was forked has the watch without its thread
    if _watch is None or not _watch.thread.is_alive():
        _watch = _Watch()
    return _watch


def _raise_in_thread(target: int, error: type[BaseException] | None) -> None:
    """Make `error` pending in thread `target`; None takes back one that is still pending."""
    instance = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), instance)
