"""What mlpop relies on in a compute backend; one function a promise."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlpop.compute.backends.base import Backend, Event, Outcome, describe
from mlpop.errors import ComputeError, SimulationFailed
from mlpop.testing import backend_tasks as tasks
from mlpop.testing.conformance import ConformanceError, require

_SLOW_SECONDS = 1.0
_LIMIT_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0
"""More than any backend takes to stop or restart a worker."""


def check_protocol(backend: Backend) -> None:
    """It has a name, a positive number of workers, and the methods of a backend."""
    require(isinstance(backend, Backend), f"{type(backend).__name__} lacks parts of Backend")
    require(isinstance(backend.name, str) and backend.name, f"name is {backend.name!r}")
    require(
        isinstance(backend.workers, int) and backend.workers >= 1,
        f"workers must be a number of at least 1, found {backend.workers!r}",
    )


def check_values(backend: Backend) -> None:
    """Every task gives one outcome with its index and the bits that a plain loop gives."""
    numbers = [7 * k for k in range(4 * backend.workers + 3)]
    for index, outcome in _by_index(backend, tasks.draw, numbers).items():
        require(
            outcome.status == "ok" and (outcome.attempts, outcome.error) == (1, ""),
            f"task {index} ended as {outcome}; expected ok at its first attempt",
        )
        require(
            outcome.value == tasks.draw(numbers[index]),
            f"task {index} has another value than a plain loop gives",
        )
        require(0 <= outcome.seconds < _PATIENCE_SECONDS, f"task {index} took {outcome.seconds} s")
    offset = backend.workers
    values = _by_index(backend, lambda number: number + offset, [1, 2])
    require(
        [values[0].value, values[1].value] == [1 + offset, 2 + offset],
        f"a closure gave {values}",
    )
    require(not list(backend.run(tasks.draw, [])), "no tasks must give no outcomes")


def check_order(backend: Backend) -> None:
    """Outcomes come as tasks finish: a slow task holds up nobody else's."""
    if backend.workers == 1:
        found = [outcome.index for outcome in backend.run(time.sleep, [0.05, 0.0, 0.0])]
        require(sorted(found) == [0, 1, 2], f"outcomes of three tasks had the indices {found}")
        return
    list(backend.run(time.sleep, [0.0] * 2 * backend.workers))
    order = [outcome.index for outcome in backend.run(time.sleep, [_SLOW_SECONDS, 0.0, 0.0])]
    require(
        order[-1] == 0,
        f"outcomes came in the order {order}, though task 0 ran {_SLOW_SECONDS:g} s longer than "
        "the others: yield each as it finishes",
    )


def check_failures(backend: Backend) -> None:
    """What a task raises is an outcome with one line and a traceback, and is not tried again."""
    with _folder() as folder:
        given = [(number, str(folder)) for number in range(4)]
        outcomes = _by_index(backend, tasks.fail_for_one, given)
        starts = len(tasks.starts(folder, 1))
    require(
        [outcomes[k].value for k in (0, 2, 3)] == [0, 2, 3],
        "a task that raises must not harm the others",
    )
    bad = outcomes[1]
    require(
        bad.status == "failed" and bad.value is None and not bad.lost,
        f"a task that raises must end as failed and not lost, found {bad}",
    )
    expected = f"{SimulationFailed.__name__}: {' '.join(tasks.REASON.split())}"
    require(bad.error == expected, f"error must be '{expected}', found '{bad.error}'")
    require(
        tasks.fail_for_one.__name__ in bad.traceback,
        "the traceback must show the line of the function that raised",
    )
    require(
        (bad.attempts, starts) == (1, 1),
        f"a task that raises runs once, found {starts} starts and attempts = {bad.attempts}",
    )


def check_events(backend: Backend) -> None:
    """Every event reaches the listener once, in order, before the outcome of its task."""
    heard: dict[int, list[int]] = {}
    threads = set()

    def listen(index: int, event: Event) -> None:
        threads.add(threading.get_ident())
        heard.setdefault(index, []).append(event["number"])

    given = [50, 0, 7, 120]
    for outcome in backend.run(tasks.count_to, given, on_event=listen):
        require(
            outcome.status == "ok" and outcome.value == given[outcome.index],
            f"a task with events ended as {outcome}",
        )
        expected = list(range(given[outcome.index]))
        found = heard.get(outcome.index, [])
        require(
            found == expected,
            f"{len(found)} of {len(expected)} events of task {outcome.index} were heard, or in "
            "another order, when its outcome came",
        )
    require(
        threads == {threading.get_ident()}, "on_event must be called in the caller's own thread"
    )


def check_live_events(backend: Backend) -> None:
    """Events arrive while their task runs."""
    with _folder() as folder:
        answer = folder / "answer"
        outcomes = _by_index(
            backend,
            tasks.wait_for_file,
            [str(answer)],
            on_event=lambda _index, _event: answer.touch(),
        )
    require(
        outcomes[0].value is True,
        "a task waited for the listener's answer to its event in vain: events must be delivered "
        "while the task runs",
    )


def check_listener(backend: Backend) -> None:
    """What the listener raises reaches the caller, and the backend works on."""

    def listen(index: int, event: Event) -> None:
        raise LookupError(f"{index}: {event}")

    try:
        list(backend.run(tasks.count_to, [1], on_event=listen))
    except LookupError:
        _require_works(backend, "after the listener raised")
        return
    raise ConformanceError("an exception of on_event was swallowed")


def check_time_limit(backend: Backend) -> None:
    """A task over its limit ends as `timeout`, is not tried again, and the others go on."""
    started = time.monotonic()
    outcomes = _by_index(backend, time.sleep, [300.0, 0.0, 0.0], time_limit=_LIMIT_SECONDS)
    took = time.monotonic() - started
    late = outcomes[0]
    require(
        took < _PATIENCE_SECONDS and late.status == "timeout" and late.value is None,
        f"a task over its limit of {_LIMIT_SECONDS:g} s ended after {took:.0f} s as {late}",
    )
    require(late.attempts == 1, f"a task over its limit was started {late.attempts} times")
    require(
        outcomes[1].status == outcomes[2].status == "ok",
        f"tasks beside one over its limit ended as {outcomes[1]} and {outcomes[2]}",
    )


def check_lost_workers(backend: Backend) -> None:
    """A task whose worker died runs again; at `max_attempts` it has failed and is `lost`.

    A backend that runs tasks in the caller's process has no workers to lose.
    """
    if _in_this_process(backend):
        return
    with _folder() as folder:
        given = [(number, 1, str(folder)) for number in range(3)]
        outcomes = _by_index(backend, tasks.kill_worker, given)
        require(
            [outcomes[k].value for k in range(3)] == [0, 1, 2] and outcomes[1].attempts == 2,
            f"a task whose worker died once must succeed at attempt 2, found {outcomes[1]}",
        )
    for attempts in (1, 2):
        with _folder() as folder:
            given = [(number, 99, str(folder)) for number in range(3)]
            outcomes = _by_index(backend, tasks.kill_worker, given, max_attempts=attempts)
            starts = len(tasks.starts(folder, 1))
        bad = outcomes[1]
        require(
            bad.status == "failed" and bad.lost and bad.error,
            f"a task that kills every worker must end as failed and lost, found {bad}",
        )
        require(
            starts == bad.attempts == attempts,
            f"max_attempts = {attempts}, but the task was started {starts} times and its outcome "
            f"says {bad.attempts}",
        )
        require(
            [outcomes[0].value, outcomes[2].value] == [0, 2],
            f"tasks beside one that kills workers ended as {outcomes[0]} and {outcomes[2]}",
        )


def check_max_in_flight(backend: Backend) -> None:
    """With `max_in_flight` of 1 no two tasks run at a time."""
    outcomes = _by_index(backend, tasks.span, [0.05] * 4, max_in_flight=1)
    spans = sorted(outcome.value for outcome in outcomes.values())
    overlap = [later[0] - earlier[1] for earlier, later in zip(spans, spans[1:], strict=False)]
    require(min(overlap) >= 0, f"max_in_flight = 1, but tasks ran at a time: {spans}")


def check_leaving_early(backend: Backend) -> None:
    """Leaving the iterator abandons what is not done, and the backend works on."""
    with _folder() as folder:
        given = [(number, str(folder)) for number in range(20 * backend.workers)]
        outcomes = backend.run(tasks.note_slowly, given)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        time.sleep(0.3)
        done = len(list(folder.iterdir()))
    require(
        done < len(given) / 2,
        f"{done} of {len(given)} tasks ran, though the caller left after the first outcome",
    )
    _require_works(backend, "after the caller left a run early")


def check_stopping(backend: Backend) -> None:
    """`stop` ends the run that another thread waits in; the backend cannot be used after it."""
    seconds = _SLOW_SECONDS if _in_this_process(backend) else 300.0
    raised: list[Exception] = []

    def run() -> None:
        try:
            list(backend.run(time.sleep, [seconds] * 2 * backend.workers))
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(_SLOW_SECONDS / 2)
    backend.stop()
    thread.join(_PATIENCE_SECONDS)
    found = [describe(error) for error in raised]
    require(
        not thread.is_alive() and len(raised) == 1 and isinstance(raised[0], ComputeError),
        f"a run that was stopped must raise ComputeError, found {found}",
    )


def check_one_thread(backend: Backend) -> None:
    """BLAS, torch and numba have one thread each in a task, and as many as before here."""
    # Loaded first, so that a backend in this process has something to limit.
    tasks.thread_counts(None)
    before = tasks.thread_counts(None)
    counts = _by_index(backend, tasks.thread_counts, [None])[0].result()
    more = {name: count for name, count in counts.items() if count != 1}
    require(not more, f"tasks must run with one thread, found {more}")
    after = tasks.thread_counts(None)
    require(after == before, f"threads of this process were {before}, now they are {after}")


def check_refusals(backend: Backend) -> None:
    """Arguments that are not positive raise `ComputeError`, before or with the first outcome."""
    for name in ("max_in_flight", "time_limit", "max_attempts"):
        arguments: dict[str, Any] = {name: 0}
        try:
            list(backend.run(tasks.draw, [0], **arguments))
        except ComputeError:
            continue
        raise ConformanceError(f"{name} = 0 must raise ComputeError")


def _by_index(
    backend: Backend, function: Callable[..., Any], given: Sequence[Any], **options: Any
) -> dict[int, Outcome]:
    try:
        outcomes = list(backend.run(function, given, **options))
    except Exception as error:
        raise ConformanceError(
            f"run raised {describe(error)}; whatever happens to a task must end as an outcome"
        ) from error
    found = sorted(outcome.index for outcome in outcomes)
    require(
        found == list(range(len(given))),
        f"{len(given)} tasks gave outcomes with the indices {found}; one for each is due",
    )
    return {outcome.index: outcome for outcome in outcomes}


def _require_works(backend: Backend, when: str) -> None:
    found = [outcome.value for outcome in backend.run(abs, [-3])]
    require(found == [3], f"{when}, abs(-3) on the backend gave {found}")


def _in_this_process(backend: Backend) -> bool:
    outcome = _by_index(backend, tasks.process_id, [None])[0]
    return bool(outcome.result() == os.getpid())


@contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder on the disk that driver and workers share."""
    with tempfile.TemporaryDirectory(prefix="mlpop-testing-") as name:
        yield Path(name)
