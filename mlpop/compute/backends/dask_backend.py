"""The backend of Dask workers, whoever started them."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self

from distributed import Client

from mlpop.compute.backends.base import (
    MAX_ATTEMPTS,
    OnEvent,
    Outcome,
    check_run_arguments,
    describe,
)
from mlpop.compute.backends.clusters import Cluster, LocalWorkers
from mlpop.compute.backends.dask_run import DaskRun
from mlpop.compute.backends.execution import dump
from mlpop.compute.backends.workers import environment_of_workers, sigint_blocked
from mlpop.errors import ComputeError

logger = logging.getLogger(__name__)


class DaskBackend:
    """Workers of a Dask cluster, one thread each.

    Args:
        cluster: where they come from; a number: so many worker processes on this machine.

    Raises:
        ComputeError: the number of workers is not positive.
    """

    name = "dask"

    def __init__(self, cluster: Cluster | int = 1) -> None:
        self._cluster = LocalWorkers(cluster) if isinstance(cluster, int) else cluster
        self._resources = ExitStack()
        self._client: Client | None = None
        self._stopped = threading.Event()

    @property
    def workers(self) -> int:
        """Number of tasks that can run at a time, now."""
        return self._cluster.capacity(self._client)

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard in a browser; empty without one."""
        return self._cluster.dashboard_link(self._connected())

    def __enter__(self) -> Self:
        try:
            with sigint_blocked(), environment_of_workers():
                self._client = self._cluster.open(self._resources)
        except BaseException as error:
            self._resources.close()
            if not isinstance(error, OSError | ValueError | RuntimeError):
                raise
            raise ComputeError(
                f"dask backend: no connection to {self._cluster.name}: {describe(error)}"
            ) from error
        logger.info(
            "Dask: %d workers of %s%s",
            self._joined(),
            self._cluster.name,
            f", dashboard {link}" if (link := self.dashboard_link) else "",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client = None
        with sigint_blocked():
            self._resources.close()

    def run(
        self,
        function: Callable[..., Any],
        tasks: Sequence[Any],
        *,
        on_event: OnEvent | None = None,
        max_in_flight: int | None = None,
        time_limit: float | None = None,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Iterator[Outcome]:
        """See `Backend.run`."""
        check_run_arguments(max_in_flight, time_limit, max_attempts)
        client = self._connected()
        program = dump(function, "the function")
        run = DaskRun(
            client,
            program,
            tasks,
            on_event,
            own_scheduler=self._cluster.own,
            own_processes=self._cluster.local,
            patience=self._cluster.patience,
            stopped=self._stopped,
        )

        def in_flight() -> int:
            # One more for each worker waits at the scheduler, to be had at once.
            return max_in_flight or 2 * self._cluster.capacity(client)

        return run.outcomes(in_flight, time_limit, max_attempts)

    def stop(self) -> None:
        """See `Backend.stop`."""
        self._stopped.set()

    def _joined(self) -> int:
        """Return the number of tasks that the workers which came so far run at a time."""
        workers = self._connected().scheduler_info(n_workers=-1)["workers"].values()
        return sum(worker["nthreads"] for worker in workers)

    def _connected(self) -> Client:
        if self._client is None:
            raise ComputeError("dask backend: use it in a `with` block")
        return self._client
