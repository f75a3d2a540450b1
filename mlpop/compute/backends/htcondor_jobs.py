"""The jobs of a cluster of HTCondor: submitted, looked after, and replaced."""

import logging
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from mlpop.compute.backends.base import describe

logger = logging.getLogger(__name__)

# Jobs that have lost their worker are replaced so often [s].
REFILL_SECONDS = 5.0
# How long a worker may be out of touch before its job is replaced [s].
LOST_WORKER_SECONDS = 15
# What `condor_q` may take; a busy queue is slow [s].
COMMAND_SECONDS = 60.0
HELD = "5"


def cluster_class(problems: list[str]) -> type:
    """Return dask-jobqueue's cluster, whose jobs add to `problems` why they were refused."""
    from dask_jobqueue.htcondor import HTCondorCluster, HTCondorJob

    class Job(HTCondorJob):
        refused = False

        async def start(self) -> None:
            # An error here would be told by Dask's log alone, and spoil the end of the cluster.
            try:
                await super().start()
            except Exception as error:
                problem = describe(error)
                if problem not in problems:
                    problems.append(problem)
                    logger.warning("HTCondor refuses a job: %s", problem)
                self.refused = True
                self.status = Status.running

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    class Cluster(HTCondorCluster):
        job_cls = Job

    return Cluster


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
        there = {worker.name for worker in cluster.scheduler.workers.values()}
        now = time.monotonic()
        for name, job in list(cluster.workers.items()):
            suffixes = cluster.worker_spec.get(name, {}).get("group", [""])
            workers = {f"{name}{suffix}" for suffix in suffixes}
            if there & workers:
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


def queue_states(jobs: Sequence[str]) -> Mapping[str, tuple[str, str]] | None:
    """Ask `condor_q` about jobs.

    Args:
        jobs: their ids, `cluster.process`.

    Returns:
        (JobStatus, HoldReason) of those that are in the queue; None: it cannot be asked.
    """
    if shutil.which("condor_q") is None:
        return None
    command = ["condor_q", *jobs, "-af:j", "JobStatus", "HoldReason"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("condor_q: %s", describe(error))
        return None
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.strip()]
    return {line[0]: (line[1], line[2] if len(line) > 2 else "") for line in lines}
