"""Which backend an experiment file asks for."""

from mlpop.compute.base import Backend
from mlpop.compute.processes import ProcessesBackend
from mlpop.compute.serial import SerialBackend
from mlpop.config.compute import ComputeConfig


def make_backend(
    *,
    n_processes: int = 1,
    enable_dask: bool = False,
    workers_dask: int = 1,
    compute: ComputeConfig | None = None,
) -> Backend:
    """Return the backend, to be entered with `with`.

    Args:
        n_processes: worker processes; 1 runs everything in the driver.
        enable_dask: use Dask instead.
        workers_dask: workers of an own Dask cluster, if no scheduler address is given.
        compute: the `compute` block.
    """
    block = compute or ComputeConfig()
    if enable_dask:
        from mlpop.compute.dask_backend import DaskBackend

        return DaskBackend(
            workers_dask,
            address=block.scheduler_address,
            scheduler_file=block.scheduler_file,
            worker_memory=block.worker_memory,
            connect_timeout=block.connect_timeout,
        )
    if n_processes == 1:
        return SerialBackend()
    return ProcessesBackend(n_processes)
