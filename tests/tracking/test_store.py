import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from mlpop.errors import TrackingError
from mlpop.tracking import (
    Store,
    check_artifacts,
    connect,
    connect_to_read,
    open_run,
    project_root,
)
from mlpop.tracking.address import resolve_uri, sqlite_file
from mlpop.tracking.store import few_retries, translated

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone: MLproject, an empty mlruns/ and the committed link."""
    (tmp_path / "MLproject").touch()
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlflow.db").symlink_to("mlruns/mlflow.db")
    (tmp_path / "deep" / "inside").mkdir(parents=True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path / "deep" / "inside")
    return tmp_path


def test_project_root_is_the_folder_with_mlproject(project: Path, tmp_path: Path) -> None:
    assert project_root() == project
    assert project_root(project / "deep") == project


def test_without_a_project_the_root_is_the_working_directory(tmp_path: Path) -> None:
    assert project_root(tmp_path) == tmp_path


def test_committed_link_leads_into_mlruns() -> None:
    link = ROOT / "mlflow.db"
    assert link.is_symlink()
    assert link.readlink() == Path("mlruns/mlflow.db")
    assert (ROOT / "mlruns").is_dir()


def test_uri_comes_from_the_environment_first(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_uri(project) == f"sqlite:///{project}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve_uri(project) == "http://server:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///sub/my runs.db")
    assert resolve_uri(project) == f"sqlite:///{project}/deep/inside/sub/my runs.db"
    assert sqlite_file(resolve_uri(project)) == project / "deep/inside/sub/my runs.db"


@pytest.fixture
def other_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second project, beside `project`."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "MLproject").touch()
    return folder


@pytest.mark.parametrize("how", ["start", "working directory"])
def test_second_project_of_a_process_has_a_store_of_its_own(
    project: Path, other_project: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    import mlflow

    stores = []
    for folder in (project, other_project, project):
        monkeypatch.chdir(project if how == "start" else folder)
        stores.append(connect(folder if how == "start" else None))
        assert "MLFLOW_TRACKING_URI" not in os.environ
        assert mlflow.get_tracking_uri() == stores[-1].uri
        with open_run("experiment", folder.name, store=stores[-1]):
            pass
    assert [store.database for store in stores] == [
        folder / "mlflow.db" for folder in (project, other_project, project)
    ]
    for store, names in ((stores[0], [project.name] * 2), (stores[1], [other_project.name])):
        runs = store.client.search_runs(["0", "1"])
        assert [run.info.run_name for run in runs] == names
        places = {run.info.artifact_uri.removeprefix("file://") for run in runs}
        assert all(Path(place).is_relative_to(store.root / "mlruns") for place in places)


@pytest.mark.parametrize("by", ["variable", "mlflow"])
def test_store_that_the_user_names_is_that_of_every_project(
    project: Path, other_project: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    import mlflow

    connect(project)
    named = f"sqlite:///{other_project / 'named.db'}"
    if by == "variable":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    else:
        mlflow.set_tracking_uri(named)
    try:
        assert [connect(folder).uri for folder in (project, other_project)] == [named] * 2
        assert os.environ["MLFLOW_TRACKING_URI"] == named
    finally:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")


def test_store_to_read_stays_that_of_its_project(
    project: Path, other_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect().client.create_experiment("mine")
    reading = connect_to_read()
    monkeypatch.chdir(other_project)
    assert reading.client.get_experiment_by_name("mine") is not None
    assert not list(other_project.glob("*.db"))


def test_four_processes_create_the_embedded_store_at_once(project: Path) -> None:
    """Without a lock all of them fail and the database stays broken."""
    code = """
import os, mlflow
from mlpop.tracking import open_run
reading, writing = os.pipe()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        with open_run("experiment", "race") as run:
            run.send_json("a.json", 1)
        os._exit(0)
    children.append(child)
os.close(writing)
print([os.waitpid(child, 0)[1] for child in children])
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[0, 0, 0, 0]\n", done.stderr
    store = connect()
    assert store.database == project / "mlflow.db"
    assert (project / "mlflow.db").is_symlink()
    assert (project / "mlruns" / "mlflow.db").is_file()
    assert not (project / "deep/inside/mlruns").exists()
    experiment = store.client.get_experiment_by_name("race")
    runs = store.client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    for run in runs:
        place = Path(run.info.artifact_uri.removeprefix("file://"))
        assert place.is_relative_to(project / "mlruns")
        assert (place / "a.json").is_file()


def test_experiment_of_the_environment_wins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    other = store.experiment_id("another")
    assert store.experiment_id("another") == other
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert store.experiment_id("mine") == other
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    assert store.experiment_id("mine") == "0"


def test_deleted_experiment_is_explained(store: Store) -> None:
    place = store.experiment_id("gone")
    store.client.delete_experiment(place)
    with pytest.raises(TrackingError, match=f"'gone' .* is deleted; .* restore -x {place}"):
        store.experiment_id("gone")


def test_link_checked_out_as_text_is_explained(project: Path) -> None:
    (project / "mlflow.db").unlink()
    (project / "mlflow.db").write_text("mlruns/mlflow.db")
    with pytest.raises(TrackingError, match="not an sqlite database .* delete it"):
        connect()


def test_half_created_database_is_explained(project: Path) -> None:
    import sqlite3

    with sqlite3.connect(project / "mlruns" / "mlflow.db") as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("create table experiments (experiment_id integer)")
    with pytest.raises(TrackingError, match=r"mlflow.db: cannot be opened .* delete it"):
        connect()


def test_database_whose_creation_fails_is_not_left_half_made(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("create table secrets (name varchar(32))")
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("mlpop.tracking.store._open_sqlite", full)
        with pytest.raises(TrackingError, match=r"mlflow.db: cannot be created: .*disk is full;"):
            connect()
    assert not (project / "mlruns" / "mlflow.db").exists()
    assert connect().client.search_experiments()


def test_read_only_store_is_explained(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write anywhere, so the permission itself is simulated
    monkeypatch.setattr("os.access", lambda path, mode: "mlruns" not in str(path))
    with pytest.raises(TrackingError, match="is not writable"):
        connect()


def test_absent_server_is_an_error_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(TrackingError, match=f"http://127.0.0.1:{port}"):
        connect()
    assert time.monotonic() - start < 15
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_overlapping_blocks_of_few_retries_restore_the_first_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    monkeypatch.setenv(name, "5")
    first, second = few_retries(), few_retries()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.environ[name] == "2"
    second.__exit__(None, None, None)
    assert os.environ[name] == "5"


def test_artifact_check_leaves_nothing_behind(store: Store) -> None:
    with open_run("experiment", "preflight", store=store) as run:
        check_artifacts(store, run.experiment_id)
    location = store.client.get_experiment(run.experiment_id).artifact_location
    folder = Path(location.removeprefix("file://"))
    assert folder.is_dir()
    assert not list(folder.glob("preflight-*"))


def test_artifact_check_finds_a_place_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    place = store.client.create_experiment("blocked", artifact_location=str(blocked / "sub"))
    with pytest.raises(TrackingError, match=f"artifacts of experiment {place}"):
        check_artifacts(store, place)


def test_failure_of_the_database_is_one_sentence(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    store = connect()
    experiment = store.experiment_id("one sentence")
    run = store.client.create_run(experiment)
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as connection, connection:
        connection.execute("DROP TABLE tags")
    capfd.readouterr()
    sentence = rf"^the run: {store.database}: \(sqlite3.OperationalError\) no such table: tags$"
    with pytest.raises(TrackingError, match=sentence), translated("the run"):
        store.client.set_tag(run.info.run_id, "mlflow.note.content", "text")
    assert capfd.readouterr() == ("", "")
