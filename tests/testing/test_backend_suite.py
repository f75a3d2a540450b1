"""The suite of backends finds backends that break one promise each."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numba
import pytest
import torch

from mlpop.compute.backends.base import Outcome
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.errors import ComputeError
from mlpop.testing import (
    BACKEND_CHECKS,
    BackendSuite,
    ConformanceError,
    backend_tasks,
    check_backend,
)


class NoName(SerialBackend):
    name = ""


class NoWorkers(SerialBackend):
    workers = 0


class NotABackend:
    name = "half"
    workers = 1

    def __enter__(self) -> "NotABackend":
        return self

    def __exit__(self, *_: object) -> None:
        return None


class LosesTheLast(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        return super().run(function, list(tasks)[:-1], **options)


class SameTwice(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield outcome
            yield outcome


class IndicesMixedUp(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield replace(outcome, index=len(tasks) - 1 - outcome.index)


class InOrderOfTasks(ProcessesBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        yield from sorted(super().run(function, tasks, **options), key=lambda o: o.index)


class Raises(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            if outcome.status == "failed":
                raise ComputeError(outcome.error)
            yield outcome


class TriesErrorsAgain(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        def twice(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception:
                return function(*arguments)

        return super().run(twice, tasks, **options)


class NoTraceback(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield replace(outcome, traceback="")


class ManyLines(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield replace(outcome, error=f"{outcome.error}\n" if outcome.error else "")


class EventsAtTheEnd(SerialBackend):
    """All events of a task come together, after its outcome or when it is done."""

    after_outcome = False

    def run(
        self, function: Any, tasks: Any, *, on_event: Any = None, **options: Any
    ) -> Iterator[Outcome]:
        heard: list[tuple[int, Any]] = []
        listen = None if on_event is None else lambda index, event: heard.append((index, event))
        for outcome in super().run(function, tasks, on_event=listen, **options):
            if self.after_outcome:
                yield outcome
            for index, event in heard:
                on_event(index, event)
            heard.clear()
            if not self.after_outcome:
                yield outcome


class EventsAfterTheOutcome(EventsAtTheEnd):
    after_outcome = True


class EventsLost(SerialBackend):
    def run(
        self, function: Any, tasks: Any, *, on_event: Any = None, **options: Any
    ) -> Iterator[Outcome]:
        def listen(index: int, event: Any) -> None:
            if event.get("number", 0) % 5 != 4:
                on_event(index, event)

        given = None if on_event is None else listen
        return super().run(function, tasks, on_event=given, **options)


class ListenerInAThread(SerialBackend):
    def run(
        self, function: Any, tasks: Any, *, on_event: Any = None, **options: Any
    ) -> Iterator[Outcome]:
        def listen(*arguments: Any) -> None:
            thread = threading.Thread(target=on_event, args=arguments)
            thread.start()
            thread.join()

        given = None if on_event is None else listen
        return super().run(function, tasks, on_event=given, **options)


class SwallowsTheListener(SerialBackend):
    def run(
        self, function: Any, tasks: Any, *, on_event: Any = None, **options: Any
    ) -> Iterator[Outcome]:
        def listen(*arguments: Any) -> None:
            try:
                on_event(*arguments)
            except Exception:
                return

        given = None if on_event is None else listen
        return super().run(function, tasks, on_event=given, **options)


class LimitIsAFailure(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield replace(outcome, status="failed") if outcome.status == "timeout" else outcome


class LimitEndsTheRun(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield outcome
            if outcome.status == "timeout":
                return


class NeverTriesAgain(ProcessesBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        return super().run(function, tasks, **options | {"max_attempts": 1})


class AlwaysTriesAgain(ProcessesBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        return super().run(function, tasks, **options | {"max_attempts": 4})


class LostIsNotSaid(ProcessesBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield replace(outcome, lost=False)


class AttemptsAreNotCounted(ProcessesBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in super().run(function, tasks, **options):
            yield replace(outcome, attempts=1)


class AllInFlight(ProcessesBackend):
    def run(
        self, function: Any, tasks: Any, *, max_in_flight: Any = None, **options: Any
    ) -> Iterator[Outcome]:
        return super().run(function, tasks, **options)


class FinishesFirst(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        yield from list(super().run(function, tasks, **options))


class BrokenByLeaving(SerialBackend):
    left = False

    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        if self.left:
            return
        self.left = True
        yield from super().run(function, tasks, **options)
        self.left = False


class AllThreads(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        def threaded(*arguments: Any) -> Any:
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
            torch.set_num_threads(2)
            return function(*arguments)

        return super().run(threaded, tasks, **options)


class ThreadsAreNotGivenBack(SerialBackend):
    def run(self, function: Any, tasks: Any, **options: Any) -> Iterator[Outcome]:
        yield from super().run(function, tasks, **options)
        torch.set_num_threads(torch.get_num_threads() + 1)


class TakesEverything(SerialBackend):
    def run(
        self, function: Any, tasks: Any, *, on_event: Any = None, **_: Any
    ) -> Iterator[Outcome]:
        return super().run(function, tasks, on_event=on_event)


class DoesNotStop(SerialBackend):
    def stop(self) -> None:
        return None


BROKEN: dict[type, tuple[str, str]] = {
    NoName: ("protocol", "name is ''"),
    NoWorkers: ("protocol", "workers must be a number of at least 1, found 0"),
    NotABackend: ("protocol", "NotABackend lacks parts"),
    LosesTheLast: ("values", "one for each is due"),
    SameTwice: ("values", "one for each is due"),
    IndicesMixedUp: ("values", "another value than a plain loop"),
    InOrderOfTasks: ("order", "yield each as it finishes"),
    Raises: ("failures", "must end as an outcome"),
    TriesErrorsAgain: ("failures", "found 2 starts and attempts = 1"),
    NoTraceback: ("failures", "traceback must show"),
    ManyLines: ("failures", "error must be"),
    EventsAfterTheOutcome: ("events", "0 of 50 events of task 0 were heard"),
    EventsLost: ("events", "40 of 50 events of task 0"),
    ListenerInAThread: ("events", "in the caller's own thread"),
    EventsAtTheEnd: ("live events", "while the task runs"),
    SwallowsTheListener: ("listener", "was swallowed"),
    LimitIsAFailure: ("time limit", "over its limit of 0.5 s"),
    LimitEndsTheRun: ("time limit", "one for each is due"),
    NeverTriesAgain: ("lost workers", "must succeed at attempt 2"),
    AlwaysTriesAgain: ("lost workers", "max_attempts = 1, but the task was started 4 times"),
    LostIsNotSaid: ("lost workers", "must end as failed and lost"),
    AttemptsAreNotCounted: ("lost workers", "must succeed at attempt 2"),
    AllInFlight: ("max in flight", "tasks ran at a time"),
    FinishesFirst: ("leaving early", "the caller left after the first outcome"),
    BrokenByLeaving: ("leaving early", "gave "),
    AllThreads: ("one thread", "tasks must run with one thread, found {'numba': 2"),
    ThreadsAreNotGivenBack: ("one thread", "now they are"),
    TakesEverything: ("refusals", "max_in_flight = 0 must raise ComputeError"),
    DoesNotStop: ("stopping", "must raise ComputeError, found \\[\\]"),
}


@pytest.mark.parametrize("kind", list(BROKEN), ids=lambda kind: kind.__name__)
def test_a_broken_backend_is_found(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_tasks, "ANSWER_SECONDS", 0.5)
    check, message = BROKEN[kind]
    threads = torch.get_num_threads()
    try:
        with (
            kind(2) if issubclass(kind, ProcessesBackend) else kind() as backend,
            pytest.raises(ConformanceError, match=message),
        ):
            BACKEND_CHECKS[check](backend)
    finally:
        torch.set_num_threads(threads)


def test_every_check_finds_something() -> None:
    assert {check for check, _ in BROKEN.values()} == set(BACKEND_CHECKS)


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(SameTwice):
        name = ""

    monkeypatch.setattr(backend_tasks, "ANSWER_SECONDS", 0.5)
    with pytest.raises(ConformanceError) as caught:
        check_backend(Twice())
    message = str(caught.value)
    assert "\n  protocol: name is ''" in message
    assert "\n  values: 7 tasks gave outcomes" in message


def test_a_suite_without_a_backend_says_so() -> None:
    with pytest.raises(AttributeError, match="BackendSuite must define make_backend"):
        BackendSuite().test_values()
