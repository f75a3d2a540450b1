"""Artifacts sent in the background while the work that makes them goes on.

One thread sends one file after another. A store that is away is tried again with growing pauses
until a deadline; the files are on disk all the while, and nothing is lost: what could not be sent
is named by `flush`, and sent by the launch that resumes.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mlpop.datasets.packed_shards import packed, packed_name
from mlpop.datasets.shards import SHARDS_FOLDER, ShardRecord
from mlpop.errors import MlpopError, TrackingError
from mlpop.io.errors import StoreAway
from mlpop.io.patience import Patience
from mlpop.tracking.artifacts import file_record, send_once
from mlpop.tracking.outages import KEPT, answers, passes
from mlpop.tracking.run import TrackedRun
from mlpop.tracking.store import translated

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
LEAVING_SECONDS = 5.0


@dataclass(frozen=True)
class _Item:
    name: str
    path: Path
    is_shard: bool


class Uploader:
    """Sends files to a run in the background; used as a context manager, from one thread.

    Leaving the block sends what is left; leaving it because of an error tries to for a few
    seconds, and hides nothing of the error.

    Args:
        run: the open run that gets the artifacts.
        patience: how long the store may be away at a time.
        max_waiting: files that wait at most; `send` waits for a place in a full queue.
    """

    def __init__(
        self,
        run: TrackedRun,
        *,
        patience: Patience | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._run = run
        self._patience = patience or Patience.from_environment()
        self._queue: queue.Queue[_Item | None] = queue.Queue(max_waiting)
        self._failed: list[_Item] = []
        self._reason: MlpopError | None = None
        self._away_since: float | None = None
        self._artifact_uri = ""
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
                return
            left = self._drained(LEAVING_SECONDS)
        finally:
            self._leaving.set()
            with suppress(queue.Full):
                self._queue.put_nowait(None)
        if left or self._failed:
            logger.warning(
                "run %s: %d files could not be sent before its end; %s",
                self._run.run_id,
                left + len(self._failed),
                KEPT,
            )

    @property
    def waiting(self) -> int:
        """Number of files that are not sent yet, and not given up."""
        return self._queue.unfinished_tasks

    def send(self, path: Path, name: str) -> None:
        """Send a file; it must stay as it is until it is sent.

        Args:
            path: the file.
            name: of the artifact, with `/`.
        """
        self._add(_Item(name, path, is_shard=False))

    def send_shard(self, kind: str, dataset: Path, record: ShardRecord) -> None:
        """Send a finished shard as one file `<kind>/shards/shard-00012.zip`.

        Args:
            kind: `training` or `test`.
            dataset: folder of the dataset.
            record: what its `shard.json` says.
        """
        name = f"{kind}/{SHARDS_FOLDER}/{packed_name(record.number)}"
        self._add(_Item(name, dataset / SHARDS_FOLDER / record.name, is_shard=True))

    def flush(self) -> None:
        """Wait until everything is sent; what was given up is tried once more.

        Raises:
            TrackingError: some files could not be sent. Says why, what is kept, and how to go on.
        """
        self._queue.join()
        # the thread has nothing to do now, so that nothing is added meanwhile
        again, self._failed, self._reason = self._failed, [], None
        for item in again:
            self._add(item)
        self._queue.join()
        reason = self._reason
        if reason is None:
            return
        names = ", ".join(item.name for item in self._failed[:3])
        more = f" and {len(self._failed) - 3} more" if len(self._failed) > 3 else ""
        raise TrackingError(f"{reason}; not sent: {names}{more}; {KEPT}") from reason

    def _add(self, item: _Item) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlpop-uploads", daemon=True)
            self._thread.start()
        self._queue.put(item)

    def _drained(self, seconds: float) -> int:
        """Wait for the queue at most so long; return the number of files that are left."""
        end = time.monotonic() + seconds
        while self.waiting and time.monotonic() < end:
            time.sleep(0.02)
        return self.waiting

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            try:
                if not self._leaving.is_set():
                    self._deliver(item)
            except Exception as error:
                # whatever it was, it is told by `flush`, and the next files are still sent
                self._failed.append(item)
                if self._reason is None:
                    self._reason = (
                        error
                        if isinstance(error, MlpopError)
                        else TrackingError(
                            f"artifact {item.name} of run {self._run.run_id}: {error}"
                        )
                    )
            finally:
                self._queue.task_done()

    def _deliver(self, item: _Item) -> None:
        with _as_file(item) as path:
            record = file_record(path)
            if self._run.records.get(item.name) == record:
                return
            wait = self._patience.first_wait
            while not self._sent(item.name, path, wait):
                if self._leaving.wait(wait):
                    raise TrackingError(f"artifact {item.name}: not sent before the end")
                wait = min(2 * wait, self._patience.longest_wait)
            self._run.records[item.name] = record

    def _sent(self, name: str, path: Path, wait: float) -> bool:
        """Try once; False if it may be tried again after a pause of `wait` [s]."""
        client, run_id = self._run.store.client, self._run.run_id
        started = time.monotonic()
        try:
            if self._away_since is not None and not answers(
                self._run.store.uri, self._artifact_uri
            ):
                raise StoreAway(f"artifact {name} of run {run_id}: the store does not answer")
            with translated(f"run {run_id}"):
                self._artifact_uri = (
                    self._artifact_uri or client.get_run(run_id).info.artifact_uri or ""
                )
            send_once(client, run_id, path, name)
        except TrackingError as error:
            if not passes(error):
                raise
            if self._away_since is None:
                self._away_since = started
                logger.warning("%s; is tried again", error)
            # the deadline is that of an outage, not of every file that it meets
            if time.monotonic() + wait >= self._away_since + self._patience.deadline:
                raise
            return False
        self._away_since = None
        return True


@contextmanager
def _as_file(item: _Item) -> Iterator[Path]:
    if not item.is_shard:
        yield item.path
        return
    with packed(item.path) as path:
        yield path
