"""How a conformance check says what is wrong, and how several of them are run."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mlpop.errors import MlpopError

Case = TypeVar("Case")


class ConformanceError(MlpopError, AssertionError):
    """A simulator or a compute backend does not do what mlpop relies on."""


def require(condition: object, message: str) -> None:
    """Raise `ConformanceError` with `message` unless `condition` is true."""
    if not condition:
        raise ConformanceError(message)


def run_all(subject: str, checks: Mapping[str, Callable[[Case], None]], case: Case) -> None:
    """Run all checks on `case`.

    Raises:
        ConformanceError: one or more failed; the message has one line for everything found.
    """
    found: dict[str, list[str]] = {}
    for name, check in checks.items():
        try:
            check(case)
        except ConformanceError as error:
            found.setdefault(str(error), []).append(name)
        except Exception as error:
            found.setdefault(f"{type(error).__name__}: {error}", []).append(name)
    if found:
        failed = sum(map(len, found.values()))
        lines = "".join(f"\n  {', '.join(names)}: {reason}" for reason, names in found.items())
        raise ConformanceError(
            f"{subject} fails {failed} of {len(checks)} conformance checks:{lines}"
        )


def add_tests(suite: type, checks: Mapping[str, Callable[[Case], None]]) -> None:
    """Give a class one pytest test for every check, which its `_run` takes."""
    for name, check in checks.items():

        def test(self: Any, check: Callable[[Case], None] = check) -> None:
            self._run(check)

        test.__doc__ = check.__doc__
        setattr(suite, f"test_{name.replace(' ', '_')}", test)
