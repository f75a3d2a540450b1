"""The `compute` block of an experiment file: how simulations and trainings are spread."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from mlpop.config.base import StrictModel
from mlpop.config.fields import Count, LaxPath, Name, Natural, OptionalPath, Positive
from mlpop.config.messages import Problem, Refused, show

_BYTES = re.compile(r"\d+(\.\d+)? ?([kKMGT]i?)?B")


def _is_amount(value: str) -> str:
    if not _BYTES.fullmatch(value):
        raise Refused(("", f"must be a number with a unit such as '2GB', found {show(value)}"))
    return value


Bytes = Annotated[str, AfterValidator(_is_amount)]
"""An amount of memory such as `2GB` or `512 MiB`."""


class AdaptiveConfig(StrictModel):
    """Let the number of Dask workers follow the work that waits."""

    minimum: Natural = 1
    """Workers that are kept while there is no work."""
    maximum: Count | None = None
    """Workers at the most; null: `workers_dask`."""

    def _contradictions(self) -> Iterator[Problem]:
        if self.maximum is not None and self.maximum < self.minimum:
            yield "maximum", f"must be at least minimum ({self.minimum}), found {self.maximum}"


class TlsConfig(StrictModel):
    """Files of the TLS identity with which driver, scheduler and workers know each other."""

    ca_file: LaxPath
    """Certificate of the authority that signed `cert` [PEM]."""
    cert: LaxPath
    """Certificate [PEM]."""
    key: LaxPath
    """Its private key [PEM]."""


class JobsConfig(StrictModel):
    """What is asked of a job queue for every job of Dask workers."""

    cores: Count = 1
    """Cores of a job; it runs as many workers, of one thread each."""
    memory: Bytes = "2GB"
    """Memory of a job."""
    export_environment: bool = True
    """Give jobs the environment of the submitting process."""
    death_timeout: Positive = 60.0
    """A worker without a scheduler ends after this time [s]."""
    queue_timeout: Positive = 86400.0
    """How long the first worker may wait in the queue [s]; also the longest time without any."""
    log_directory: OptionalPath = None
    """Gets the folder `<cluster>_output`, on a disk that all nodes share; null: the run's logs."""
    python: Name | None = None
    """Interpreter on the nodes; null: the path of this one."""
    host: Name | None = None
    """Name or address by which nodes reach the scheduler; null: that of this machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of the scheduler; 0: any free one."""
    local_directory: OptionalPath = None
    """Folder on the node for Dask's temporary files; null: the job's own folder."""
    job_script_prologue: tuple[Name, ...] = ()
    """Shell commands that a job runs before its worker."""
    worker_extra_args: tuple[Name, ...] = ()
    """Further arguments of `dask worker`."""
    args: dict[Name, Any] = {}
    """Further arguments of dask-jobqueue's class, such as `{"queue": "normal"}`."""


class HTCondorConfig(JobsConfig):
    """What is asked of HTCondor for every job of Dask workers."""

    disk: Bytes = "2GB"
    """Disk of a job."""
    flavour: Name | None = "long"
    """Value of the directive `+flavour`, the kind of queue; null: no such directive."""
    job_extra_directives: dict[Name, str | bool | int | float] = {}
    """Further lines of the submit description, such as `{"+MaxRuntime": 86400}`."""
    submit_command_extra: tuple[Name, ...] = ()
    """Further arguments of `condor_submit`."""
    cancel_command_extra: tuple[Name, ...] = ()
    """Further arguments of `condor_rm`."""


class ComputeConfig(StrictModel):
    """How work is cut and where it runs; none of it changes a single bit of the results."""

    simulations_per_task: Count = 64
    """Simulations in one task, which writes one shard: some seconds of work. The last tasks of a
    set are smaller. Sets of more than 1000 shards have larger ones instead."""
    keep_detections: bool | None = None
    """Keep the detected pulsars of every simulation beside its maps, 52 bytes each, so that maps
    can be made again (`mlpop simulate --remap`); null: of sets of up to 100 000 simulations."""
    time_limit: Positive | None = 600.0
    """Seconds one simulation may run before it is recorded as `timeout` [s]; null: no limit."""
    max_attempts: Count = 3
    """How often a task is started whose worker dies."""
    max_in_flight: Count | None = None
    """Tasks handed to the workers at a time; null: as many as keep them busy."""
    cluster: Name = "local"
    """With `enable_dask`: workers on this machine, or jobs of a queue that dask-jobqueue knows:
    `htcondor`, `slurm`, `pbs`, ..."""
    scheduler_address: Name | None = None
    """Of a running Dask scheduler, e.g. `tls://host:8786`; null: the environment variable
    DASK_SCHEDULER_ADDRESS, else an own cluster."""
    scheduler_file: Name | None = None
    """The JSON file that `dask scheduler --scheduler-file` writes."""
    insecure_scheduler: bool = False
    """Accept a running scheduler on another machine without TLS: whoever reaches it can run
    code as you."""
    tls: TlsConfig | None = None
    """TLS identity; null: a temporary one for own clusters, Dask's configuration for others."""
    worker_memory: Bytes | None = None
    """Memory of one Dask worker on this machine; null: a fair share."""
    worker_lifetime: Positive | None = None
    """Dask workers of own clusters retire after this time, and are replaced [s]; null: never."""
    worker_lifetime_stagger: Annotated[float, Field(ge=0)] = 0.0
    """Lifetimes differ by up to this time, so that not all workers retire at once [s]."""
    adaptive: AdaptiveConfig | None = None
    """Let the number of workers of an own Dask cluster follow the work; null: it stays."""
    dashboard_address: Name = "127.0.0.1:0"
    """Where the dashboard of an own cluster listens: it has no password; port 0: any free one."""
    connect_timeout: Positive = 60.0
    """How long to wait for a scheduler, and for workers on this machine [s]."""
    htcondor: HTCondorConfig = HTCondorConfig()
    """Jobs of the cluster `htcondor`."""
    jobs: JobsConfig = JobsConfig()
    """Jobs of any other queue."""

    def _contradictions(self) -> Iterator[Problem]:
        running = [name for name in ("scheduler_address", "scheduler_file") if getattr(self, name)]
        if len(running) == 2:
            yield "scheduler_file", "must be null if scheduler_address is given"
        for name in running:
            for own in ("worker_lifetime", "adaptive"):
                if getattr(self, own) is not None:
                    yield own, f"must be null if {name} is given: it is not yours"
            if self.cluster != "local":
                yield name, f"must be null for cluster {self.cluster!r}, which has its own"
        if self.worker_lifetime_stagger >= (self.worker_lifetime or float("inf")):
            yield (
                "worker_lifetime_stagger",
                f"must be below worker_lifetime ({self.worker_lifetime:g}), "
                f"found {self.worker_lifetime_stagger:g}",
            )
