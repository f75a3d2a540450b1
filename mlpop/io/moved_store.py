"""A store that travels with its project: artifacts are where the database is.

MLflow writes the absolute place of every artifact into its database. When the project's folder is
moved, renamed or copied they would be looked for, and new ones written, at the old place.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlpop.errors import TrackingError

logger = logging.getLogger(__name__)

MLRUNS = "mlruns"
COLUMNS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Table and column of every place below that of an experiment."""


@dataclass(frozen=True)
class _Experiment:
    id: str
    name: str
    location: str
    runs: int


def artifacts_beside(database: Path) -> Path:
    """Return where the artifacts of an embedded store are: `mlruns` beside its database."""
    folder = database.parent
    return folder if folder.name == MLRUNS else folder / MLRUNS


def bring_along(database: Path, lives: Callable[[Mapping[str, str]], bool]) -> None:
    """Let a store that was moved or copied have its artifacts where it is now; say so.

    Only places of the form `.../mlruns/<experiment>` are changed, which mlpop and MLflow make,
    and only if the old folder is gone, or belongs to another copy of the database.

    Args:
        database: of the store.
        lives: whether the process of a run with these tags lives: nothing is changed then.

    Raises:
        TrackingError: the database refuses.
    """
    try:
        with closing(sqlite3.connect(database.resolve(), timeout=60.0)) as connection:
            stale = list(_stale(connection, database))
            if not stale:
                return
            run_id = _living_run(connection, stale, lives)
            if run_id is not None:
                logger.warning(
                    "%s: was moved, or is seen from another place, while run %s is being worked "
                    "on; artifacts below %s are not found from here until it has ended",
                    database,
                    run_id,
                    local_folder(stale[0].location),
                )
                return
            with connection:
                for experiment in stale:
                    _relocate(connection, experiment, _place(database, experiment))
    except sqlite3.Error as error:
        raise TrackingError(f"{database}: {error}") from error
    for experiment in stale:
        if not experiment.runs:
            continue  # such as MLflow's own 'Default': there was nothing to bring along
        new = artifacts_beside(database) / experiment.id
        logger.warning(
            "the project was moved or copied: artifacts of experiment '%s' are now in %s, not in "
            "%s%s",
            experiment.name,
            new,
            local_folder(experiment.location),
            "" if new.is_dir() else ", but that folder does not exist: bring it along",
        )


def refuse_stale(location: str, database: Path | None) -> None:
    """Refuse to write artifacts below the folder where a project was before it was moved.

    Raises:
        TrackingError: saying what to do.
    """
    if database is None or not _is_stale(location, database):
        return
    raise TrackingError(
        f"artifacts are expected below {local_folder(location)}, which is not the folder of this "
        f"project any more, and a run there is still being worked on; end it: the next command "
        f"then lets the store have its artifacts in {artifacts_beside(database)}"
    )


def _stale(connection: sqlite3.Connection, database: Path) -> Iterator[_Experiment]:
    rows = connection.execute(
        "SELECT experiment_id, name, artifact_location, (SELECT count(*) FROM runs "
        "WHERE runs.experiment_id = experiments.experiment_id) FROM experiments"
    )
    for number, name, location, runs in rows:
        if location and _is_stale(location, database):
            yield _Experiment(str(number), str(name), str(location), runs)


def _is_stale(location: str, database: Path) -> bool:
    old = local_folder(location)
    if old is None or old.parent.name != MLRUNS:
        return False
    here = artifacts_beside(database) / old.name
    if old == here or old.parent.resolve() == here.parent.resolve():
        return False
    others = (old.parent.parent / database.name, old.parent / database.name)
    copies = [other for other in others if other.exists()]
    if copies:
        # the database there is another one, of which this is a copy, or this one by another path
        return not any(other.samefile(database) for other in copies)
    return not old.exists() and (here.exists() or not old.parent.exists())


def _relocate(connection: sqlite3.Connection, experiment: _Experiment, new: str) -> None:
    old = experiment.location
    connection.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
        (new, experiment.id),
    )
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    for table, column in COLUMNS:
        if table in tables:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old) + 1, f"{old}/"),
            )


def _living_run(
    connection: sqlite3.Connection,
    experiments: list[_Experiment],
    lives: Callable[[Mapping[str, str]], bool],
) -> str | None:
    marks = ", ".join("?" * len(experiments))
    rows = connection.execute(
        "SELECT runs.run_uuid, tags.key, tags.value FROM runs JOIN tags USING (run_uuid) "
        f"WHERE runs.status = 'RUNNING' AND runs.experiment_id IN ({marks})",
        [experiment.id for experiment in experiments],
    )
    tags: dict[str, dict[str, str]] = {}
    for run_id, key, value in rows:
        tags.setdefault(run_id, {})[key] = value
    return next((run_id for run_id, values in tags.items() if lives(values)), None)


def _place(database: Path, experiment: _Experiment) -> str:
    new = artifacts_beside(database) / experiment.id
    return new.as_uri() if experiment.location.startswith("file:") else str(new)


def local_folder(location: str) -> Path | None:
    """Return the folder that a place on this machine names, None of any other."""
    if location.startswith("/"):
        return Path(location)
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return None
