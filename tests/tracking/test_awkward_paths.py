"""The embedded store lies in its project, whatever the name of the folder is."""

from pathlib import Path

import pytest

from mlpop.tracking import open_run

AWKWARD = ["my project", "josé", "a#b", "50 % off", "what?", "a%20b", "a+b&c=d", "日本", "it's"]


@pytest.mark.parametrize("name", AWKWARD)
def test_the_store_lies_in_the_project_whatever_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    project = tmp_path / "parent" / name
    project.mkdir(parents=True)
    (project / "MLproject").write_text("name: awkward")
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLPOP_CACHE_DIR", str(tmp_path.parent / f"{tmp_path.name}_cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # nothing can be made beside the project
    with open_run("sbi", "awkward") as run:
        (project / "note.txt").write_text("note")
        run.send(project / "note.txt")
    assert [path.name for path in (tmp_path / "parent").iterdir()] == [name]
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]
    with sqlite3.connect(project / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)
    assert list(project.glob("mlruns/*/*/artifacts/note.txt"))
    assert run.store.database == project / "mlflow.db"
