"""What is read of an embedded store without MLflow is what MLflow itself reads."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlpop.errors import TrackingError
from mlpop.io.embedded_store import is_readable, read_run, read_runs
from mlpop.tracking import Store, connect_to_read, find, open_run, tree
from mlpop.tracking.artifacts import local_path
from mlpop.tracking.lineage import search
from mlpop.tracking.run import PARENT_TAG


@pytest.fixture(scope="module")
def filled(session_store: Store, store_folder: Path) -> Iterator[Store]:
    """A store with runs that ended in every way, nested ones, deleted ones, odd tags."""
    client = session_store.client
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store_folder)
        place = client.create_experiment("embedded")
        gone = client.create_experiment("embedded, deleted")
        now = int(time.time() * 1000)
        for number in range(9):
            tags = {"kind": ["it's", 'a "quoted"', "plain"][number % 3], "all": "yes"}
            if number % 4 == 3:
                tags[PARENT_TAG] = "0" * 32
            # two of each start at the same moment
            run = client.create_run(place, now + number // 2, tags, f"run_{number}")
            if number % 3:
                client.set_terminated(run.info.run_id, ["", "FINISHED", "KILLED"][number % 3])
        client.delete_run(run.info.run_id)
        client.create_run(gone, tags={"all": "yes"})
        client.delete_experiment(gone)
        yield session_store


def ids_of_mlflow(store: Store, condition: str) -> list[str]:
    places = [e.experiment_id for e in store.client.search_experiments()]
    runs = store.client.search_runs(places, condition, order_by=["attributes.start_time DESC"])
    return [run.info.run_id for run in runs]


@pytest.mark.parametrize(
    ("tags", "status", "top", "condition"),
    [
        ({"all": "yes"}, None, False, "tags.`all` = 'yes'"),
        ({"all": "yes"}, None, True, f"tags.`all` = 'yes' and tags.`{PARENT_TAG}` IS NULL"),
        ({"all": "yes"}, "!= 'FINISHED'", False, "tags.`all` = 'yes' and status != 'FINISHED'"),
        ({"all": "yes"}, "= 'KILLED'", True, "tags.`all` = 'yes' and status = 'KILLED'"),
        ({"kind": 'a "quoted"', "all": "yes"}, None, False, "tags.`kind` = 'a \"quoted\"'"),
        ({"kind": "it's"}, None, False, 'tags.`kind` = "it\'s"'),
        ({"all": "no"}, None, False, "tags.`all` = 'no'"),
    ],
)
def test_search_gives_what_mlflow_gives(
    filled: Store, tags: dict[str, str], status: str | None, top: bool, condition: str
) -> None:
    expected = ids_of_mlflow(filled, condition)
    if top:
        nested = {r.info.run_id for r in find(filled, {PARENT_TAG: "0" * 32})}
        expected = [run_id for run_id in expected if run_id not in nested]
    found = [run.info.run_id for run in search(filled, tags, status=status, top=top, page=2)]
    assert found == expected
    assert bool(found) == ("no" not in tags.values())


def test_a_run_is_read_as_by_mlflow(filled: Store) -> None:
    database = filled.database
    assert database is not None
    for run in find(filled, {"all": "yes"}):
        theirs = filled.client.get_run(run.info.run_id)
        mine = read_run(database, run.info.run_id)
        assert mine is not None
        assert dict(mine.data.tags) == theirs.data.tags
        for name in vars(mine.info):
            assert getattr(mine.info, name) == getattr(theirs.info, name), name
    assert read_run(database, "f" * 32) is None


def test_pages_join(filled: Store) -> None:
    database = filled.database
    assert database is not None

    def page(limit: int, offset: int) -> list[str]:
        runs = read_runs(
            database,
            {"all": "yes"},
            without_tag=None,
            status=None,
            experiment_ids=None,
            limit=limit,
            offset=offset,
        )
        return [run.info.run_id for run in runs]

    assert page(3, 0) + page(3, 3) + page(3, 6) == page(100, 0)
    assert len(page(100, 0)) == 8


def test_the_tables_of_this_mlflow_are_known(store: Store) -> None:
    """After an upgrade of MLflow: look at its tables, then add their version to `REVISIONS`."""
    assert store.database is not None
    assert is_readable(store.database)


@pytest.mark.parametrize("content", [None, b"", b"no database", b"SQLite format 3\x00"])
def test_other_files_are_left_to_mlflow(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mlflow.db"
    if content is not None:
        path.write_bytes(content)
    assert not is_readable(path)
    assert (path.read_bytes() if content is not None else None) == content


def test_tables_of_another_mlflow_are_left_to_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_run("experiment", "by MLflow", store=store) as run:
        pass
    direct = [r.info.run_id for r in find(store, {"mlpop.name": "by MLflow"})]
    monkeypatch.setattr("mlpop.io.embedded_store.REVISIONS", ("0",))
    assert store.database is not None
    assert not is_readable(store.database)
    assert [r.info.run_id for r in find(store, {"mlpop.name": "by MLflow"})] == direct
    assert connect_to_read().client is not None
    assert tree(store, run.run_id).status == "FINISHED"


def test_a_reading_store_becomes_a_whole_one(store: Store) -> None:
    with open_run("experiment", "late", store=store) as run:
        store.client.log_text(run.run_id, "text", "folder/file.txt")
    late = connect_to_read()
    assert late.uri == store.uri
    assert tree(late, run.run_id).name == "late"
    path = local_path(late.client, run.run_id, "folder/file.txt")
    assert path is not None
    assert path == local_path(store.client, run.run_id, "folder/file.txt")
    assert path.read_text() == "text"
    assert late.client.get_run(run.run_id).info.run_name == "late"
    with pytest.raises(TrackingError, match="No such artifact"):
        local_path(late.client, run.run_id, "folder/other.txt")
    with pytest.raises(TrackingError, match="would leave the folder"):
        local_path(late.client, run.run_id, "../file.txt")


def test_a_link_out_of_the_artifacts_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("mine")
    with open_run("experiment", "link", store=store) as run:
        store.client.log_text(run.run_id, "text", "file.txt")
    file = local_path(store.client, run.run_id, "file.txt")
    assert file is not None
    (file.parent / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(TrackingError, match="leads out of its folder"):
        local_path(store.client, run.run_id, "link.txt")


def test_a_store_that_is_being_written_is_read(store: Store) -> None:
    """A writer's open transaction does not stop a reader, and is not seen by it."""
    assert store.database is not None
    with open_run("experiment", "busy", store=store) as run:
        pass
    with closing(sqlite3.connect(store.database)) as other:
        other.execute("UPDATE runs SET name = 'changed' WHERE run_uuid = ?", [run.run_id])
        assert tree(store, run.run_id).name == "busy"
        other.rollback()


def test_status_and_resume_do_not_import_mlflow(
    store: Store, child_environment: dict[str, str]
) -> None:
    with open_run("experiment", "light", store=store):
        pass
    for arguments in (["status"], ["sbi", "--resume", "last"]):
        code = (
            "import sys\n"
            f"sys.argv = ['mlpop', *{arguments!r}]\n"
            "from mlpop.cli.main import main\n"
            "try:\n    main()\n"
            "except SystemExit as end:\n    sys.stderr.write(f'code {end.code}')\n"
            "heavy = {'mlflow', 'sqlalchemy', 'torch', 'sbi', 'pandas', 'scipy', 'numba'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment
        )
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
        if arguments == ["status"]:
            assert "light" in done.stdout
        else:
            assert "no unfinished experiment run" in done.stderr
