"""The backend of Dask workers: an own cluster on this machine, or a running scheduler.

The own cluster listens on the loopback interface only, dashboard included, and with a temporary
TLS identity: whoever reaches an open scheduler port can run code as its owner.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dask.config
from distributed import Client, LocalCluster, Security

from mlpop.compute.base import MAX_ATTEMPTS, OnEvent, Outcome, check_run_arguments, describe
from mlpop.compute.dask_run import DaskRun
from mlpop.compute.execution import dump
from mlpop.compute.workers import (
    THREAD_VARIABLES,
    environment_of_workers,
    sigint_blocked,
)
from mlpop.errors import ComputeError

_OWN_CLUSTER = {
    # Attempts are counted by the driver, for every backend in the same way.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    # Nannies restart their workers; after this time the cluster gives up the nanny of a worker
    # that was once lost and happens to be away, for instance while it is restarted again.
    "distributed.deploy.lost-worker-timeout": "365d",
    # Set in the worker alone: Dask's default sets them in the driver, where a torch that is
    # loaded later would keep to one thread.
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.nanny.environ": dict.fromkeys(THREAD_VARIABLES, "1"),
}


class DaskBackend:
    """Workers of a Dask cluster, one thread each.

    Args:
        workers: number of workers of an own cluster; ignored if a scheduler is given.
        address: address of a running scheduler, e.g. `tls://host:8786` (credentials are read
            from Dask's configuration, `distributed.comm.tls`); by default the environment
            variable DASK_SCHEDULER_ADDRESS, else an own cluster is started.
        scheduler_file: the JSON file that `dask scheduler --scheduler-file` writes, instead.
        worker_memory: memory of a worker of an own cluster, e.g. "2GB".
        connect_timeout: how long to wait for the scheduler and for a worker [s].

    Raises:
        ComputeError: `workers` is not positive.
    """

    name = "dask"

    def __init__(
        self,
        workers: int = 1,
        *,
        address: str | None = None,
        scheduler_file: str | None = None,
        worker_memory: str | None = None,
        connect_timeout: float = 60.0,
    ) -> None:
        if workers < 1:
            raise ComputeError(f"dask backend: needs at least 1 worker, found {workers}")
        self._wanted = workers
        self._scheduler_file = scheduler_file
        self._address = address
        if address is None and scheduler_file is None:
            self._address = os.environ.get("DASK_SCHEDULER_ADDRESS") or None
        self._worker_memory = worker_memory
        self._connect_timeout = connect_timeout
        self._own = self._address is None and scheduler_file is None
        self._resources = ExitStack()
        self._client: Client | None = None

    @property
    def workers(self) -> int:
        """Number of tasks that can run at a time, now."""
        if self._own or self._client is None:
            return self._wanted
        known = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return max(sum(worker["nthreads"] for worker in known), 1)

    @property
    def dashboard(self) -> str:
        """Address of the dashboard in a browser."""
        return str(self._connected().dashboard_link)

    def __enter__(self) -> Self:
        try:
            with sigint_blocked(), environment_of_workers():
                self._client = self._connect()
        except BaseException as error:
            self._resources.close()
            if not isinstance(error, OSError | ValueError | RuntimeError):
                raise
            where = self._address or self._scheduler_file or "a cluster on this machine"
            raise ComputeError(
                f"dask backend: no connection to {where}: {describe(error)}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        # No task waits at a worker behind another, or both would go down with it.
        in_flight = max_in_flight or self.workers
        program = dump(function, "the function")
        run = DaskRun(client, self._own, program, tasks, on_event, self._connect_timeout)
        return run.outcomes(in_flight, time_limit, max_attempts)

    def _connected(self) -> Client:
        if self._client is None:
            raise ComputeError("dask backend: use it in a `with` block")
        return self._client

    def _connect(self) -> Client:
        timeout = self._connect_timeout
        if self._own:
            self._resources.enter_context(dask.config.set(_OWN_CLUSTER))
            security = Security.temporary()
            cluster = LocalCluster(
                n_workers=self._wanted,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol="tls://",
                security=security,
                dashboard_address="127.0.0.1:0",
                memory_limit=self._worker_memory or "auto",
                # Lost workers are told by outcomes; Dask's log would tell them again.
                silence_logs=logging.CRITICAL,
            )
            self._resources.enter_context(cluster)
            client = Client(cluster, security=security, set_as_default=False, timeout=timeout)
        else:
            self._wait_for_scheduler_file()
            client = Client(
                address=self._address,
                scheduler_file=self._scheduler_file,
                set_as_default=False,
                timeout=timeout,
            )
        self._resources.enter_context(client)
        client.wait_for_workers(self._wanted if self._own else 1, timeout=timeout)
        return client

    def _wait_for_scheduler_file(self) -> None:
        """Wait as long as the scheduler may take; Dask would wait forever."""
        if self._scheduler_file is None:
            return
        end = time.monotonic() + self._connect_timeout
        while not Path(self._scheduler_file).is_file():
            if time.monotonic() > end:
                raise TimeoutError(f"no such file after {self._connect_timeout:g} s")
            time.sleep(0.2)
