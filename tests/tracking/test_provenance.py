import subprocess
from pathlib import Path

import pytest

from mlpop import __version__
from mlpop.errors import ConfigError
from mlpop.tracking import Store, open_run, record_provenance
from mlpop.tracking.artifacts import fetched, listed
from mlpop.tracking.provenance import installed_packages


def git(folder: Path, *arguments: str) -> None:
    person = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *person, *arguments], check=True, capture_output=True)


@pytest.fixture
def surrounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository with a secret, and mlpop in a virtual environment inside of it."""
    home = tmp_path / "analysis"
    package = home / ".venv" / "lib" / "site-packages" / "mlpop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (home / "token.txt").write_text("nothing\n")
    git(tmp_path, "init", "-q", str(home))
    git(home, "add", "-A", "-f")
    git(home, "commit", "-qm", "first")
    git(home, "remote", "add", "origin", "https://me:password@example.org/analysis.git")
    (home / "token.txt").write_text("SECRET\n")
    monkeypatch.setattr("mlpop.__file__", str(package / "__init__.py"))
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("choice", [None, "mlpop", "none"])
def test_repository_around_an_installation_is_nobody_elses_business(
    store: Store, surrounded: Path, monkeypatch: pytest.MonkeyPatch, choice: str | None
) -> None:
    if choice is not None:
        monkeypatch.setenv("MLPOP_SEND_CODE", choice)
    with open_run("experiment", "code", store=store) as run:
        record_provenance(run)
    tags = store.client.get_run(run.run_id).data.tags
    assert not {key for key in tags if key.startswith(("mlpop.git_", "mlpop.work_"))}
    assert list(listed(store.client, run.run_id, "provenance")) == ["provenance/requirements.txt"]


def test_repository_of_the_working_folder_is_sent_if_asked(
    store: Store, surrounded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLPOP_SEND_CODE", "working-folder")
    with open_run("experiment", "code", store=store) as run:
        record_provenance(run)
    tags = store.client.get_run(run.run_id).data.tags
    assert tags["mlpop.work_dirty"] == "true"
    assert tags["mlpop.work_repository"] == "https://example.org/analysis.git"
    with fetched(store.client, run.run_id, "provenance/working_folder.diff") as path:
        assert "+SECRET" in path.read_text()


def test_own_checkout_says_which_repository_it_is_and_can_keep_its_changes(
    store: Store, surrounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "mlpop").mkdir(parents=True)
    (checkout / "mlpop" / "__init__.py").touch()
    git(tmp_path, "init", "-q", str(checkout))
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "first")
    (checkout / "mlpop" / "__init__.py").write_text("changed = 1\n")
    monkeypatch.setattr("mlpop.__file__", str(checkout / "mlpop" / "__init__.py"))
    for choice, names in (("mlpop", {"uncommitted.diff"}), ("none", set())):
        monkeypatch.setenv("MLPOP_SEND_CODE", choice)
        with open_run("experiment", "code", store=store) as run:
            record_provenance(run)
        tags = store.client.get_run(run.run_id).data.tags
        assert tags["mlpop.git_repository"] == str(checkout)
        assert tags["mlpop.git_dirty"] == "true"
        found = {Path(name).name for name in listed(store.client, run.run_id, "provenance")}
        assert found == names | {"requirements.txt"}
    monkeypatch.setenv("MLPOP_SEND_CODE", "yes")
    with (
        pytest.raises(ConfigError, match="MLPOP_SEND_CODE: must be one of mlpop, none, working"),
        open_run("experiment", "code", store=store) as run,
    ):
        record_provenance(run)


def test_run_says_with_which_code_it_was_made(store: Store) -> None:
    with open_run("experiment", "code", store=store) as run:
        record_provenance(run)
    tags = store.client.get_run(run.run_id).data.tags
    assert tags["mlpop.version"] == __version__
    assert tags["mlpop.python"].startswith("3.")
    with fetched(store.client, run.run_id, "provenance/requirements.txt") as path:
        lines = path.read_text().splitlines()
    assert lines == installed_packages()
    assert any(line.startswith("torch==2.13.0") for line in lines)
