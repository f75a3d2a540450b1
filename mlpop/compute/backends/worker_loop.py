"""The main loop of a worker process of `ProcessesBackend`.

Pickled messages to the worker: `("function", bytes, with_events)`, `("task", index, bytes)` and
`("stop",)`. From it, all on one pipe and so in order: `("ready", error)` after a function,
`("event", index, event)` and at last `("done", index, outcome)` for a task.
"""

import contextlib
import os
import pickle
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from mlpop.compute.backends.base import Event, describe
from mlpop.compute.backends.execution import execute
from mlpop.compute.backends.workers import die_with_parent, prepare_worker


def serve(connection: Connection, environment: Mapping[str, str]) -> None:
    """Run tasks from `connection` until it says stop or the driver is gone."""
    die_with_parent()
    os.environ.update(environment)
    # Born with SIGINT blocked; ignored from here on, so that programs it starts may use it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    prepare_worker()
    sending = threading.Lock()

    def send(*message: Any) -> None:
        payload = cloudpickle.dumps(message)
        with sending:
            connection.send_bytes(payload)

    def emitter(index: int) -> Callable[[Event], None]:
        return lambda event: send("event", index, event)

    function: Callable[..., Any] | None = None
    with_events = False
    # A pipe that ends is a driver that is gone: nobody is left to tell.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            kind, *rest = pickle.loads(connection.recv_bytes())
            if kind == "stop":
                return
            if kind == "function":
                function, error = _load_function(rest[0])
                with_events = rest[1]
                send("ready", error)
            elif function is not None:
                index, payload = rest
                emit = emitter(index) if with_events else None
                send("done", index, execute(function, index, partial(pickle.loads, payload), emit))


def _load_function(payload: bytes) -> tuple[Callable[..., Any] | None, str]:
    try:
        return pickle.loads(payload), ""
    except Exception as error:
        return None, describe(error)
