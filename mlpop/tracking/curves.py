"""Curves that appear in MLflow while a training runs, at no cost to the training.

Points wait in memory and go out as one batch every few seconds from a thread. While the store is
away they also go to a file, so that nothing is lost even if the process dies; they are sent again,
with the time stamps they had, so that MLflow keeps one of each however often they are sent.
"""

import itertools
import json
import logging
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mlpop.tracking.store import in_a_line

logger = logging.getLogger(__name__)

BATCH = 1000  # most metrics that one log_batch takes
FLUSH_SECONDS = 3.0
MAX_SHARE = 0.02  # of wall time spent on sending
LONGEST_PAUSE = 60.0  # [s]
CLOSE_SECONDS = 15.0
_NOT_IN_KEYS = re.compile(r"[^\w\-. :/]", re.ASCII)


class Point(NamedTuple):
    """One value of one curve; `timestamp` in ms since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


class MetricClient(Protocol):
    """What is used of `mlflow.MlflowClient`."""

    def log_batch(self, run_id: str, metrics: Sequence) -> object: ...

    def get_metric_history(self, run_id: str, key: str) -> Sequence: ...


class CurveBuffer:
    """The curves of one run.

    No method raises for a store that is away or refuses a point.

    Args:
        client: an MLflow client.
        run_id: the run that the curves belong to.
        spill: file for points that could not be sent; what an earlier process left is sent first.
        interval: least time between two batches [s].
        continued: whether the run may hold points already, from before it was resumed; a step of
            a curve that is there already is then not sent again.
    """

    def __init__(
        self,
        client: MetricClient,
        run_id: str,
        spill: Path,
        *,
        interval: float = FLUSH_SECONDS,
        continued: bool = False,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._spill = spill
        self._interval = interval
        self.continued = continued
        self._known: dict[str, set[int]] = {}
        self._waiting: deque[Point] = deque()
        self._sent = 0  # points ever taken off the left of _waiting
        self._spilled = 0  # points ever written to the file, counted from the first one
        self._lock = threading.Lock()  # held for microseconds: the training may wait for it
        self._sending = threading.Lock()
        self._spilling = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._away = False
        self._thread: threading.Thread | None = None
        left = read_spill(spill)
        self._waiting.extend(left)
        self._spilled = len(left)

    @property
    def pending(self) -> int:
        """The number of points that are not in the store yet."""
        return len(self._waiting)

    def append(self, key: str, value: float, step: int) -> None:
        """Add one point; takes microseconds. Infinite values are kept as NaN.

        MLflow stores infinity as 1.8e308, which looks like a number and hides the curve.
        """
        self.extend({key: value}, step)

    def extend(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each of several curves, at the same step and time."""
        now = time.time_ns() // 1_000_000
        points = []
        for key, value in values.items():
            number = float(value)
            number = number if math.isfinite(number) else math.nan
            points.append(Point(_NOT_IN_KEYS.sub("_", key)[:250], number, now, int(step)))
        with self._lock:
            self._waiting.extend(points)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="mlpop-curves", daemon=True)
                self._thread.start()

    def flush(self) -> bool:
        """Send everything that waits.

        Returns:
            Whether all of it is in the store; if not, it is in the spill file.
        """
        with self._sending:
            return self._send()

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Send the rest and end the thread.

        Args:
            timeout: longest wait for the store [s]; what is left then stays in the spill file.

        Returns:
            Whether all points are in the store.
        """
        deadline = time.monotonic() + timeout
        self._closed = True
        self._wake.set()
        # a call to a server that hangs must not hold up the end of the run: it is left behind
        last = threading.Thread(target=self.flush, name="mlpop-curves-last", daemon=True)
        last.start()
        last.join(max(deadline - time.monotonic(), 0.0))
        if last.is_alive():
            self._write_spill()
        with self._lock:
            waiting, unkept = len(self._waiting), self._sent + len(self._waiting) - self._spilled
        if waiting:
            logger.warning(
                "%d points of curves of run %s could not be sent; %s",
                waiting,
                self._run_id,
                f"{unkept} of them could not be kept in {self._spill} either"
                if unkept > 0
                else f"they are kept in {self._spill} and are sent when the run is resumed",
            )
        return not self._waiting

    def _run(self) -> None:
        pause = self._interval
        while not self._wake.wait(pause) and not self._closed:
            start = time.monotonic()
            done = self.flush()
            spent = time.monotonic() - start
            slow = spent / MAX_SHARE if done else 2.0 * pause
            pause = min(max(self._interval, slow), max(LONGEST_PAUSE, self._interval))

    def _send(self) -> bool:
        """Send batches until none is left or one fails. Only ever run by one thread at a time."""
        while True:
            with self._lock:
                batch = list(itertools.islice(self._waiting, BATCH))
            if not batch:
                self._forget_spill()
                return True
            try:
                fresh = self._unknown(batch)
                if fresh:
                    self._client.log_batch(self._run_id, metrics=_as_metrics(fresh))
            except Exception as error:
                # whatever the store's client raises, the training goes on
                if not self._away:
                    logger.warning("curves of run %s wait: %s", self._run_id, in_a_line(error))
                self._away = True
                self._write_spill()
                return False
            self._away = False
            for point in fresh:
                if self.continued:
                    self._known[point.key].add(point.step)
            with self._lock:
                for _ in batch:
                    self._waiting.popleft()
                self._sent += len(batch)

    def _unknown(self, batch: Sequence[Point]) -> list[Point]:
        if not self.continued:
            return list(batch)
        fresh = []
        added: set[tuple[str, int]] = set()
        for point in batch:
            if point.key not in self._known:
                history = self._client.get_metric_history(self._run_id, point.key)
                self._known[point.key] = {metric.step for metric in history}
            place = (point.key, point.step)
            if point.step not in self._known[point.key] and place not in added:
                added.add(place)
                fresh.append(point)
        return fresh

    def _write_spill(self) -> None:
        with self._spilling:
            with self._lock:
                end = self._sent + len(self._waiting)
                new = list(
                    itertools.islice(self._waiting, max(self._spilled - self._sent, 0), None)
                )
            if not new:
                return
            try:
                self._spill.parent.mkdir(parents=True, exist_ok=True)
                with self._spill.open("a", encoding="utf-8") as file:
                    # an earlier process may have died in the middle of a line
                    file.write("\n")
                    file.writelines(json.dumps(point) + "\n" for point in new)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                logger.warning("%s: curves cannot be kept on disk: %s", self._spill, error)
                return
            self._spilled = end

    def _forget_spill(self) -> None:
        with self._spilling:
            try:
                self._spill.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s: cannot be deleted: %s", self._spill, error)


def read_spill(path: Path) -> list[Point]:
    """Return the points of a spill file; a last line that was cut off is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("%s: cannot be read: %s", path, error)
        return []
    points = []
    for line in filter(None, lines):
        try:
            key, value, timestamp, step = json.loads(line)
            points.append(Point(str(key), float(value), int(timestamp), int(step)))
        except (ValueError, TypeError):
            logger.warning("%s: a broken line was left out: %s", path, line[:80])
    return points


def replay(client: MetricClient, folder: Path, run_ids: Iterable[str] | None = None) -> list[str]:
    """Send the points that earlier processes left in a spill folder.

    A resume on another machine may have sent them meanwhile: a step of a curve that is there is
    not sent again.

    Args:
        client: an MLflow client.
        folder: the spill folder; its files are named by run.
        run_ids: only these runs, by default every run that left a file.

    Returns:
        The runs whose points could not be sent; their files stay.
    """
    names = [path.stem for path in sorted(folder.glob("*.jsonl"))] if run_ids is None else run_ids
    return [
        run_id
        for run_id in names
        if not CurveBuffer(client, run_id, folder / f"{run_id}.jsonl", continued=True).flush()
    ]


def _as_metrics(points: Sequence[Point]) -> list:
    from mlflow.entities import Metric

    return [Metric(p.key, p.value, p.timestamp, p.step) for p in points]
