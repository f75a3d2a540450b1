"""Ending on SIGTERM, SIGHUP and Ctrl-C: runs are closed first, the exit code says what happened.

Under `mlflow run` two things differ. Ctrl-C in a terminal reaches this process twice, as SIGINT
from the terminal and as SIGTERM from `mlflow run`. And when `mlflow run` itself is ended by
SIGTERM it dies at once and leaves this process behind as an orphan that nobody waits for.
"""

import errno
import logging
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from mlpop.errors import Stopped

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)

EXIT_SIGINT = 128 + signal.SIGINT
EXIT_SIGTERM = 128 + signal.SIGTERM
SIGHUP = getattr(signal, "SIGHUP", None)  # a terminal was closed; Windows has none
EXIT_SIGHUP = 128 + (SIGHUP or 1)
STOPPED_BY = {EXIT_SIGTERM: "SIGTERM", EXIT_SIGHUP: "SIGHUP"}
SAME_STOP_SECONDS = 5.0  # another kind of signal within this time belongs to the same stop
ORPHAN_POLL_SECONDS = 1.0
SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ksh", "fish"})


class _Stop:
    """What the handlers know: the first signal, and whether it must wait for a shielded block."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.first_time = 0.0
        self.shields = 0
        self.waiting = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is not None:
            if number == self.first or now - self.first_time > SAME_STOP_SECONDS:
                os._exit(128 + number)
            return
        self.first, self.first_time = number, now
        if number == SIGHUP:
            _leave_closed_terminal()
        if self.shields:
            self.waiting = True
        else:
            self.stop()

    def stop(self) -> None:
        self.waiting = False
        if self.first == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(128 + (self.first or signal.SIGTERM))


_stop: _Stop | None = None


@contextmanager
def graceful_signals() -> Iterator[None]:
    """End the block, and then the process, in good order when it is asked to stop.

    SIGTERM raises `SystemExit(143)` in the main thread, and so does SIGHUP with 129, unless it is
    ignored, as under `nohup`; SIGINT raises `KeyboardInterrupt`, for which the command line exits
    with 130. A second signal of the same kind, or any later than
    five seconds, ends the process at once. Under `mlflow run` the block also ends, as by
    SIGTERM, when `mlflow run` dies. Outside the main thread nothing is changed.
    """
    global _stop
    if threading.current_thread() is not threading.main_thread() or _stop is not None:
        yield
        return
    stop = _stop = _Stop()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if SIGHUP is not None and signal.getsignal(SIGHUP) is not signal.SIG_IGN:
        numbers.append(SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in before:
        signal.signal(number, stop.handle)
    starter = _mlflow_run() if os.environ.get("MLFLOW_RUN_ID") else None
    watch = _OrphanWatch(starter) if starter else None
    try:
        yield
    finally:
        if watch:
            watch.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
        _stop = None


@contextmanager
def shielded() -> Iterator[None]:
    """Let the block finish before a first signal takes effect: for short, must-do steps.

    Without `graceful_signals`, or outside the main thread, it does nothing.
    """
    stop = _stop
    if stop is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    stop.shields += 1
    try:
        yield
    finally:
        stop.shields -= 1
        if stop.waiting and not stop.shields:
            stop.stop()


def stopping() -> bool:
    """Whether a signal has asked this process to stop."""
    return _stop is not None and _stop.first is not None


def _leave_closed_terminal() -> None:
    """Write to nowhere from now on if the terminal is gone: each line would be an error."""
    import termios

    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            number = stream.fileno() if stream is not None else -1
            if number >= 0 and stat.S_ISCHR(os.fstat(number).st_mode):
                termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                with Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), number)
        except (OSError, ValueError):
            continue


class _OrphanWatch:
    """Sends this process SIGTERM when the process that started it is gone."""

    def __init__(self, starter: "psutil.Process") -> None:
        self._stopped = threading.Event()
        self._starter = starter
        self._thread = threading.Thread(target=self._run, name="mlpop-orphan-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(ORPHAN_POLL_SECONDS):
            if not _lives(self._starter):
                logger.error("mlflow run has ended; stopping")
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _mlflow_run() -> "psutil.Process | None":
    """Return the `mlflow run` that started this process; bash may stand between the two.

    Any other ancestor is not watched: a job started from a login shell may outlive it.
    """
    import psutil

    try:
        parent = psutil.Process().parent()
        while parent is not None and parent.name() in SHELLS:
            parent = parent.parent()
        if parent is None or not any("mlflow" in word for word in parent.cmdline()):
            return None
    except psutil.Error:
        return None
    return parent


def _lives(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
