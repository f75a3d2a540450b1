"""Rejection sampling with a budget of attempts and of time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Generator, Tensor

from mlpop.inference.posteriors.arguments import SamplingError

LARGEST_LOT = 100_000
"""Attempts made at once; bounds the memory."""

SMALLEST_LOT = 256


@dataclass(frozen=True, eq=False)
class Source:
    """What makes attempts at a draw.

    Args:
        name: what messages call it.
        attempt: makes so many attempts; returns the accepted theta (m, d).
    """

    name: str
    attempt: Callable[[int, Generator], Tensor]


@dataclass
class Budget:
    """What a draw may cost; both limits can only end in an error, never change a result.

    Args:
        max_attempts: candidates that may be looked at.
        max_seconds: wall time [s].
        advice: ends the message of the error.
    """

    max_attempts: int
    max_seconds: float
    advice: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since the budget was opened [s]."""
        return time.monotonic() - self.started

    def check(self, name: str, attempts: int, accepted: int, wanted: int) -> None:
        """Raise if a budget is spent, or cannot suffice by the attempts so far.

        Raises:
            SamplingError: names the acceptance, the attempts, the limit and what to change.
        """
        if accepted >= wanted:
            return
        highest = (accepted + 4 * sqrt(accepted + 4) + 8) / max(1, attempts)
        if attempts >= self.max_attempts or highest * self.max_attempts < wanted:
            reason = f"of at most {self.max_attempts} attempts"
        elif self.seconds > self.max_seconds:
            reason = f"within {self.max_seconds:g} s"
        else:
            return
        raise SamplingError(
            f"{name}: {accepted} of {wanted} draws after {attempts} attempts, acceptance "
            f"{accepted / max(1, attempts):.2g}; the rest cannot be drawn {reason}. {self.advice}"
        )


def reject(
    source: Source,
    num_samples: int,
    generator: Generator,
    budget: Budget,
    expected: float,
) -> tuple[Tensor, int, int]:
    """Attempt until `num_samples` draws are accepted.

    The acceptance that is `expected` sizes the first lot of attempts.

    Returns:
        Theta (num_samples, d), the attempts that were accepted, at least `num_samples`, and
        all attempts.

    Raises:
        SamplingError: the budget is spent, or will be long before the end.
    """
    parts: list[Tensor] = []
    accepted = attempts = 0
    while accepted < num_samples:
        need = num_samples - accepted
        rate = (accepted + 1) / (attempts + 1 / max(expected, 1e-9))
        lot = int(min(LARGEST_LOT, max(SMALLEST_LOT, (need + 2 * sqrt(need)) / rate)))
        lot = min(lot, budget.max_attempts - attempts)
        parts.append(source.attempt(lot, generator))
        attempts += lot
        accepted += len(parts[-1])
        budget.check(source.name, attempts, accepted, num_samples)
    return torch.cat(parts)[:num_samples], accepted, attempts
