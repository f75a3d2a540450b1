"""Stop Python code that runs too long: in any thread, and, in a worker, native code too.

`call_within` raises inside the running code, which stops anything that comes back to the
interpreter now and then. Compiled code that does not can only be stopped with its process:
`exit_after` does that from a thread of the interpreter's C core, which needs no lock.
"""

import ctypes
import faulthandler
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """A thread that makes an exception pending in the thread that made it."""

    def __init__(self, seconds: float) -> None:
        self.disarmed = False
        self._seconds = seconds
        self._target = threading.get_ident()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._watch = threading.Thread(target=self._run, name="time-limit", daemon=True)

    def arm(self) -> None:
        self._watch.start()

    def disarm(self) -> None:
        with self._lock:
            self._over.set()
            _raise_in_thread(self._target, None)
        self.disarmed = True

    def _run(self) -> None:
        # An asynchronous exception is given as a class, which is called without arguments.
        limit = self

        class Interruption(_Interruption):
            def __init__(self) -> None:
                super().__init__(limit)

        wait = self._seconds
        while not self._over.wait(wait):
            with self._lock:
                if not self._over.is_set():
                    _raise_in_thread(self._target, Interruption)
            wait = REPEAT_SECONDS


def _raise_in_thread(target: int, error: type[BaseException] | None) -> None:
    """Make `error` pending in thread `target`; None takes back one that is still pending."""
    instance = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), instance)
