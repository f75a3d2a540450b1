"""The `compute` block of an experiment file: how simulations and trainings are spread."""

from pydantic import Field

from mlpop.config.base import StrictModel


class ComputeConfig(StrictModel):
    """How work is cut and where it runs; none of it changes a single bit of the results.

    Attributes:
        simulations_per_task: simulations in one task, which writes one shard; 0.5-5 s of work.
        time_limit: seconds one simulation may run before it is recorded as `timeout` [s];
            null: no limit.
        max_attempts: how often a task is started whose worker dies.
        max_in_flight: tasks handed to the workers at a time; null: as many as keep them busy.
        scheduler_address: of a running Dask scheduler, e.g. `tls://host:8786`; null: the
            environment variable DASK_SCHEDULER_ADDRESS, else an own cluster on this machine.
        scheduler_file: the JSON file that `dask scheduler --scheduler-file` writes.
        worker_memory: memory of one Dask worker of an own cluster, e.g. `2GB`; null: a fair
            share of this machine's.
        connect_timeout: seconds to wait for a scheduler and its first worker [s].
    """

    simulations_per_task: int = Field(default=16, ge=1)
    time_limit: float | None = Field(default=600.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    max_in_flight: int | None = Field(default=None, ge=1)
    scheduler_address: str | None = None
    scheduler_file: str | None = None
    worker_memory: str | None = None
    connect_timeout: float = Field(default=60.0, gt=0)
