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
from mlpop.testing.conformance import add_tests, run_all

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
    # the last one: nothing runs after it
    "stopping": checks.check_stopping,
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

    def _run(self, check: Callable[[Backend], None]) -> None:
        with self.make_backend() as backend:
            check(backend)


add_tests(BackendSuite, BACKEND_CHECKS)
