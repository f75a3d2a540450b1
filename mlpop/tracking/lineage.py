"""The run tree: what belongs to an experiment, what of it lives, and what is complete.

Every run carries `mlpop.root`, the id of the run at the top of its tree, so that one query finds
a whole tree: MLflow itself records only the parent of a run.
"""

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlpop.config.messages import show
from mlpop.errors import TrackingError
from mlpop.io.embedded_store import RecordedRun, is_readable, read_run, read_runs
from mlpop.io.records import tag_number
from mlpop.tracking.owner import heartbeat_age, is_alive
from mlpop.tracking.run import ENDED_TAG, PARENT_TAG
from mlpop.tracking.store import Store, connect, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    AnyRun = Run | RecordedRun

PAGE = 1000
FIRST_PAGE = 50
Life = Literal["alive", "dead", "ended"]


@dataclass(frozen=True)
class Node:
    """One run of a tree.

    Attributes:
        run_id: its id.
        kind: experiment, round, member, dynamics, ...; empty for a run that is not mlpop's.
        name: its name in MLflow.
        status: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED; how the run ended itself, where
            `mlflow run` has written another status over it.
        life: ended; or, of a run that has not ended, whether its process lives.
        state: the tag `mlpop.state`: simulating, training, testing, complete, stopped.
        round: number of the round, None if it is in none.
        member: number of the ensemble member, None if it is none.
        error: why it ended, empty if it went well.
        started: start time [s since 1970].
        ended: end time [s since 1970], None if it has not ended.
        heartbeat: age of the last heartbeat [s], None if there was none.
        tags: all tags of the run.
        children: the runs nested in it, oldest first.
    """

    run_id: str
    kind: str
    name: str
    status: str
    life: Life
    state: str
    round: int | None
    member: int | None
    error: str
    started: float
    ended: float | None
    heartbeat: float | None
    tags: Mapping[str, str]
    children: "tuple[Node, ...]" = ()

    def walk(self, depth: int = 0) -> "Iterator[tuple[int, Node]]":
        """Yield this run and all below it with their depth, parents first."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True)
class StatusRow:
    """One line of a status table: the run, how deep it is nested, and times in seconds.

    `age` is the time since the start, `duration` the time the run took or takes so far.
    """

    depth: int
    node: Node
    age: float
    duration: float


def find(
    store: Store,
    tags: Mapping[str, str],
    *,
    experiment_ids: Sequence[str] | None = None,
    status: str | None = None,
) -> "list[Run]":
    """Return the runs that have all of these tags, newest first, with all that MLflow knows.

    Args:
        store: the tracking store.
        tags: tag -> value.
        experiment_ids: the MLflow experiments to look in, by default all.
        status: only runs with this status of MLflow.

    Raises:
        TrackingError: the store cannot be read.
    """
    condition = None if status is None else f"= '{status}'"
    return list(_by_mlflow(store, tags, experiment_ids, condition, False, FIRST_PAGE))


def search(
    store: Store,
    tags: Mapping[str, str],
    *,
    experiment_ids: Sequence[str] | None = None,
    status: str | None = None,
    top: bool = False,
    page: int = FIRST_PAGE,
) -> "Iterator[AnyRun]":
    """Yield the runs that have all of these tags, newest first, as they are asked for.

    The store filters, and gives one page after another: a store may hold many thousand runs of
    which the first few are wanted. An embedded store is read without MLflow, and then gives of a
    run what is said of itself and its tags, but no parameters or metrics.

    Args:
        store: the tracking store.
        tags: tag -> value.
        experiment_ids: the MLflow experiments to look in, by default all.
        status: a condition on the status of MLflow, such as `!= 'FINISHED'`.
        top: only runs that are nested in no other.
        page: runs of the first page; later ones grow.

    Raises:
        TrackingError: the store cannot be read.
    """
    database = store.database
    if database is None or not is_readable(database):
        yield from _by_mlflow(store, tags, experiment_ids, status, top, page)
        return
    offset = 0
    while True:
        with translated(f"runs in {store.safe_uri}"):
            batch = read_runs(
                database,
                tags,
                without_tag=PARENT_TAG if top else None,
                status=status,
                experiment_ids=experiment_ids,
                limit=page,
                offset=offset,
            )
        yield from batch
        if len(batch) < page:
            return
        offset, page = offset + page, min(4 * page, PAGE)


def _by_mlflow(
    store: Store,
    tags: Mapping[str, str],
    experiment_ids: Sequence[str] | None,
    status: str | None,
    top: bool,
    page: int,
) -> "Iterator[Run]":
    # MLflow's filters cannot express a value that holds both kinds of quotes
    asked = {key: value for key, value in tags.items() if "'" not in value}
    parts = [f"tags.`{key}` = '{value}'" for key, value in asked.items()]
    if status is not None:
        parts.append(f"attributes.status {status}")
    if top:
        parts.append(f"tags.`{PARENT_TAG}` IS NULL")
    what = f"runs in {store.safe_uri}"
    with translated(what):
        places = list(experiment_ids) if experiment_ids is not None else _experiments(store)
    token = None
    while places:
        with translated(what):
            found = store.client.search_runs(
                places,
                " and ".join(parts),
                max_results=page,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
        for run in found:
            if all(run.data.tags.get(key) == value for key, value in tags.items()):
                yield run
        token, page = found.token, min(4 * page, PAGE)
        if not token:
            return


def root_of(store: Store, run_id: str) -> str:
    """Return the id of the run at the top of the tree that a run belongs to.

    Raises:
        TrackingError: there is no such run.
    """
    run = _run(store, run_id)
    return str(run.data.tags.get("mlpop.root", run_id))


def tree(store: Store, root_id: str, now: float | None = None) -> Node:
    """Return the run `root_id` with all that is nested in it, at any depth.

    Args:
        store: the tracking store.
        root_id: id of the run at the top.
        now: the present [s since 1970], by default the clock.

    Raises:
        TrackingError: there is no such run, or the store cannot be read.
    """
    root = _run(store, root_id)
    place = [root.info.experiment_id]
    runs = search(store, {"mlpop.root": root_id}, experiment_ids=place, page=PAGE)
    below: dict[str, list[AnyRun]] = {}
    for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id)):
        if run.info.run_id != root_id:
            below.setdefault(run.data.tags.get(PARENT_TAG, root_id), []).append(run)
    return _node(root, below, time.time() if now is None else now)


def status(
    run_id: str | None = None,
    *,
    store: Store | None = None,
    now: float | None = None,
    limit: int | None = None,
) -> list[StatusRow]:
    """Return the rows of a status table.

    Args:
        run_id: any run of the tree to show; without it, the runs at the top, newest first.
        store: the tracking store, by default `connect()`.
        now: the present [s since 1970], by default the clock.
        limit: so many runs at the top at most.

    Raises:
        TrackingError: there is no such run, or the store cannot be read.
    """
    store = store or connect()
    now = time.time() if now is None else now
    if run_id is not None:
        nodes = list(tree(store, root_of(store, run_id), now).walk())
    else:
        page = PAGE if limit is None else limit
        tops = itertools.islice(search(store, {"mlpop.schema": "1"}, top=True, page=page), limit)
        nodes = [(0, _node(run, {}, now)) for run in tops]
    return [
        StatusRow(depth, node, now - node.started, (node.ended or now) - node.started)
        for depth, node in nodes
    ]


def _run(store: Store, run_id: str) -> "AnyRun":
    """Return a run, wherever it is in the store.

    Raises:
        TrackingError: there is no such run, or the store cannot be read.
    """
    database = store.database
    with translated(f"run {run_id} in {store.safe_uri}"):
        if database is None or not is_readable(database):
            return store.client.get_run(run_id)
        run = read_run(database, run_id)
    if run is None:
        raise TrackingError(
            f"run {show(run_id)[1:-1]} in {store.safe_uri}: no such run; `mlpop status` shows the "
            "whole ids of those that are there"
        )
    return run


def _node(run: "AnyRun", below: "Mapping[str, list[AnyRun]]", now: float) -> Node:
    info, tags = run.info, run.data.tags
    life = _life(info.status, tags, now)
    return Node(
        run_id=info.run_id,
        kind=tags.get("mlpop.kind", ""),
        name=info.run_name or "",
        status=info.status if life != "ended" else tags.get(ENDED_TAG) or info.status,
        life=life,
        state=tags.get("mlpop.state", ""),
        round=tag_number(tags, "mlpop.round"),
        member=tag_number(tags, "mlpop.member"),
        error=tags.get("mlpop.error", ""),
        started=info.start_time / 1000,
        ended=info.end_time / 1000 if info.end_time and info.status != "RUNNING" else None,
        heartbeat=heartbeat_age(tags, now),
        tags=dict(tags),
        children=tuple(_node(child, below, now) for child in below.get(info.run_id, ())),
    )


def _life(status: str, tags: Mapping[str, str], now: float) -> Life:
    if status not in ("RUNNING", "SCHEDULED"):
        return "ended"
    return "alive" if is_alive(tags, now) else "dead"


def _experiments(store: Store) -> list[str]:
    ids: list[str] = []
    token = None
    while True:
        page = store.client.search_experiments(max_results=PAGE, page_token=token)
        ids += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            return ids


@dataclass(frozen=True)
class RecordedDataset:
    """A dataset that is an input of a run: path or URI of its index file, and its digest."""

    uri: str
    digest: str


def recorded_datasets(client: "MlflowClient", run_id: str, name: str) -> list[RecordedDataset]:
    """Return the inputs of a run that `TrackedRun.log_dataset` recorded under a name.

    Raises:
        TrackingError: the store cannot be read.
    """
    with translated(f"inputs of run {run_id}"):
        inputs = client.get_run(run_id).inputs
        sources = [
            json.loads(item.dataset.source)
            for item in (inputs.dataset_inputs if inputs else ())
            if item.dataset.name == name
        ]
        return [RecordedDataset(source["uri"], source["digest"]) for source in sources]
