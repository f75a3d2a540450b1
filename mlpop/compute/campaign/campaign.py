"""The supply of simulations: parameters in, shards of a dataset out, on any backend.

A campaign is cut into tasks in the same way whatever the number of workers.
Each worker writes its shards itself; a shard that is there is never made again, so an
interrupted campaign goes on where it was. With a dataset in an object store, workers send their
shards there too, so that they need no disk in common, and a campaign goes on anywhere.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpop.compute.backends.base import MAX_ATTEMPTS, Backend, Event, Outcome
from mlpop.compute.campaign.claim import claim_folder
from mlpop.compute.campaign.journal import journal_path, note_timeout, read_journal
from mlpop.compute.campaign.shard_task import (
    ShardJob,
    ShardTask,
    failed_row,
    simulate_shard,
)
from mlpop.compute.seeds import Purpose, seed_sequence
from mlpop.datasets.remote.dataset import RemoteDataset
from mlpop.datasets.shards import (
    RECORD_FILE,
    SHARDS_FOLDER,
    STATUSES,
    ShardRecord,
    ShardRecords,
    Status,
    each_finished_shard,
    write_shard,
)
from mlpop.errors import ComputeError, DataError
from mlpop.io.files import json_digest

# What a worker may take to build its simulator before a task counts as stuck [s].
BUILD_SECONDS = 900.0


@dataclass(frozen=True)
class Progress:
    """How far a campaign is.

    Attributes:
        done: simulations made so far, also in earlier launches.
        total: simulations asked for.
        counts: simulations by status (`ok`, `limit`, `failed`, `timeout`, `invalid`).
        shard: the shard that has just been finished, if one has.
    """

    done: int
    total: int
    counts: Mapping[str, int]
    shard: ShardRecord | None = None


def run_campaign(
    simulator_spec: Mapping[str, Any],
    theta: NDArray[np.float64],
    labels: Sequence[str],
    root_seed: int,
    purpose: Purpose,
    round_index: int,
    folder: Path,
    backend: Backend,
    *,
    simulations_per_task: int = 64,
    time_limit: float | None = None,
    grace: float = 5.0,
    max_attempts: int = MAX_ATTEMPTS,
    max_in_flight: int | None = None,
    identity: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    remote: RemoteDataset | None = None,
) -> Sequence[ShardRecord]:
    """Simulate every row of `theta` that has no shard yet; return the records of all shards.

    Args:
        simulator_spec: the `simulator` block: `{"type": ..., "args": {...}}`.
        theta: (N, D) parameters in physical units; simulation k has index k.
        labels: D names of its columns, in the simulator's order.
        root_seed: root seed; simulation k draws from (root_seed, purpose, round_index, k).
        purpose: SIMULATION_TRAINING, SIMULATION_TEST, ...
        round_index: round of the experiment.
        folder: of the dataset; on a disk that all workers share, unless `remote` is given.
        backend: who simulates.
        simulations_per_task: simulations in one task and one shard, see `size_of_shards`; the last
            tasks are smaller, see `task_sizes`.
        time_limit: seconds one simulation may run [s]; then its row says `timeout`.
        grace: an interrupted simulation that does not end within so many seconds is ended with
            its process [s].
        max_attempts: a simulation that kills its worker so often is recorded as failed.
        max_in_flight: tasks handed out at a time; None: as many as keep the workers busy.
        identity: digest of what is simulated, which must agree with what is in the folder; by
            default that of `simulator_spec`. Give one that leaves paths out if the folder may
            move to another machine.
        on_progress: told after every simulation and every shard; a shard is then in `folder`.
        remote: where the dataset is kept in an object store too. Workers put their shards
            there, and `folder` gets those that it lacks.

    Raises:
        DataError: theta is not (N, D) and finite, or the folder holds another campaign.
        ComputeError: the simulator cannot be built, a shard cannot be written, or the backend is
            lost; finished shards are kept.
        TrackingError: the object store cannot be used; finished shards are kept.
    """
    theta = _check_theta(theta, labels)
    if simulations_per_task < 1:
        raise ComputeError(
            f"simulations_per_task must be at least 1, found {simulations_per_task}"
        )
    specification = json.dumps(dict(simulator_spec), sort_keys=True)
    seed_sequence(root_seed, purpose, round_index)
    job = ShardJob(
        simulator=specification,
        labels=tuple(labels),
        root_seed=root_seed,
        purpose=purpose,
        round_index=round_index,
        folder=folder.resolve(),
        time_limit=time_limit,
        grace=grace,
        max_attempts=max_attempts,
        remote=remote,
        claim=claim_folder(
            folder,
            theta,
            tuple(labels),
            (root_seed, purpose, round_index),
            simulations_per_task,
            identity or json_digest(dict(simulator_spec)),
            remote,
        ),
    )
    ends = np.cumsum(task_sizes(len(theta), simulations_per_task))
    tasks = [
        ShardTask(number, int(first), theta[first:end])
        for number, (first, end) in enumerate(pairwise([0, *ends]))
    ]
    tally = _Tally(len(theta), on_progress)
    campaign = _Campaign(job, tasks, tally)
    campaign.adopt_finished()
    if remote is not None:
        campaign.exchange_finished(remote)
    limit = None
    if time_limit is not None:
        limit = simulations_per_task * (time_limit + grace) + BUILD_SECONDS
    while waiting := campaign.waiting():
        outcomes = backend.run(
            partial(simulate_shard, job),
            waiting,
            on_event=tally.hear,
            max_in_flight=max_in_flight,
            time_limit=limit,
            max_attempts=max_attempts,
        )
        try:
            for outcome in outcomes:
                campaign.take(waiting[outcome.index], outcome)
        except ComputeError:
            # the iterator left stops what runs, and no simulation is to blame for that
            if isinstance(outcomes, Generator):
                outcomes.close()
            campaign.clear_left()
            raise
    return campaign.records()


def task_sizes(simulations: int, per_task: int) -> list[int]:
    """Cut a set into tasks of `per_task` simulations, of which the last ones are ever smaller.

    So tasks may be large, and workers still end at about the same time, whatever their number:
    the guided self-scheduling of Polychronopoulos & Kuck 1987, IEEE Trans. Comput. C-36, 1425.
    """
    smallest = min(per_task, max(per_task // 8, 8))
    sizes = []
    while simulations:
        sizes.append(min(simulations, max(smallest, min(per_task, simulations // 4))))
        simulations -= sizes[-1]
    return sizes


@dataclass
class _Tally:
    """Counts simulations; a repeated attempt is counted once."""

    total: int
    on_progress: Callable[[Progress], None] | None
    counts: Counter[str] = field(default_factory=Counter)
    _statuses: bytearray = field(init=False)  # of simulation k: 0, or 1 + its place in STATUSES

    def __post_init__(self) -> None:
        self._statuses = bytearray(self.total)

    def hear(self, _task: int, event: Event) -> None:
        self._note(event["index"], event["status"])
        self.tell(None)

    def add(self, record: ShardRecord) -> None:
        for row in record.rows:
            self._note(row.index, row.status)
        self.tell(record)

    def _note(self, index: int, status: Status) -> None:
        before, now = self._statuses[index], 1 + STATUSES.index(status)
        if before == now:
            return
        if before:
            self.counts[STATUSES[before - 1]] -= 1
        self.counts[status] += 1
        self._statuses[index] = now

    def tell(self, record: ShardRecord | None) -> None:
        if self.on_progress is not None:
            counts = {status: count for status, count in self.counts.items() if count}
            self.on_progress(Progress(sum(counts.values()), self.total, counts, record))


class _Campaign:
    """Which shards are there, and what to do about one that was not made."""

    def __init__(self, job: ShardJob, tasks: Sequence[ShardTask], tally: _Tally) -> None:
        self._job = job
        self._tasks = tasks
        self._tally = tally
        self._shards = job.folder / SHARDS_FOLDER
        self._finished: set[int] = set()

    def clear_left(self) -> None:
        """Clear away what was begun and never finished."""
        for left in self._shards.glob(".shard-*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def adopt_finished(self) -> None:
        """Take over the shards of an earlier launch; clear away what its deaths left."""
        self.clear_left()
        for record in each_finished_shard(self._job.folder):
            number = record.number
            if number >= len(self._tasks):
                raise DataError(
                    f"{self._shards / record.name}: shard {number} is not one of the "
                    f"{len(self._tasks)} of this campaign; use another folder"
                )
            if not self._tasks[number].made(self._job, record):
                raise DataError(
                    f"{self._shards / record.name}: holds other simulations or other seeds than "
                    "this campaign; use another folder"
                )
            self._add(record)

    def exchange_finished(self, remote: RemoteDataset) -> None:
        """Store the finished shards that `remote` lacks, and fetch those that it alone has."""
        stored = remote.shard_numbers()
        if stored and max(stored) >= len(self._tasks):
            raise DataError(
                f"{remote.shard_uri(max(stored))}: is not one of the {len(self._tasks)} shards of "
                "this campaign; use another place"
            )
        remote.push_shards(
            {
                self._shards / record.name: record
                for record in ShardRecords(self._job.folder, sorted(self._finished - stored))
            }
        )
        tasks = {task.number: task for task in self._tasks}
        found = remote.pull_shards(
            stored - self._finished,
            self._job.folder,
            lambda record: tasks[record.number].made(self._job, record),
        )
        for record in found.values():
            self._add(record)

    def waiting(self) -> list[ShardTask]:
        return [task for task in self._tasks if task.number not in self._finished]

    def records(self) -> Sequence[ShardRecord]:
        return ShardRecords(self._job.folder, [task.number for task in self._tasks])

    def take(self, task: ShardTask, outcome: Outcome) -> None:
        """Record an outcome; a task that died waits for another run, or fails for good."""
        if outcome.status == "ok":
            self._add(self._brought(task, outcome.value))
            return
        if outcome.status == "failed" and not outcome.lost:
            raise ComputeError(
                f"simulations {task.indices[0]} to {task.indices[-1]} could not be made: "
                f"{outcome.error}"
            )
        journal = journal_path(self._shards, task.number)
        deaths = read_journal(journal)
        # Each further run gives up the simulation that is to blame, so they come to an end.
        if deaths.at and deaths.before_first < self._job.max_attempts:
            if outcome.status == "timeout":
                note_timeout(journal)
            return
        rows = [
            failed_row(self._job, index, outcome.error, outcome.attempts, outcome.status)
            for index in task.indices
        ]
        record = write_shard(self._job.folder, task.number, rows)
        if self._job.remote is not None:
            self._job.remote.push_shard(self._shards / record.name, record)
        self._add(record)
        journal.unlink(missing_ok=True)

    def _brought(self, task: ShardTask, record: ShardRecord) -> ShardRecord:
        """Fetch a shard that its worker could write to the object store only."""
        remote = self._job.remote
        if remote is None or (self._shards / record.name / RECORD_FILE).is_file():
            return record
        job = self._job
        found = remote.pull_shard(
            task.number, job.folder, lambda shard_record: task.made(job, shard_record)
        )
        if found is None:
            raise ComputeError(
                f"{remote.shard_uri(task.number)}: was stored by a worker, and cannot be read back"
            )
        return found

    def _add(self, record: ShardRecord) -> None:
        self._finished.add(record.number)
        self._tally.add(record)


def _check_theta(theta: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.float64]:
    theta = np.ascontiguousarray(theta, dtype=np.float64)
    if theta.ndim != 2 or theta.shape[1] != len(labels) or not len(theta):
        raise DataError(f"theta has shape {theta.shape}; expected (N, {len(labels)}) with N >= 1")
    if not np.isfinite(theta).all():
        row = int(np.flatnonzero(~np.isfinite(theta).all(axis=1))[0])
        raise DataError(f"theta row {row} holds a value that is not finite: {theta[row].tolist()}")
    return theta
