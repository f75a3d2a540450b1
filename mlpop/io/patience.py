"""How long to go on trying what may pass by itself: bounded, with growing pauses."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mlpop.errors import ConfigError

logger = logging.getLogger(__name__)

DEADLINE_VARIABLE = "MLPOP_STORE_DEADLINE"
DEFAULT_DEADLINE = 300.0

Value = TypeVar("Value")


@dataclass(frozen=True)
class Patience:
    """How long one operation is tried.

    Attributes:
        deadline: seconds for all attempts together, the pauses included [s].
        first_wait: pause after the first failure [s]; each further one is twice as long.
        longest_wait: longest pause [s].
    """

    deadline: float = DEFAULT_DEADLINE
    first_wait: float = 0.25
    longest_wait: float = 10.0

    @classmethod
    def from_environment(cls) -> "Patience":
        """Take the deadline from `MLPOP_STORE_DEADLINE` [s] if it is set.

        Raises:
            ConfigError: it is no number above 0.
        """
        text = os.environ.get(DEADLINE_VARIABLE, "")
        if not text:
            return cls()
        try:
            deadline = float(text)
        except ValueError:
            deadline = 0.0
        if not 0 < deadline < float("inf"):
            raise ConfigError(f"{DEADLINE_VARIABLE}: must be seconds above 0, found '{text}'")
        return cls(deadline=deadline)


def persist(
    attempt: Callable[[float], Value],
    patience: Patience,
    *,
    passing: Callable[[Exception], bool],
    what: str,
) -> Value:
    """Return `attempt(seconds_left)`, tried again while its failures are `passing`.

    An attempt has to keep to its seconds by itself. What the last one raised is raised.
    """
    end = time.monotonic() + patience.deadline
    wait = patience.first_wait
    while True:
        try:
            return attempt(max(end - time.monotonic(), 0.1))
        except Exception as error:
            if not passing(error) or time.monotonic() + wait >= end:
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.debug("%s: %s; again in %.2g s", what, reason[:300], wait)
            time.sleep(wait)
        wait = min(2 * wait, patience.longest_wait)
