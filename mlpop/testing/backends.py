"""Does a compute backend do what mlpop relies on? A function to call, and a class for pytest.

from mlpop.testing import BackendSuite

class TestMyBackend(BackendSuite):
    @contextmanager
    def make_backend(self):
        with MyBackend(2) as backend:
            yield backend
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from mlpop.compute.backends.base import Backend
from mlpop.testing import backend_checks as checks
from mlpop.testing.conformance import run_all

BACKEND_CHECKS: Mapping[str, Callable[[Backend], None]] = {
    "protocol": checks.check_protocol,
    "values": checks.check_values,
    "order": checks.check_order,
    "failures": checks.check_failures,
    "events": checks.check_events,
    "live events": checks.check_live_events,
    "listener": checks.check_listener,
    "time limit": checks.check_time_limit,
    "lost workers": checks.check_lost_workers,
    "max in flight": checks.check_max_in_flight,
    "leaving early": checks.check_leaving_early,
    "one thread": checks.check_one_thread,
    "refusals": checks.check_refusals,
}
"""Every promise of `mlpop.compute.Backend`, by name."""


def check_backend(backend: Backend) -> None:
    """Run every check of `BACKEND_CHECKS` on a backend inside its `with` block.

    Takes some seconds; workers are killed on purpose.

    Raises:
        ConformanceError: some checks failed; the message has one line for each.
    """
    run_all(f"backend {getattr(backend, 'name', type(backend).__name__)}", BACKEND_CHECKS, backend)


class BackendSuite:
    """One pytest test for every check: name a subclass `Test...` and define `make_backend`."""

    def make_backend(self) -> AbstractContextManager[Backend]:
        """Return a context manager whose value is the backend, ready to run."""
        raise AttributeError(f"{type(self).__name__} must define make_backend")

    def test_protocol(self) -> None:
        """It has the attributes and methods of a backend."""
        self._run(checks.check_protocol)

    def test_values(self) -> None:
        """Every task gives one outcome with the value that a plain loop gives."""
        self._run(checks.check_values)

    def test_order(self) -> None:
        """Outcomes come as tasks finish."""
        self._run(checks.check_order)

    def test_failures_are_outcomes(self) -> None:
        """What a task raises is an outcome, and is not tried again."""
        self._run(checks.check_failures)

    def test_events_in_order_and_before_the_outcome(self) -> None:
        """No event is lost, none comes late."""
        self._run(checks.check_events)

    def test_events_arrive_while_the_task_runs(self) -> None:
        """Curves are live."""
        self._run(checks.check_live_events)

    def test_errors_of_the_listener_reach_the_caller(self) -> None:
        """What `on_event` raises is not swallowed."""
        self._run(checks.check_listener)

    def test_time_limit(self) -> None:
        """A task over its limit is stopped, the others go on."""
        self._run(checks.check_time_limit)

    def test_lost_workers(self) -> None:
        """A task whose worker died runs again, up to `max_attempts`."""
        self._run(checks.check_lost_workers)

    def test_max_in_flight(self) -> None:
        """Tasks are held back."""
        self._run(checks.check_max_in_flight)

    def test_leaving_early(self) -> None:
        """The rest is abandoned and the backend still works."""
        self._run(checks.check_leaving_early)

    def test_one_thread(self) -> None:
        """Workers use one thread."""
        self._run(checks.check_one_thread)

    def test_refusals(self) -> None:
        """Arguments that mean nothing are refused."""
        self._run(checks.check_refusals)

    def _run(self, check: Callable[[Backend], None]) -> None:
        with self.make_backend() as backend:
            check(backend)
