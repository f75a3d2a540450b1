"""Clusters of Dask workers: own ones on this machine, and those of a running scheduler.

An own cluster listens on the loopback interface only, dashboard included, and talks TLS: whoever
reaches an open scheduler port can run code as its owner.
"""

import json
import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

import dask.config
from distributed import Client, LocalCluster, Security
from distributed.deploy.spec import SpecCluster
from distributed.utils import format_dashboard_link

from mlpop.compute.backends.workers import THREAD_VARIABLES, main_module_hidden
from mlpop.config.blocks.compute import AdaptiveConfig, TlsConfig
from mlpop.errors import ComputeError

LOOPBACK = "127.0.0.1"
# Dask guesses half a second for a task that it does not know: any that waits asks for a worker.
TASK_SECONDS_AIMED_AT = "100ms"
# An idle worker is let go after so many checks, one a second.
IDLE_CHECKS = 10
# What `workers` of a scheduler may be out of date [s].
COUNT_SECONDS = 2.0

OWN_CLUSTER: dict[str, Any] = {
    # Attempts are counted by the driver, for every backend in the same way.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.comm.timeouts.tcp": "120s",
    # What Dask does many times a second, in the driver for each worker, is taken from the workers
    # if there is no core for the driver. Tasks wait at the scheduler, so there is none to steal.
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
}


class Cluster(Protocol):
    """Where Dask workers come from.

    Attributes:
        name: what messages call it.
        own: whether its scheduler runs in this process, with our settings.
        local: whether the workers are processes of this machine that may be killed.
        patience: how long there may be no worker at all [s].
    """

    @property
    def name(self) -> str: ...
    @property
    def own(self) -> bool: ...
    @property
    def local(self) -> bool: ...
    @property
    def patience(self) -> float: ...

    def open(self, resources: ExitStack) -> Client:
        """Start or find the cluster, wait for its workers; `resources` ends what was started."""
        ...

    def capacity(self, client: Client | None) -> int:
        """Return the number of tasks that can run at a time."""
        ...

    def dashboard_link(self, client: Client) -> str:
        """Return the address of the dashboard in a browser; empty without one."""
        ...


@dataclass(frozen=True)
class LocalWorkers:
    """Worker processes on this machine, one thread each, restarted when they die.

    Attributes:
        count: number of workers; with `adaptive` the most there may be.
        memory: of one worker, such as "2GB"; None: a fair share.
        lifetime: a worker retires after this time and is started again [s]; None: never.
        lifetime_stagger: lifetimes differ by up to this time [s].
        adaptive: let the number of workers follow the work.
        tls: identity; None: a temporary one.
        dashboard_address: where the dashboard listens.
        timeout: how long to wait for the workers [s].
    """

    count: int
    memory: str | None = None
    lifetime: float | None = None
    lifetime_stagger: float = 0.0
    adaptive: AdaptiveConfig | None = None
    tls: TlsConfig | None = None
    dashboard_address: str = f"{LOOPBACK}:0"
    timeout: float = 60.0

    name = "a cluster on this machine"
    own = True
    local = True

    def __post_init__(self) -> None:
        check_workers(self.count)

    @property
    def patience(self) -> float:
        """How long there may be no worker at all [s]."""
        return self.timeout

    def open(self, resources: ExitStack) -> Client:
        """See `Cluster.open`."""
        settings = OWN_CLUSTER | {
            # Nannies restart their workers; after this time the cluster gives up the nanny of a
            # worker that was once lost and happens to be away, for instance while it is
            # restarted again.
            "distributed.deploy.lost-worker-timeout": "365d",
            # Set in the worker alone: Dask's default sets them in the driver, where a torch that
            # is loaded later would keep to one thread.
            "distributed.nanny.pre-spawn-environ": {},
            "distributed.nanny.environ": dict.fromkeys(THREAD_VARIABLES, "1"),
        }
        resources.enter_context(dask.config.set(settings))
        # Nannies may start a worker at any time.
        resources.enter_context(main_module_hidden())
        security = security_of(self.tls)
        lifetime: dict[str, Any] = {}
        if self.lifetime is not None:
            lifetime = {
                "lifetime": f"{self.lifetime} s",
                "lifetime_stagger": f"{self.lifetime_stagger} s",
                "lifetime_restart": True,
            }
        first = self.count if self.adaptive is None else max(self.adaptive.minimum, 1)
        cluster = LocalCluster(
            n_workers=min(first, self.count),
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            protocol="tls://",
            security=security,
            dashboard_address=self.dashboard_address,
            memory_limit=self.memory or "auto",
            # Lost workers are told by outcomes; Dask's log would tell them again.
            silence_logs=logging.CRITICAL,
            **lifetime,
        )
        resources.enter_context(cluster)
        logging.getLogger("distributed.scheduler").addFilter(_not_to_a_client_that_left)
        if self.adaptive is not None:
            adapt(cluster, self.adaptive, self.count)
        client = Client(cluster, security=security, set_as_default=False, timeout=self.timeout)
        resources.enter_context(client)
        client.wait_for_workers(min(first, self.count), timeout=self.timeout)
        return client

    def capacity(self, client: Client | None) -> int:
        """See `Cluster.capacity`."""
        return self.count

    def dashboard_link(self, client: Client) -> str:
        """See `Cluster.dashboard_link`."""
        return own_dashboard_link(client, self.dashboard_address)


class RunningScheduler:
    """The workers of a scheduler that somebody else runs.

    Args:
        address: such as `tls://host:8786`.
        scheduler_file: the JSON file that `dask scheduler --scheduler-file` writes, instead.
        tls: identity; None: that of Dask's configuration, `distributed.comm.tls`.
        insecure: accept a scheduler on another machine without TLS.
        timeout: how long to wait for the scheduler and for a worker [s].
    """

    own = False
    local = False

    def __init__(
        self,
        address: str | None = None,
        *,
        scheduler_file: str | Path | None = None,
        tls: TlsConfig | None = None,
        insecure: bool = False,
        timeout: float = 60.0,
    ) -> None:
        self._address = address
        self._file = scheduler_file
        self._tls = tls
        self._insecure = insecure
        self._counted = (0, float("-inf"))
        self.patience = timeout

    @property
    def name(self) -> str:
        """Its address, or the file that has it."""
        return self._address or str(self._file)

    def open(self, resources: ExitStack) -> Client:
        """See `Cluster.open`."""
        address = self._address or self._address_in_file()
        if not self._insecure:
            check_scheduler_address(address)
        client = Client(
            address,
            security=None if self._tls is None else security_of(self._tls),
            set_as_default=False,
            timeout=self.patience,
        )
        resources.enter_context(client)
        client.wait_for_workers(1, timeout=self.patience)
        return client

    def capacity(self, client: Client | None) -> int:
        """See `Cluster.capacity`; workers come and go."""
        count, when = self._counted
        if client is not None and time.monotonic() - when > COUNT_SECONDS:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            count = sum(worker["nthreads"] for worker in workers)
            self._counted = (count, time.monotonic())
        return max(count, 1)

    def dashboard_link(self, client: Client) -> str:
        """See `Cluster.dashboard_link`."""
        return str(client.dashboard_link or "")

    def _address_in_file(self) -> str:
        """Read the file, as soon as it is there and whole; Dask would wait forever."""
        path = Path(self._file or "")
        end = time.monotonic() + self.patience
        while True:
            try:
                return str(json.loads(path.read_text(encoding="utf-8"))["address"])
            except FileNotFoundError:
                problem = f"no such file after {self.patience:g} s"
            except (json.JSONDecodeError, KeyError, TypeError):
                problem = "it does not hold a scheduler's address"
            if time.monotonic() > end:
                raise ComputeError(f"scheduler file {path}: {problem}")
            time.sleep(0.2)


def _not_to_a_client_that_left(record: logging.LogRecord) -> bool:
    # After an error the driver's client leaves while its tasks still report.
    return not str(record.msg).startswith("Closed comm")


def check_workers(count: int) -> None:
    """Refuse a number of workers that is not positive.

    Raises:
        ComputeError: it is not.
    """
    if count < 1:
        raise ComputeError(f"dask backend: needs at least 1 worker, found {count}")


def check_scheduler_address(address: str) -> None:
    """Refuse a scheduler on another machine that everybody can talk to.

    Raises:
        ComputeError: `address` is neither encrypted nor on the loopback interface.
    """
    protocol, separator, rest = address.rpartition("://")
    if separator and protocol in {"tls", "wss"}:
        return
    host = rest.rpartition(":")[0].strip("[]") or rest
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ComputeError(
            f"scheduler {address} is on another machine and does not use TLS: whoever reaches it "
            "can run code as you; start it with TLS and give its tls:// address and compute.tls, "
            "or set compute.insecure_scheduler to true if only you can reach it"
        )


def security_of(tls: TlsConfig | None) -> Security:
    """Return the identity that lies in files, for every role; None: a temporary one.

    Raises:
        ComputeError: a file is missing.
    """
    if tls is None:
        return Security.temporary()
    for path in (tls.ca_file, tls.cert, tls.key):
        if not path.is_file():
            raise ComputeError(f"compute.tls: {path}: no such file")
    return security_in_files(tls)


def security_in_files(tls: TlsConfig) -> Security:
    """Return the identity that lies, or shall lie, in files."""
    cert, key = str(tls.cert.absolute()), str(tls.key.absolute())
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=str(tls.ca_file.absolute()),
        **{f"tls_{role}_cert": cert for role in roles},
        **{f"tls_{role}_key": key for role in roles},
    )


def adapt(cluster: SpecCluster, adaptive: AdaptiveConfig, count: int) -> None:
    """Let the number of workers of `cluster` follow the tasks that wait.

    Args:
        count: most workers, if `adaptive` does not say.
    """
    cluster.adapt(
        minimum=adaptive.minimum,
        maximum=adaptive.maximum or count,
        target_duration=TASK_SECONDS_AIMED_AT,
        interval="1s",
        wait_count=IDLE_CHECKS,
    )


def own_dashboard_link(client: Client, address: str) -> str:
    """Return the link to the dashboard of an own cluster, which listens on `address`."""
    port = client.scheduler_info(n_workers=0)["services"].get("dashboard")
    host = address.rpartition(":")[0] or LOOPBACK
    return "" if port is None else str(format_dashboard_link(host, port))
