"""The runs of an embedded store, read without MLflow.

To import MLflow and SQLAlchemy takes seconds, in which `mlpop status` could have answered. So the
tables of an sqlite store are read as they are, if they are those of the MLflow that mlpop works
with; any other store is read by MLflow. Nothing is written here.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

REVISIONS = ("dc11669786a5",)
"""Versions of MLflow's tables (`alembic_version`) that are read: those of MLflow 3.17."""

BUSY_SECONDS = 20.0
"""How long to wait for a process that writes [s]; as MLflow does."""


@dataclass(frozen=True)
class RecordedInfo:
    """What the table of runs says of one, named as in MLflow; times in ms since 1970."""

    run_id: str
    run_name: str | None
    status: str
    start_time: int
    end_time: int | None
    artifact_uri: str | None
    experiment_id: str
    lifecycle_stage: str


@dataclass(frozen=True)
class RecordedData:
    """The tags of a run; parameters and metrics are not read."""

    tags: Mapping[str, str]


@dataclass(frozen=True)
class RecordedRun:
    """A run as `mlflow.entities.Run` has it, without parameters, metrics and inputs."""

    info: RecordedInfo
    data: RecordedData


_COLUMNS = (
    "runs.run_uuid, runs.name, runs.status, runs.start_time, runs.end_time, runs.artifact_uri, "
    "runs.experiment_id, runs.lifecycle_stage"
)


def is_readable(database: Path) -> bool:
    """Whether a file is a store whose tables are known."""
    if not database.is_file():
        return False
    try:
        with _open(database) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return [row[0] for row in found] in [[revision] for revision in REVISIONS]


def read_run(database: Path, run_id: str) -> RecordedRun | None:
    """Return a run, deleted or not; None if there is none of this id.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    with _open(database) as connection:
        query = f"SELECT {_COLUMNS} FROM runs WHERE run_uuid = ?"
        return next(iter(_with_tags(connection, query, [run_id])), None)


def read_runs(
    database: Path,
    tags: Mapping[str, str],
    *,
    without_tag: str | None,
    status: str | None,
    experiment_ids: Sequence[str] | None,
    limit: int,
    offset: int,
) -> list[RecordedRun]:
    """Return a page of the runs that are not deleted, newest first, in MLflow's order.

    Args:
        database: the sqlite file.
        tags: tag -> value that they have.
        without_tag: a tag that they do not have.
        status: a condition on the status, such as `!= 'FINISHED'`.
        experiment_ids: the experiments that they are in; by default any that is not deleted.
        limit, offset: the page.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    values: list[str | int] = []
    query = (
        f"SELECT {_COLUMNS} FROM runs JOIN experiments USING (experiment_id) "
        "WHERE runs.lifecycle_stage = 'active' "
    )
    if experiment_ids is None:
        query += "AND experiments.lifecycle_stage = 'active' "
    else:
        query += f"AND runs.experiment_id IN ({', '.join('?' * len(experiment_ids))}) "
        values += map(int, experiment_ids)
    if status is not None:
        query += f"AND runs.status {status} "
    tag = "EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND tags.key = ?"
    for key, value in tags.items():
        query += f"AND {tag} AND tags.value = ?) "
        values += [key, value]
    if without_tag is not None:
        query += f"AND NOT {tag}) "
        values.append(without_tag)
    query += "ORDER BY runs.start_time DESC, runs.run_uuid LIMIT ? OFFSET ?"
    with _open(database) as connection:
        return _with_tags(connection, query, [*values, limit, offset])


def _with_tags(
    connection: sqlite3.Connection, query: str, values: Sequence[str | int]
) -> list[RecordedRun]:
    # one snapshot: a run that ends in between has its status and its tags of the same moment
    connection.execute("BEGIN")
    runs = []
    for run_id, name, status, start, end, artifacts, experiment, stage in connection.execute(
        query, values
    ).fetchall():
        tags = connection.execute("SELECT key, value FROM tags WHERE run_uuid = ?", [run_id])
        runs.append(
            RecordedRun(
                RecordedInfo(
                    *(run_id, name or None, status, start, end, artifacts, str(experiment), stage)
                ),
                RecordedData({key: value or "" for key, value in tags}),
            )
        )
    return runs


@contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{database.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
        yield connection
