"""The jobs of a queue, whichever dask-jobqueue knows: submitted, looked after, and replaced."""

import logging
import time
from collections.abc import Mapping, Set
from contextlib import ExitStack
from inspect import signature
from typing import Any

import dask.config
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from mlpop.compute.backends.base import describe
from mlpop.config.messages import one_of, show, unknown
from mlpop.errors import ComputeError

logger = logging.getLogger(__name__)

# Jobs that have lost their worker are replaced so often [s].
REFILL_SECONDS = 5.0
# How long a worker may be out of touch before its job is replaced [s].
LOST_WORKER_SECONDS = 15
# What a command of the queue may take; a busy one is slow [s].
COMMAND_SECONDS = 60.0
# Parameters of dask-jobqueue that are no arguments, or only of old versions.
HIDDEN = {"base_class_kwargs", "scheduler", "name", "protocol", "security"} | {
    "extra",
    "env_extra",
    "header_skip",
    "job_extra",
}


def library_class(queue: str) -> Any:
    """Return dask-jobqueue's class of clusters for a queue, by its name in that library.

    Raises:
        ComputeError: dask-jobqueue is not installed, or has no such queue.
    """
    try:
        import dask_jobqueue
        from dask_jobqueue.core import JobQueueCluster
    except ImportError:
        raise ComputeError(
            f"compute.cluster {queue!r} needs the package dask-jobqueue: "
            "pip install 'mlpop[cluster]'"
        ) from None
    classes: list[Any] = [c for c in vars(dask_jobqueue).values() if isinstance(c, type)]
    clusters = [c for c in classes if issubclass(c, JobQueueCluster) and c is not JobQueueCluster]
    by_queue = {cluster.job_cls.config_name: cluster for cluster in clusters}
    if queue not in by_queue:
        raise ComputeError(f"compute.cluster: {one_of(queue, ['local', *sorted(by_queue)])}")
    return by_queue[queue]


def check_arguments(job_class: Any, args: Mapping[str, Any], ours: Set[str], place: str) -> None:
    """Check arguments of a class of jobs, as far as its signature and defaults say what they are.

    Args:
        job_class: dask-jobqueue's, such as its `SLURMJob`.
        args: what the user gives.
        ours: arguments that mlpop gives itself.
        place: of `args` in the configuration.

    Raises:
        ComputeError: an argument is unknown, given by mlpop, or not the list that it must be.
    """
    # each class of the library passes on to its base what it does not know
    classes = [c for c in job_class.__mro__ if c.__module__.startswith("dask_jobqueue.")]
    names = {name for c in classes for name in signature(c).parameters} - HIDDEN
    for name, value in args.items():
        if name in ours:
            raise ComputeError(f"{place}.{name}: mlpop sets it, by fields beside args or itself")
        if name not in names:
            raise ComputeError(f"{place}.{name}: {unknown(name, sorted(names - ours))}")
        default = dask.config.get(f"jobqueue.{job_class.config_name}.{name.replace('_', '-')}", "")
        if isinstance(default, list) and not isinstance(value, list):
            raise ComputeError(f"{place}.{name}: must be a list, found {show(value)}")


def watched_class(library: Any, title: str, problems: list[str]) -> Any:
    """Return the class of clusters `library`, its jobs adding to `problems` why they were refused.

    Args:
        title: what messages call the queue.
    """

    class Job(library.job_cls):
        refused = False

        async def start(self) -> None:
            # An error here would be told by Dask's log alone, and spoil the end of the cluster.
            try:
                await super().start()
            except Exception as error:
                problem = describe(error)
                if problem not in problems:
                    problems.append(problem)
                    logger.warning("%s refuses a job: %s", title, problem)
                self.refused = True
                self.status = Status.running

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return type("Cluster", (library,), {"job_cls": Job})


class Arrivals(SchedulerPlugin):
    """Names of the workers that have ever come to a scheduler."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note a worker; Dask calls this."""
        self.names.add(str(scheduler.workers[worker].name))


class Refill:
    """Replaces jobs that were refused, or whose workers have gone.

    Dask forgets a lost worker, but not the job of several workers, and asks for no other.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._arrivals = Arrivals()
        self._lost_since: dict[Any, float] = {}
        self._callback = PeriodicCallback(self._refill, 1e3 * REFILL_SECONDS)

    def start(self, resources: ExitStack) -> None:
        """Look after the cluster until `resources` are closed."""
        loop = self._cluster.loop
        loop.add_callback(self._cluster.scheduler.add_plugin, self._arrivals)
        loop.add_callback(self._callback.start)
        resources.callback(loop.add_callback, self._callback.stop)

    async def _refill(self) -> None:
        cluster = self._cluster
        if cluster.status != Status.running:
            return
        present = {worker.name for worker in cluster.scheduler.workers.values()}
        now = time.monotonic()
        for name, job in list(cluster.workers.items()):
            suffixes = cluster.worker_spec.get(name, {}).get("group", [""])
            workers = {f"{name}{suffix}" for suffix in suffixes}
            if present & workers:
                self._lost_since.pop(name, None)
                continue
            # a job may wait in the queue for hours; only a worker that has come can be lost
            lost = 0.0
            if workers & self._arrivals.names:
                lost = now - self._lost_since.setdefault(name, now)
            if job.refused or lost > LOST_WORKER_SECONDS:
                self._lost_since.pop(name, None)
                self._arrivals.names -= workers
                del cluster.workers[name]
                await job.close()
        if set(cluster.worker_spec) - set(cluster.workers):
            cluster.scale(jobs=len(cluster.worker_spec))
