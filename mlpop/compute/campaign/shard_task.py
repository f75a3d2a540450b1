"""One task of a campaign, in a worker: simulate a group of parameter sets, write their shard."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from logging import getLogger
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mlpop.compute.backends.base import Emit, describe
from mlpop.compute.backends.limits import TimeLimitReached, call_within, exit_after
from mlpop.compute.backends.workers import is_worker
from mlpop.compute.campaign.journal import (
    Deaths,
    journal_path,
    note_attempt,
    note_simulation,
    read_journal,
)
from mlpop.compute.seeds import Purpose, seed_sequence
from mlpop.datasets.remote.dataset import RemoteDataset
from mlpop.datasets.shards import (
    SHARDS_FOLDER,
    ShardRecord,
    SimulationRow,
    read_shard,
    shard_name,
    write_shard,
)
from mlpop.errors import ConfigError, DataError, SimulationFailed
from mlpop.io.files import sha256_of
from mlpop.simulators.base import simulate
from mlpop.simulators.outputs import by_channel

CAMPAIGN_FILE = "campaign.json"

logger = getLogger(__name__)


@dataclass(frozen=True)
class ShardJob:
    """What all tasks of a campaign share.

    Attributes:
        simulator: JSON of the `simulator` block: type and args.
        labels: D names of the columns of theta.
        root_seed: root seed of the experiment.
        purpose: of the random numbers.
        round_index: round of the experiment.
        folder: of the dataset.
        time_limit: seconds one simulation may run [s]; None: no limit.
        grace: how long interrupted Python code may take to clean up before its process is
            ended [s].
        max_attempts: a simulation that killed so many workers is given up.
        remote: where the dataset is kept in an object store too; None: on disk only.
        claim: SHA-256 of the folder's campaign file.
    """

    simulator: str
    labels: tuple[str, ...]
    root_seed: int
    purpose: Purpose
    round_index: int
    folder: Path
    time_limit: float | None
    grace: float
    max_attempts: int
    remote: RemoteDataset | None = None
    claim: str = ""

    def seed_text(self, index: int) -> str:
        """How to make the seed of simulation `index` again."""
        key = (int(self.purpose), self.round_index, index)
        return f"SeedSequence({self.root_seed}, spawn_key={key})"


@dataclass(frozen=True)
class ShardTask:
    """Simulations `first`, `first + 1`, ... of the dataset.

    Attributes:
        number: of the shard.
        first: index of the first simulation.
        theta: (n, D) parameters.
    """

    number: int
    first: int
    theta: NDArray[np.float64]

    @property
    def indices(self) -> range:
        """Indices of the simulations."""
        return range(self.first, self.first + len(self.theta))

    def made(self, job: ShardJob, record: ShardRecord) -> bool:
        """Whether a shard holds the simulations of this task, from the seeds of `job`."""
        expected = [(index, job.seed_text(index)) for index in self.indices]
        return [(row.index, row.seed) for row in record.rows] == expected


def simulate_shard(job: ShardJob, task: ShardTask, emit: Emit) -> ShardRecord:
    """Simulate the rows of `task` and write their shard.

    Emits `{"index", "status"}` after each simulation. Where the dataset is in an object store
    the shard is put there too; one that is there already is not made again.

    Raises:
        MlpopError: the simulator cannot be built, or the shard cannot be written or stored. What
            goes wrong in a simulation is a row instead.
    """
    if job.remote is None:
        return _make_shard(job, task, job.folder, emit)
    folder = _workplace(job)
    shard = folder / SHARDS_FOLDER / shard_name(task.number)
    record = _kept(job, task, shard)
    if record is None:
        record = job.remote.pull_shard(
            task.number, folder, lambda shard_record: task.made(job, shard_record)
        )
    if record is None:
        record = _make_shard(job, task, folder, emit)
    else:
        for row in record.rows:
            emit({"index": row.index, "status": row.status})
    job.remote.push_shard(shard, record)
    if folder != job.folder:
        shutil.rmtree(shard, ignore_errors=True)
    return record


def _make_shard(job: ShardJob, task: ShardTask, folder: Path, emit: Emit) -> ShardRecord:
    shards = folder / SHARDS_FOLDER
    path = journal_path(shards, task.number)
    try:
        shards.mkdir(parents=True, exist_ok=True)
        deaths = read_journal(path)
        opened = path.open("a", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{shards}: cannot be written: {error.strerror or error}") from error
    with opened as journal:
        try:
            note_attempt(journal)
            simulator = build_simulator(job.simulator)
            if tuple(simulator.labels) != job.labels:
                raise ConfigError(
                    f"theta has the columns {', '.join(job.labels)}, the simulator wants "
                    f"{', '.join(simulator.labels)}"
                )
            rows = []
            for index, theta in zip(task.indices, task.theta, strict=True):
                row = _given_up(job, index, deaths)
                if row is None:
                    note_simulation(journal, index)
                    attempts = deaths.at[index] + 1
                    row = _simulate(job, simulator, theta, index, attempts, journal)
                rows.append(row)
                emit({"index": index, "status": row.status})
            record = write_shard(folder, task.number, rows)
        except Exception:
            # Only a death may leave a journal behind.
            path.unlink(missing_ok=True)
            raise
    path.unlink(missing_ok=True)
    return record


def _workplace(job: ShardJob) -> Path:
    """The dataset's folder where this machine has it, else a folder of this worker's machine."""
    campaign = job.folder / CAMPAIGN_FILE
    if campaign.is_file() and sha256_of(campaign) == job.claim:
        return job.folder
    assert job.remote is not None
    key = hashlib.sha256(f"{job.remote.uri}\n{job.claim}".encode()).hexdigest()[:16]
    scratch = Path(tempfile.gettempdir(), f"mlpop-{os.getuid()}-{key}")
    try:
        scratch.mkdir(mode=0o700, exist_ok=True)
        foreign = scratch.is_symlink() or scratch.stat().st_uid != os.getuid()
    except OSError as error:
        raise DataError(f"{scratch}: cannot be made: {error.strerror or error}") from error
    if foreign:
        raise DataError(f"{scratch}: belongs to somebody else; set TMPDIR to a folder of your own")
    return scratch


def _kept(job: ShardJob, task: ShardTask, shard: Path) -> ShardRecord | None:
    """The shard of an earlier attempt that was written here, and perhaps not yet stored."""
    if not shard.is_dir():
        return None
    try:
        record = read_shard(shard)
    except DataError as error:
        logger.warning("%s; the shard will be made again", error)
        return None
    return record if task.made(job, record) else None


@lru_cache(maxsize=2)
def build_simulator(specification: str) -> Any:
    """Build a simulator from the JSON of its block, once in a process."""
    from mlpop.simulators import load

    block: dict[str, Any] = json.loads(specification)
    return load(block["type"], block.get("args", {}))


def failed_row(
    job: ShardJob, index: int, reason: str, attempts: int, status: str = "failed"
) -> SimulationRow:
    """Return the record of a simulation that could not be made."""
    return SimulationRow(
        index=index,
        seed=job.seed_text(index),
        status="timeout" if status == "timeout" else "failed",
        attempts=attempts,
        message=reason,
    )


def _given_up(job: ShardJob, index: int, deaths: Deaths) -> SimulationRow | None:
    count = deaths.at[index]
    if index in deaths.timeouts:
        limit = "the time limit of its task" if job.time_limit is None else f"{job.time_limit:g} s"
        reason = f"ran over {limit} and could only be stopped with its process"
        return failed_row(job, index, reason, count, "timeout")
    if count >= job.max_attempts:
        return failed_row(job, index, f"the worker process died {count} times in it", count)
    return None


def _simulate(
    job: ShardJob,
    simulator: Any,
    theta: NDArray[np.float64],
    index: int,
    attempts: int,
    journal: IO[str],
) -> SimulationRow:
    seed = seed_sequence(job.root_seed, job.purpose, job.round_index, index)
    hard_limit = None
    if job.time_limit is not None and is_worker() and _alone_in_process():
        hard_limit = job.time_limit + job.grace
    status, message = "ok", ""
    info: Mapping[str, Any] = {}
    maps: Mapping[str, NDArray] = {}
    # what a posterior predicts is compared with what was observed beyond the maps
    detailed = job.purpose is Purpose.SIMULATION_PREDICTIVE
    started = time.perf_counter()
    try:
        with exit_after(hard_limit, journal):
            once = partial(simulate, simulator, theta, seed, detailed=detailed)
            simulation = call_within(job.time_limit, once)
        maps = by_channel(simulation.x, simulator.channels) | dict(simulation.details)
        info = _json_safe(simulation.info)
        if info.get("status") == "limit":
            status = "limit"
    except TimeLimitReached:
        status, message = "timeout", f"ran over its limit of {job.time_limit:g} s"
    except SimulationFailed as error:
        status, message = "failed", " ".join(str(error).split())
    except Exception as error:
        logger.debug("simulation %d", index, exc_info=True)
        status, message = "failed", describe(error)
    return SimulationRow(
        index=index,
        seed=job.seed_text(index),
        status=status,  # type: ignore[arg-type]
        attempts=attempts,
        seconds=time.perf_counter() - started,
        message=message,
        info=info,
        maps=maps,
    )


def _json_safe(info: Mapping[str, Any]) -> dict[str, Any]:
    """Turn numpy numbers and arrays into what JSON can hold."""

    def plain(value: object) -> object:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        raise TypeError(f"simulator info holds a {type(value).__name__}; JSON values are allowed")

    safe: dict[str, Any] = json.loads(json.dumps(dict(info), default=plain))
    return safe


def _alone_in_process() -> bool:
    """False in a Dask worker with several threads: the hard limit would end its neighbours."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return True
    try:
        return bool(distributed.get_worker().state.nthreads == 1)
    except ValueError:
        return True
