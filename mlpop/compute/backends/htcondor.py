"""Dask workers as jobs of HTCondor, submitted through dask-jobqueue.

The scheduler runs in the driver, and the nodes must reach it; it talks TLS. A temporary identity
lies in files beside what jobs print, which only their owner may read.
"""

import logging
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from mlpop.compute.backends.htcondor_jobs import (
    COMMAND_SECONDS,
    HELD,
    Refill,
    cluster_class,
    queue_states,
)
from mlpop.compute.backends.workers import DRIVER_VARIABLES, THREAD_VARIABLES
from mlpop.config.blocks.compute import AdaptiveConfig, HTCondorConfig, TlsConfig
from mlpop.errors import ComputeError

logger = logging.getLogger(__name__)

CLUSTER_NAME = "mlpop"
OUTPUT_FOLDER = "htcondor_output"
# `condor_q` is asked so often while no worker has come [s].
QUEUE_SECONDS = 10.0


@dataclass(frozen=True)
class HTCondorWorkers:
    """Workers that HTCondor runs; a job that ends before its time is replaced.

    Attributes:
        count: number of workers; with `adaptive` the most there may be.
        options: the `compute.htcondor` block.
        lifetime: a worker retires after this time, and its job is replaced [s]; None: never.
        lifetime_stagger: lifetimes differ by up to this time [s].
        adaptive: let the number of jobs follow the work.
        tls: identity; None: a temporary one.
        dashboard_address: where the dashboard listens.
        logs: folder for the folder of what jobs print, if `options` does not name one.

    Raises:
        ComputeError: `count` is not positive.
    """

    count: int
    options: HTCondorConfig
    lifetime: float | None = None
    lifetime_stagger: float = 0.0
    adaptive: AdaptiveConfig | None = None
    tls: TlsConfig | None = None
    dashboard_address: str = f"{LOOPBACK}:0"
    logs: Path | None = None

    name = "a cluster of HTCondor jobs"
    own = True
    local = False

    def __post_init__(self) -> None:
        check_workers(self.count)

    @property
    def patience(self) -> float:
        """How long there may be no worker at all [s]."""
        return self.options.queue_timeout

    @property
    def output(self) -> Path:
        """Folder of what jobs print."""
        return ((self.options.log_directory or self.logs or Path()) / OUTPUT_FOLDER).absolute()

    def open(self, resources: ExitStack) -> Client:
        """See `Cluster.open`; returns as soon as the first worker is there.

        Raises:
            ComputeError: HTCondor or dask-jobqueue is not installed, a job is refused, or no
                worker comes.
        """
        require_dask_jobqueue()
        if shutil.which("condor_submit") is None:
            raise ComputeError(
                "compute.cluster is 'htcondor', but there is no command condor_submit here: "
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
        cluster = cluster_class(problems)(
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
        resources.callback(_close, cluster)
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
            "submitted %d HTCondor job(s); what they print is in %s",
            jobs if self.adaptive is None else 1,
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
        """Return the submit description of a job, as far as it is known without a scheduler.

        Raises:
            ComputeError: dask-jobqueue is not installed.
        """
        require_dask_jobqueue()
        from dask_jobqueue.htcondor import HTCondorJob

        host = self.options.host or socket.gethostname()
        # Of a temporary identity only the place is known.
        identity = self.tls or identity_in(self.output / ".tls")
        job = HTCondorJob(
            scheduler=f"tls://{host}:{self.options.port or 8786}",
            name=f"{CLUSTER_NAME}-0",
            security=security_in_files(identity),
            protocol="tls://",
            **self._job_options(),
        )
        return str(job.job_script())

    def _job_options(self) -> dict[str, Any]:
        """Return what dask-jobqueue's cluster and its job have in common."""
        options = self.options
        return {
            "cores": options.cores,
            "processes": options.cores,
            "memory": options.memory,
            "disk": options.disk,
            "nanny": True,
            "death_timeout": f"{options.death_timeout:g}",
            "python": options.python,
            "local_directory": options.local_directory and str(options.local_directory),
            "job_script_prologue": [*_environment(), *options.job_script_prologue],
            "job_extra_directives": self._directives(),
            "worker_extra_args": self._worker_arguments(),
            "submit_command_extra": list(options.submit_command_extra),
            "cancel_command_extra": list(options.cancel_command_extra),
        }

    def _directives(self) -> dict[str, str]:
        """Return the lines that are added to dask-jobqueue's submit description."""
        lines: dict[str, str] = {"Universe": "vanilla"}
        if self.options.export_environment:
            lines["getenv"] = "true"
        if self.options.flavour is not None:
            lines["+flavour"] = f'"{self.options.flavour}"'
        lines |= {
            "LogDirectory": str(self.output),
            "Output": "$(LogDirectory)/$(ClusterId)_$(ProcId)-out.txt",
            "Error": "$(LogDirectory)/$(ClusterId)_$(ProcId)-err.txt",
            "Log": "$(LogDirectory)/$(ClusterId).log",
            # A job is ended by removing it, and its output would not be brought back.
            "Stream_Output": "true",
            "Stream_Error": "true",
        }
        for name, value in self.options.job_extra_directives.items():
            lines[name] = str(value).lower() if isinstance(value, bool) else str(value)
        return lines

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
                raise ComputeError(f"HTCondor refuses the job: {problems[0]}")
            now = time.monotonic()
            if now - started > self.options.queue_timeout:
                raise ComputeError(
                    f"no worker has come within compute.htcondor.queue_timeout "
                    f"({self.options.queue_timeout:g} s); see condor_q and {self.output}"
                )
            if now - asked > QUEUE_SECONDS:
                asked = now
                self._look_into_queue([job.job_id for job in cluster.workers.values()])
            time.sleep(0.2)

    def _look_into_queue(self, jobs: Sequence[str | None]) -> None:
        """Find out whether a worker can still be hoped for.

        Raises:
            ComputeError: every job has ended or is held.
        """
        submitted = [job for job in jobs if job]
        states = queue_states(submitted)
        if not submitted or states is None:
            return
        if not states:
            raise ComputeError(
                "all HTCondor jobs have ended before their workers came; see what they printed "
                f"in {self.output}"
            )
        if all(state == HELD for state, _ in states.values()):
            reason = next(iter(states.values()))[1]
            raise ComputeError(f"all HTCondor jobs are held: {reason}")


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


def require_dask_jobqueue() -> None:
    """Check that dask-jobqueue is there.

    Raises:
        ComputeError: it is not.
    """
    try:
        import dask_jobqueue  # noqa: F401
    except ImportError:
        raise ComputeError(
            "HTCondor needs the package dask-jobqueue: pip install 'mlpop[htcondor]'"
        ) from None


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


def _close(cluster: Any) -> None:
    """Remove all jobs; a queue that does not answer must not hide why the run ends."""
    try:
        cluster.close(timeout=COMMAND_SECONDS)
    except Exception as error:
        logger.warning("HTCondor jobs may be left (see condor_q): %s", describe(error))
