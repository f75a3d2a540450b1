"""Dask workers as jobs of a queue, submitted through dask-jobqueue.

The scheduler runs in the driver, and the nodes must reach it; it talks TLS. A temporary identity
lies in files beside what jobs print, which only their owner may read.
"""

import logging
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dask.config
from distributed import Client, Security

from mlpop.compute.backends.base import describe
from mlpop.compute.backends.clusters import (
    LOOPBACK,
    OWN_CLUSTER,
    adapt,
    check_workers,
    own_dashboard_link,
    security_in_files,
    security_of,
)
from mlpop.compute.backends.queued_jobs import (
    COMMAND_SECONDS,
    Refill,
    check_arguments,
    library_class,
    watched_class,
)
from mlpop.compute.backends.workers import DRIVER_VARIABLES, THREAD_VARIABLES
from mlpop.config.blocks.compute import AdaptiveConfig, JobsConfig, TlsConfig
from mlpop.errors import ComputeError

logger = logging.getLogger(__name__)

CLUSTER_NAME = "mlpop"
# The queue is asked so often while no worker has come [s].
QUEUE_SECONDS = 10.0
# Directives that give a job the environment of the submitting process, or keep it from it, where
# that is not what the queue does anyway.
ENVIRONMENT: Mapping[bool, Mapping[str, str]] = {
    True: {
        "lsf": '-env "all"',
        "moab": "-V",
        "pbs": "-V",
        "sge": "-V",
        "slurm": "--export=ALL",
    },
    False: {"lsf": '-env "none"', "slurm": "--export=NONE"},
}


@dataclass(frozen=True)
class JobQueueWorkers:
    """Workers that a job queue runs; a job that ends before its time is replaced.

    Attributes:
        count: number of workers; with `adaptive` the most there may be.
        options: what is asked for every job.
        queue: dask-jobqueue's name of the queue, such as `slurm`.
        lifetime: a worker retires after this time, and its job is replaced [s]; None: never.
        lifetime_stagger: lifetimes differ by up to this time [s].
        adaptive: let the number of jobs follow the work.
        tls: identity; None: a temporary one.
        dashboard_address: where the dashboard listens.
        logs: folder for the folder of what jobs print, if `options` does not name one.

    Raises:
        ComputeError: `count` is not positive, dask-jobqueue is not installed or has no such
            queue, or it refuses an option.
    """

    count: int
    options: JobsConfig
    queue: str
    lifetime: float | None = None
    lifetime_stagger: float = 0.0
    adaptive: AdaptiveConfig | None = None
    tls: TlsConfig | None = None
    dashboard_address: str = f"{LOOPBACK}:0"
    logs: Path | None = None

    own: ClassVar[bool] = True
    local: ClassVar[bool] = False
    block: ClassVar[str] = "compute.jobs"
    queue_hint: ClassVar[str] = "the queue"
    free_arguments: ClassVar[Set[str]] = frozenset({"job_extra_directives"})

    def __post_init__(self) -> None:
        check_workers(self.count)
        ours = set(self._own_options()) - self.free_arguments
        job_class = library_class(self.queue).job_cls
        check_arguments(job_class, self.options.args, ours, f"{self.block}.args")
        self.job_script()

    @property
    def title(self) -> str:
        """What messages call the queue, such as `SLURM`."""
        return str(library_class(self.queue).__name__).removesuffix("Cluster")

    @property
    def name(self) -> str:
        """See `Cluster.name`."""
        return f"a cluster of {self.title} jobs"

    @property
    def patience(self) -> float:
        """How long there may be no worker at all [s]."""
        return self.options.queue_timeout

    @property
    def output(self) -> Path:
        """Folder of what jobs print."""
        folder = self.options.log_directory or self.logs or Path()
        return (folder / f"{self.queue}_output").absolute()

    def open(self, resources: ExitStack) -> Client:
        """See `Cluster.open`; returns as soon as the first worker is there.

        Raises:
            ComputeError: the queue has no command here, a job is refused, or no worker comes.
        """
        library = library_class(self.queue)
        command = library.job_cls.submit_command
        if shutil.which(command) is None:
            raise ComputeError(
                f"compute.cluster is {self.queue!r}, but there is no command {command} here: "
                "start on a machine that may submit jobs, or set compute.cluster to 'local'"
            )
        settings = OWN_CLUSTER | {
            # Jobs are looked after here.
            "distributed.deploy.lost-worker-timeout": "365d"
        }
        resources.enter_context(dask.config.set(settings))
        self.output.mkdir(parents=True, exist_ok=True)
        identity = self.tls or resources.enter_context(temporary_identity(self.output))
        security = security_of(identity)
        problems: list[str] = []
        cluster = watched_class(library, self.title, problems)(
            name=CLUSTER_NAME,
            security=security,
            protocol="tls://",
            scheduler_options={
                "host": self.options.host,
                "port": self.options.port,
                "dashboard_address": self.dashboard_address,
            },
            silence_logs=logging.CRITICAL,
            **self._job_options(),
        )
        resources.callback(self._close, cluster)
        client = Client(cluster, security=security, set_as_default=False)
        resources.enter_context(client)
        jobs = -(-self.count // self.options.cores)
        if self.adaptive is None:
            cluster.scale(jobs=jobs)
        else:
            cluster.scale(jobs=1)
            adapt(cluster, self.adaptive, self.count)
        Refill(cluster).start(resources)
        logger.info(
            "submitted %d %s job(s); what they print is in %s",
            jobs if self.adaptive is None else 1,
            self.title,
            self.output,
        )
        self._wait_for_a_worker(client, cluster, problems)
        return client

    def capacity(self, client: Client | None) -> int:
        """See `Cluster.capacity`."""
        return self.count

    def dashboard_link(self, client: Client) -> str:
        """See `Cluster.dashboard_link`."""
        return own_dashboard_link(client, self.dashboard_address)

    def job_script(self) -> str:
        """Return the script of a job, as far as it is known without a scheduler.

        Raises:
            ComputeError: dask-jobqueue refuses an option.
        """
        host = self.options.host or socket.gethostname()
        # Of a temporary identity only the place is known.
        identity = self.tls or identity_in(self.output / ".tls")
        options = self._job_options()
        with tempfile.TemporaryDirectory() as stand_in:
            if options["log_directory"]:
                # which dask-jobqueue makes at once
                options["log_directory"] = stand_in
            try:
                job = library_class(self.queue).job_cls(
                    scheduler=f"tls://{host}:{self.options.port or 8786}",
                    name=f"{CLUSTER_NAME}-0",
                    security=security_in_files(identity),
                    protocol="tls://",
                    **options,
                )
                script = str(job.job_script())
            except (TypeError, ValueError) as error:
                problem = f"{self.title} refuses the options: {describe(error)}"
                raise ComputeError(f"{self.block}: {problem}") from error
        return script.replace(stand_in, str(self.output))

    def _job_options(self) -> dict[str, Any]:
        """Return what dask-jobqueue's cluster and its job have in common."""
        return {"job_name": CLUSTER_NAME, **self.options.args, **self._own_options()}

    def _own_options(self) -> dict[str, Any]:
        """Return the arguments that mlpop gives, whatever `options.args` says."""
        options = self.options
        return {
            "cores": options.cores,
            "processes": options.cores,
            "memory": options.memory,
            "nanny": True,
            "death_timeout": f"{options.death_timeout:g}",
            "python": options.python,
            "local_directory": options.local_directory and str(options.local_directory),
            "log_directory": str(self.output),
            "job_script_prologue": [*_environment(), *options.job_script_prologue],
            "job_extra_directives": self._directives(),
            "worker_command": None,
            "worker_extra_args": self._worker_arguments(),
        }

    def _directives(self) -> Any:
        """Return the lines that are added to those of dask-jobqueue; a list, for most queues."""
        key = f"jobqueue.{self.queue}.job-extra-directives"
        extra = self.options.args.get("job_extra_directives", dask.config.get(key, []))
        directive = ENVIRONMENT[self.options.export_environment].get(self.queue)
        return [*([directive] if directive else []), *extra]

    def _worker_arguments(self) -> list[str]:
        """Return arguments of `dask worker`."""
        arguments = ["--dashboard-address", f"{LOOPBACK}:0"]
        if self.lifetime is not None:
            arguments += ["--lifetime", f"{self.lifetime:g}s"]
            arguments += ["--lifetime-stagger", f"{self.lifetime_stagger:g}s"]
        return [*arguments, *map(shlex.quote, self.options.worker_extra_args)]

    def _wait_for_a_worker(self, client: Client, cluster: Any, problems: Sequence[str]) -> None:
        started = asked = time.monotonic()
        while not client.scheduler_info(n_workers=-1)["workers"]:
            if problems:
                raise ComputeError(f"{self.title} refuses the job: {problems[0]}")
            now = time.monotonic()
            if now - started > self.options.queue_timeout:
                raise ComputeError(
                    f"no worker has come within {self.block}.queue_timeout "
                    f"({self.options.queue_timeout:g} s); see {self.queue_hint} and {self.output}"
                )
            if now - asked > QUEUE_SECONDS:
                asked = now
                job_ids = [job.job_id for job in cluster.workers.values() if job.job_id]
                if job_ids:
                    self._look_into_queue(job_ids)
            time.sleep(0.2)

    def _look_into_queue(self, jobs: Sequence[str]) -> None:
        """Find out whether a worker can still be hoped for, if the queue can be asked.

        Args:
            jobs: ids of those that were submitted.

        Raises:
            ComputeError: every job has ended or is held.
        """

    def _close(self, cluster: Any) -> None:
        """Remove all jobs; a queue that does not answer must not hide why the run ends."""
        try:
            cluster.close(timeout=COMMAND_SECONDS)
        except Exception as error:
            problem = describe(error)
            hint = self.queue_hint
            logger.warning("%s jobs may be left (see %s): %s", self.title, hint, problem)


@contextmanager
def temporary_identity(folder: Path) -> Iterator[TlsConfig]:
    """Within the block, a new TLS identity lies in `folder`, for its owner's eyes only."""
    texts = Security.temporary().get_tls_config_for_role("worker")
    with tempfile.TemporaryDirectory(prefix=".tls-", dir=folder) as private:
        identity = identity_in(Path(private))
        for name, path in identity:
            path.touch(mode=0o600)
            path.write_text(texts[name], encoding="ascii")
        yield identity


def identity_in(folder: Path) -> TlsConfig:
    """Return the TLS identity whose files are, or shall be, in `folder`."""
    return TlsConfig(
        ca_file=folder / "ca.pem", cert=folder / "certificate.pem", key=folder / "key.pem"
    )


def _environment() -> list[str]:
    """Return the shell commands that set what every worker needs, on any node."""
    ours = {
        f"DASK_{key.replace('.', '__').replace('-', '_').upper()}": value
        for key, value in OWN_CLUSTER.items()
        if not key.startswith("distributed.scheduler.")
    }
    values = dict.fromkeys(THREAD_VARIABLES, "1") | ours
    exports = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in values.items())
    return [f"unset {' '.join(DRIVER_VARIABLES)}", f"export {exports}"]
