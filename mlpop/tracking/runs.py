"""MLflow runs that tell the truth: how they ended, who works on them, where they belong.

Runs are addressed by id and never by MLflow's global "active run", so that the members of an
ensemble can be open at the same time and threads cannot write into each other's run.
"""

import logging
import os
import re
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlpop.config.messages import show
from mlpop.errors import MlpopError, TrackingError
from mlpop.io.locks import NotLocked, locked, private_folder
from mlpop.io.records import tag_number
from mlpop.tracking.curves import CLOSE_SECONDS, CurveBuffer
from mlpop.tracking.lineage import Node
from mlpop.tracking.outages import patiently
from mlpop.tracking.owner import HEARTBEAT_TAG, OWNER_TAG, Heartbeat, Owner, is_alive, owner_of
from mlpop.tracking.run import ENDED_TAG, LONGEST_TAG, PARENT_TAG, TakenOver, TrackedRun
from mlpop.tracking.signals import EXIT_SIGINT, STOPPED_BY, shielded, stopping
from mlpop.tracking.store import Store, connect, few_retries, store_lock, translated

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

LINEAGE_SCHEMA = "1"
INHERITED_TAGS = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")
CLOSE_SECONDS_STOPPING = 3.0
CLAIM_SECONDS = 3.0
CLAIM_TIMEOUT = 60.0
_MLFLOW_GIVEN_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")

_open_runs: dict[str, TrackedRun] = {}
_open_runs_lock = threading.Lock()


@contextmanager
def open_run(
    kind: str,
    name: str,
    parent_run_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    store: Store | None = None,
    experiment: str | None = None,
    run_id: str | None = None,
) -> Iterator[TrackedRun]:
    """Open a run for the length of a block, and record truly how the block ended.

    The run ends FINISHED; KILLED after SIGTERM or Ctrl-C; else FAILED with the reason in the tag
    `mlpop.error`. Runs opened within and not closed end with it. A run at the top takes over the
    run that `mlflow run` made for it.

    Args:
        kind: the noun it stands for: experiment, round, member, dynamics, simulate, observe.
        name: its name in MLflow; also the name of the MLflow experiment of a run at the top.
        parent_run_id: the run it is nested in.
        tags: tags; keys without a dot get the prefix `mlpop.`.
        params: parameters, logged under `cfg.`.
        store: where to keep it, by default `connect()`.
        experiment: the MLflow experiment of a run at the top, by default `name`.
        run_id: an ended or dead run to open again instead of making a new one.

    Raises:
        TrackingError: the store cannot be used, or another living process works on `run_id`.
    """
    store = store or connect()
    run: TrackedRun | None = None
    beat: Heartbeat | None = None
    try:
        with shielded():
            run = _start(store, kind, name, parent_run_id, tags or {}, experiment, run_id)
            beat = _heartbeat(run)
        if params:
            run.log_params(params)
        yield run
    except BaseException as error:
        if run is not None:
            _close(run, beat, error)
        raise
    _close(run, beat, None)


def note_attempt(store: Store, root: Node) -> None:
    """Hang the run that `mlflow run` made for this launch under the run that is resumed."""
    run_id = _given_run(store)
    if run_id is None:
        return
    os.environ.pop("MLFLOW_RUN_ID", None)
    number = _next_attempt(root.tags)
    tags = {
        "mlflow.parentRunId": root.run_id,
        "mlpop.kind": "attempt",
        "mlpop.root": root.run_id,
        "mlpop.attempt": str(number),
    }
    with translated(f"run {run_id}"):
        store.client.update_run(run_id, name=f"attempt_{number:02d}")
        for key, value in tags.items():
            store.client.set_tag(run_id, key, value)


def tell_given_run(message: str) -> None:
    """Write why nothing was started into the run that `mlflow run` has made, if there is one.

    A run that `open_run` took over says itself how it ended. A store that is away is no error:
    the message is on the terminal too.
    """
    if not os.environ.get("MLFLOW_RUN_ID"):
        return
    try:
        store = connect()
        with few_retries():
            if (given := _given_run(store)) is not None:
                store.client.set_tag(given, "mlpop.error", message[:LONGEST_TAG])
                store.client.set_tag(given, "mlpop.state", "stopped")
    except Exception as error:
        logger.debug("the run that was given does not know why it failed: %s", error)


def status_of(error: BaseException | None) -> str:
    """Return the MLflow status of a run whose block ended with `error`."""
    if error is None:
        return "FINISHED"
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "FINISHED"
        return "KILLED" if error.code in (EXIT_SIGINT, *STOPPED_BY) else "FAILED"
    return "FAILED"


def _start(
    store: Store,
    kind: str,
    name: str,
    parent_run_id: str | None,
    tags: Mapping[str, Any],
    experiment: str | None,
    run_id: str | None,
) -> TrackedRun:
    client = store.client
    given_run_id = None
    if parent_run_id is None and run_id is None:
        given_run_id = _given_run(store)
    own = {"mlpop.kind": kind, "mlpop.name": name, "mlpop.schema": LINEAGE_SCHEMA}
    own |= {key if "." in key else f"mlpop.{key}": v for key, v in tags.items() if v is not None}
    own |= _owner_tags()
    with translated(f"run '{name}' in {store.safe_uri}"):
        if run_id is not None:
            run = _reopen(store, run_id)
            own |= {ENDED_TAG: "", "mlpop.error": ""}
            own["mlpop.attempt"] = str(_next_attempt(run.data.tags))
        elif given_run_id is not None:
            run = _adopt(store, given_run_id, name)
        elif parent_run_id is not None:
            parent = client.get_run(parent_run_id)
            above = parent.data.tags
            own |= {
                PARENT_TAG: parent_run_id,
                "mlpop.root": above.get("mlpop.root", parent_run_id),
            }
            own |= {key: above[key] for key in INHERITED_TAGS if key in above}
            run = client.create_run(parent.info.experiment_id, tags=_text(own), run_name=name)
        else:
            from mlflow.tracking.context.registry import resolve_tags

            place = store.experiment_id(experiment or name)
            run = client.create_run(place, tags=resolve_tags(_text(own)), run_name=name)
    info = run.info
    root_id = own.get("mlpop.root") or run.data.tags.get("mlpop.root") or info.run_id
    tracked = TrackedRun(
        store=store,
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        kind=kind,
        name=info.run_name or name,
        root_id=root_id,
        parent_id=parent_run_id or run.data.tags.get(PARENT_TAG),
        curves=CurveBuffer(
            client,
            info.run_id,
            store.spill_folder / f"{info.run_id}.jsonl",
            continued=run_id is not None,
        ),
        artifact_uri=info.artifact_uri or "",
    )
    with _open_runs_lock:
        _open_runs[tracked.run_id] = tracked
    try:
        tracked.set_tags(own | {"mlpop.root": root_id})
    except TrackingError as error:
        _close(tracked, None, error)
        raise
    return tracked


def _given_run(store: Store) -> str | None:
    """Return the run that `mlflow run` has made for this launch, None if there is none.

    `MLFLOW_RUN_ID` may also be left over in a shell or in a job system, or name the run of another
    program: nothing is written into a run that has a state already, and the variable is forgotten.

    Raises:
        TrackingError: the run is not in this store.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID", "").strip()
    if not run_id:
        # MLflow and the workers would take a blank for an id
        os.environ.pop("MLFLOW_RUN_ID", None)
        return None
    os.environ["MLFLOW_RUN_ID"] = run_id
    try:
        run = store.client.get_run(run_id)
    except Exception as error:
        raise TrackingError(
            f"MLFLOW_RUN_ID: run {show(run_id)[1:-1]} is not in {store.safe_uri}; unset it; with "
            "`mlflow run` of a project in another folder, MLFLOW_TRACKING_URI must be absolute"
        ) from error
    info, tags = run.info, run.data.tags
    if run_id in _open_runs or any(key.startswith("mlpop.") for key in tags):
        why = f"mlpop has written into it already ({tags.get('mlpop.name', info.run_name)})"
    elif info.lifecycle_stage != "active":
        why = "it is deleted"
    elif info.status not in ("RUNNING", "SCHEDULED"):
        why = f"it has ended ({info.status})"
    elif run.data.metrics:
        why = "it has metrics of another program"
    else:
        return run_id
    os.environ.pop("MLFLOW_RUN_ID", None)
    logger.warning(
        "MLFLOW_RUN_ID names run %s, which is left as it is: %s; this launch has a run of its own",
        run_id,
        why,
    )
    return None


def _next_attempt(tags: Mapping[str, str]) -> int:
    return (tag_number(tags, "mlpop.attempt") or 1) + 1


def _adopt(store: Store, run_id: str, name: str) -> "Run":
    """Take over the run that `mlflow run` made, and hide it from processes started from here."""
    run = store.client.get_run(run_id)
    os.environ.pop("MLFLOW_RUN_ID", None)
    # `mlflow run --run-name` is the user's choice, a random name is nobody's
    if _MLFLOW_GIVEN_NAME.fullmatch(run.info.run_name or ""):
        store.client.update_run(run_id, name=name)
    return store.client.get_run(run_id)


def _reopen(store: Store, run_id: str) -> "Run":
    """Take over a run that ended or died; of processes that want it at once, one gets it.

    Processes of one machine take turns at a lock. MLflow has nothing of the kind for several
    machines: each writes itself down as the owner, waits, and only goes on if it still is.
    """
    with _claim(store, run_id):
        run = store.client.get_run(run_id)
        if run.info.lifecycle_stage != "active":
            raise TrackingError(
                f"run {run_id} in {store.safe_uri} is deleted; restore it with `mlflow runs "
                f"restore --run-id {run_id}`, and its experiment where that is deleted too"
            )
        mine = Owner.from_tag(run.data.tags.get(OWNER_TAG)) == Owner.current()
        if run.info.status == "RUNNING" and not mine and is_alive(run.data.tags):
            raise _owned(run)
        for key, value in _owner_tags().items():
            store.client.set_tag(run_id, key, value)
        store.client.update_run(run_id, status="RUNNING")
    if not mine and store.database is None and PARENT_TAG not in run.data.tags:
        time.sleep(CLAIM_SECONDS)
        now = store.client.get_run(run_id)
        if Owner.from_tag(now.data.tags.get(OWNER_TAG)) != Owner.current():
            raise _owned(now)
    return run


@contextmanager
def _claim(store: Store, run_id: str) -> Iterator[None]:
    """Take turns with other processes of this machine: all users of a database, else one user."""
    if store.database is not None:
        with store_lock(store.database):
            yield
        return
    try:
        with locked(private_folder() / f"{run_id}.lock", timeout=CLAIM_TIMEOUT):
            yield
    except NotLocked as error:
        raise TrackingError(str(error)) from error


def _owned(run: "Run") -> TrackingError:
    return TrackingError(
        f"run {run.info.run_id} is being worked on by {owner_of(run.data.tags)}; end it first"
    )


def _owner_tags() -> dict[str, str]:
    owner = Owner.current()
    return {
        OWNER_TAG: owner.to_tag(),
        HEARTBEAT_TAG: f"{time.time():.0f}",
    }


def _heartbeat(run: TrackedRun) -> Heartbeat:
    def beat() -> None:
        run.store.client.set_tag(run.run_id, HEARTBEAT_TAG, f"{time.time():.0f}")

    return Heartbeat(beat)


def _close(run: TrackedRun, beat: Heartbeat | None, error: BaseException | None) -> None:
    """End a run; a store that is away must neither hide `error` nor hold the process up."""
    with shielded():
        if beat is not None:
            beat.stop()
        with _open_runs_lock:
            if _open_runs.pop(run.run_id, None) is None:
                return
            inner = [other for other in _open_runs.values() if other.parent_id == run.run_id]
        for other in inner:
            _close(other, None, error or RuntimeError(f"left open when run {run.run_id} ended"))
        if isinstance(error, TakenOver):
            # how it ends is for its new owner to say
            logger.error("%s", error)
            run.curves.close(CLOSE_SECONDS_STOPPING)
            return
        status = status_of(error)
        # after a signal only seconds are left
        hasty = stopping() or status == "KILLED"
        run.curves.close(CLOSE_SECONDS_STOPPING if hasty else CLOSE_SECONDS)
        if error is None:
            patiently(lambda: _end(run, status), f"status of run {run.run_id}")
            return
        try:
            if not run.store_answers():
                raise TrackingError(f"{run.store.safe_uri} does not answer")
            with few_retries():
                if status != "FINISHED":
                    run.try_tags({"mlpop.error": _message(error), "mlpop.state": "stopped"})
                _end(run, status)
        except TrackingError as failure:
            logger.error("run %s ended %s, which is not recorded: %s", run.run_id, status, failure)
            return
        if status != "FINISHED" and not hasty:
            _keep_traceback(run, error)


def _end(run: TrackedRun, status: str) -> None:
    # `mlflow run` of MLflow 3.17 writes FAILED over KILLED, so it is said twice
    with translated(f"status of run {run.run_id}"):
        run.try_tags({ENDED_TAG: status})
        run.store.client.set_terminated(run.run_id, status)


def _keep_traceback(run: TrackedRun, error: BaseException) -> None:
    """Store where an error came from that nobody foresaw, if the artifacts can be reached."""
    if not isinstance(error, Exception) or isinstance(error, MlpopError) or not run.answers():
        return
    run.spare_text("".join(traceback.format_exception(error)), "traceback.txt")


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT"
    if isinstance(error, SystemExit):
        if error.code in STOPPED_BY:
            return f"stopped by {STOPPED_BY[int(error.code)]}"
        return f"ended with exit code {error.code}"
    text = str(error)
    if isinstance(error, MlpopError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(tags: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:LONGEST_TAG] for key, value in tags.items()}
