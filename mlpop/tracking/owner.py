"""Which process works on a run, and whether it still lives."""

import functools
import json
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

logger = logging.getLogger(__name__)

# MLflow's pages do not show tags that begin so
OWNER_TAG = "mlflow.mlpop.owner"
HEARTBEAT_TAG = "mlflow.mlpop.heartbeat"
HEARTBEAT_SECONDS = 30.0
BEATS_MISSED = 3  # after so many a process on another machine counts as dead
SAME_START = 5.0  # [s] start times move with the clock when it is set; pids return far later


@dataclass(frozen=True)
class Owner:
    """One process, told apart from any other that ever had its number.

    Attributes:
        host: name of the machine.
        boot_id: changes with each start of the machine, empty where it is not known.
        namespace: where `pid` counts; containers on one machine have their own.
        pid: process number.
        created: start time of the process [s since 1970].
    """

    host: str
    boot_id: str
    namespace: str
    pid: int
    created: float

    @classmethod
    def current(cls) -> Self:
        """Return the owner that is this process."""
        import psutil

        started = psutil.Process().create_time()
        return cls(platform.node(), _boot_id(), _namespace(), os.getpid(), started)

    @classmethod
    def from_tag(cls, text: str | None) -> Self | None:
        """Read an owner back from its tag, None if there is none or it cannot be read."""
        try:
            values = json.loads(text or "")
            return cls(
                str(values["host"]),
                str(values["boot_id"]),
                str(values["namespace"]),
                int(values["pid"]),
                float(values["created"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def to_tag(self) -> str:
        """Return the text of the tag `OWNER_TAG`."""
        return json.dumps(asdict(self))

    def lives_here(self) -> bool | None:
        """Whether the process lives, None if its process table cannot be seen from here."""
        here = (platform.node(), _boot_id(), _namespace())
        if (self.host, self.boot_id, self.namespace) != here:
            return None
        import psutil

        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(process.create_time() - self.created) < SAME_START
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return None


def owner_of(tags: Mapping[str, str]) -> str:
    """Name the process that works, or worked, on a run, for messages."""
    owner = Owner.from_tag(tags.get(OWNER_TAG))
    return "process ? on ?" if owner is None else f"process {owner.pid} on {owner.host}"


def is_alive(tags: Mapping[str, str], now: float | None = None) -> bool:
    """Decide whether the process that works on an unfinished run still lives.

    On the same machine the process table decides at once; otherwise a heartbeat that is older
    than three beats means that it died.

    Args:
        tags: tags of the run.
        now: the present [s since 1970], by default the clock.
    """
    owner = Owner.from_tag(tags.get(OWNER_TAG))
    here = owner.lives_here() if owner else None
    if here is not None:
        return here
    age = heartbeat_age(tags, now)
    return age is not None and age < BEATS_MISSED * HEARTBEAT_SECONDS


def heartbeat_age(tags: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds since the last heartbeat of a run, None if it never had one."""
    try:
        last = float(tags[HEARTBEAT_TAG])
    except (KeyError, ValueError):
        return None
    if not math.isfinite(last):
        return None
    return (time.time() if now is None else now) - last


class Heartbeat:
    """A thread that calls `beat` every `interval` seconds until it is stopped.

    A beat that fails is only logged: a server that is away must not end a training.
    """

    def __init__(self, beat: Callable[[], None], interval: float = HEARTBEAT_SECONDS) -> None:
        self._beat = beat
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlpop-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Beat no more. Returns at once, even if a beat is stuck in a call to the server."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._beat()
            except Exception as error:
                logger.debug("heartbeat not recorded: %s", error)


@functools.cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@functools.cache
def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
