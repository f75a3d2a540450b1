"""A project that is moved, renamed or copied has its artifacts in its new place."""

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from mlpop.errors import TrackingError
from mlpop.io.moved_store import bring_along, refuse_stale

NAMES = ["project", "my project", "projet é", "a#b", "100%"]
Lives = Callable[[Mapping[str, str]], bool]


def dead(_: Mapping[str, str]) -> bool:
    return False


def make(folder: Path, places: Mapping[str, str] | None = None) -> Path:
    """Make what of MLflow's database says where artifacts are: experiments 0 and 1, one run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlruns/1/r/artifacts").mkdir(parents=True)
    (folder / "mlruns/1/r/artifacts/config.json").write_text("{}")
    locations = {"0": f"{folder}/mlruns/0", "1": f"{folder}/mlruns/1"} | dict(places or {})
    database = folder / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(
            "CREATE TABLE experiments (experiment_id INTEGER, name TEXT, artifact_location TEXT);"
            "CREATE TABLE runs (run_uuid TEXT, experiment_id INTEGER, status TEXT,"
            " artifact_uri TEXT);"
            "CREATE TABLE tags (run_uuid TEXT, key TEXT, value TEXT);"
        )
        for number, location in locations.items():
            row = (number, f"e{number}", location)
            connection.execute("INSERT INTO experiments VALUES (?, ?, ?)", row)
        place = f"{locations['1']}/r/artifacts"
        connection.execute("INSERT INTO runs VALUES ('r', 1, 'RUNNING', ?)", (place,))
        connection.execute("INSERT INTO tags VALUES ('r', 'mlpop.owner', 'me')")
    return database


def places(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT artifact_location FROM experiments UNION ALL SELECT artifact_uri FROM runs"
        )
        return [row[0] for row in rows]


def at(folder: Path) -> list[str]:
    return [f"{folder}/mlruns/0", f"{folder}/mlruns/1", f"{folder}/mlruns/1/r/artifacts"]


@pytest.mark.parametrize("name", NAMES)
def test_moved(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "after é#")
    database = tmp_path / "after é#" / "mlflow.db"
    bring_along(database, dead)
    assert places(database) == at(tmp_path / "after é#")
    (told,) = caplog.messages  # of the experiment with a run, not of MLflow's empty one
    assert "moved or copied" in told
    assert f"{tmp_path / 'after é#'}/mlruns/1" in told
    assert not (tmp_path / name).exists()
    caplog.clear()
    bring_along(database, dead)
    assert caplog.text == ""


@pytest.mark.parametrize("name", NAMES)
def test_copied_and_the_original_stays(name: str, tmp_path: Path) -> None:
    original = make(tmp_path / name)
    shutil.copytree(tmp_path / name, tmp_path / "copy")
    for database, folder in ((tmp_path / "copy/mlflow.db", "copy"), (original, name)):
        bring_along(database, dead)
        assert places(database) == at(tmp_path / folder)
    assert places(original) == at(tmp_path / name)


def test_another_project_at_the_old_place_is_not_written_into(tmp_path: Path) -> None:
    make(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    make(tmp_path / "before")
    bring_along(tmp_path / "after/mlflow.db", dead)
    assert places(tmp_path / "after/mlflow.db") == at(tmp_path / "after")


def test_same_project_by_a_link_is_left_alone(tmp_path: Path) -> None:
    database = make(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    bring_along(tmp_path / "link/mlflow.db", dead)
    assert places(database) == at(tmp_path / "real")


def test_database_in_mlruns_itself(tmp_path: Path) -> None:
    make(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    database = tmp_path / "after/mlruns/mlflow.db"
    (tmp_path / "after/mlflow.db").rename(database)
    (tmp_path / "after/mlflow.db").symlink_to(Path("mlruns/mlflow.db"))
    bring_along(tmp_path / "after/mlflow.db", dead)
    assert places(database) == at(tmp_path / "after")


@pytest.mark.parametrize(
    "location", ["s3://bucket/mlruns/1", "mlflow-artifacts:/1", "/data/results/1", "file:///x/y/1"]
)
def test_places_that_the_user_chose_stay(location: str, tmp_path: Path) -> None:
    make(tmp_path / "before", {"1": location})
    (tmp_path / "before").rename(tmp_path / "after")
    bring_along(tmp_path / "after/mlflow.db", dead)
    assert places(tmp_path / "after/mlflow.db")[1:] == [location, f"{location}/r/artifacts"]


def test_place_as_a_uri_stays_one(tmp_path: Path) -> None:
    before = tmp_path / "be fore"
    make(before, {"1": (before / "mlruns/1").as_uri()})
    before.rename(tmp_path / "af ter")
    bring_along(tmp_path / "af ter/mlflow.db", dead)
    new = (tmp_path / "af ter/mlruns/1").as_uri()
    assert places(tmp_path / "af ter/mlflow.db")[1:] == [new, f"{new}/r/artifacts"]


def test_nothing_is_changed_while_somebody_works_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    database = tmp_path / "after/mlflow.db"
    asked: list[Mapping[str, str]] = []

    def lives(tags: Mapping[str, str]) -> bool:
        asked.append(tags)
        return True

    bring_along(database, lives)
    assert asked == [{"mlpop.owner": "me"}]
    assert places(database) == at(tmp_path / "before")
    assert "run r is being worked on" in caplog.text
    with pytest.raises(TrackingError, match="not the folder of this project any more"):
        refuse_stale(places(database)[1], database)
    refuse_stale(str(tmp_path / "after/mlruns/1"), database)
    refuse_stale("s3://bucket/1", database)
    refuse_stale(places(database)[1], None)
