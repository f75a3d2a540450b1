"""Which backend an experiment file asks for."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpop.compute.backends.base import Backend
from mlpop.compute.backends.processes import ProcessesBackend
from mlpop.compute.backends.serial import SerialBackend
from mlpop.compute.backends.workers import available_cores
from mlpop.config.blocks.compute import ComputeConfig

if TYPE_CHECKING:
    from mlpop.compute.backends.clusters import Cluster
    from mlpop.compute.backends.job_queue import JobQueueWorkers

logger = logging.getLogger(__name__)

QUEUE_WORKERS = 4
"""Of a job queue where nobody says how many."""


def make_backend(
    *,
    n_processes: int = 1,
    enable_dask: bool = False,
    workers_dask: int | None = None,
    compute: ComputeConfig | None = None,
    logs: Path | None = None,
) -> Backend:
    """Return the backend, to be entered with `with`.

    Args:
        n_processes: worker processes; 1 runs everything in the driver.
        enable_dask: use Dask instead.
        workers_dask: workers of an own Dask cluster, if no scheduler address is given; None: as
            many as this machine has cores, or `QUEUE_WORKERS` of a job queue.
        compute: the `compute` block.
        logs: folder of the run's logs, for what batch jobs say.

    Raises:
        ComputeError: a number of workers is not positive, or the cluster cannot be what it is
            asked to be.
    """
    block = compute or ComputeConfig()
    if enable_dask:
        from mlpop.compute.backends.dask_backend import DaskBackend

        return DaskBackend(_cluster(block, workers_dask, logs))
    if n_processes == 1:
        return SerialBackend()
    return ProcessesBackend(n_processes)


def job_script(compute: ComputeConfig, workers_dask: int | None, logs: Path | None = None) -> str:
    """Return the script of one job; needs neither the queue's commands nor a scheduler.

    Args:
        compute: the `compute` block; for the cluster `local` HTCondor's script is shown.
        workers_dask: number of Dask workers; None: `QUEUE_WORKERS`.
        logs: folder of the run's logs; by default the current folder.

    Raises:
        ComputeError: dask-jobqueue is not installed, or refuses the options.
    """
    return _jobs(compute, workers_dask or QUEUE_WORKERS, logs).job_script()


def _jobs(block: ComputeConfig, workers: int, logs: Path | None) -> "JobQueueWorkers":
    from mlpop.compute.backends.htcondor import HTCondorWorkers
    from mlpop.compute.backends.job_queue import JobQueueWorkers

    more: dict[str, Any] = {
        "lifetime": block.worker_lifetime,
        "lifetime_stagger": block.worker_lifetime_stagger,
        "adaptive": block.adaptive,
        "tls": block.tls,
        "dashboard_address": block.dashboard_address,
        "logs": logs,
    }
    if block.cluster in ("htcondor", "local"):
        return HTCondorWorkers(workers, block.htcondor, **more)
    return JobQueueWorkers(workers, block.jobs, block.cluster, **more)


def _cluster(block: ComputeConfig, workers: int | None, logs: Path | None) -> "Cluster":
    if block.cluster != "local":
        return _jobs(block, QUEUE_WORKERS if workers is None else workers, logs)
    from mlpop.compute.backends.clusters import LocalWorkers, RunningScheduler

    address = block.scheduler_address
    if address is None and block.scheduler_file is None:
        address = os.environ.get("DASK_SCHEDULER_ADDRESS") or None
    if address is not None or block.scheduler_file is not None:
        return RunningScheduler(
            address,
            scheduler_file=block.scheduler_file,
            tls=block.tls,
            insecure=block.insecure_scheduler,
            timeout=block.connect_timeout,
        )
    cores = available_cores()
    if workers is not None and workers > cores:
        logger.warning(
            "workers_dask: %d workers on %d cores of this machine gain nothing, and take the "
            "memory of %d",
            workers,
            cores,
            workers,
        )
    return LocalWorkers(
        cores if workers is None else workers,
        memory=block.worker_memory,
        lifetime=block.worker_lifetime,
        lifetime_stagger=block.worker_lifetime_stagger,
        adaptive=block.adaptive,
        tls=block.tls,
        dashboard_address=block.dashboard_address,
        timeout=block.connect_timeout,
    )
