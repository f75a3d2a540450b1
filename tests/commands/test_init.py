"""A project folder of one's own: whole, one truth with the checkout, never over other files."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mlpop.cli.main import cli
from mlpop.commands.init import init_project
from mlpop.errors import DataError

ROOT = Path(__file__).parents[2]


def texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_project_holds_what_the_checkout_ships(tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    written = init_project(folder)
    assert all(path.is_file() for path in written)
    assert (folder / "MLproject").read_text() == (ROOT / "MLproject").read_text()
    shipped = texts(ROOT / "experiments")
    assert (table := texts(folder / "experiments").pop("README.md")).count("\n| `") > 15
    assert "](" not in table
    assert "`docs/inference.md` of mlpop's repository" in table
    assert texts(folder / "experiments") == shipped | {"README.md": table}
    conda = yaml.safe_load((folder / "conda.yaml").read_text())
    *pins, mlpop = conda["dependencies"][-1]["pip"]
    checkout = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert pins == checkout["dependencies"][-1]["pip"]
    assert mlpop.startswith(("mlpop==", "mlpop @ "))


def test_shipped_experiment_is_accepted_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = CliRunner()
    done = runner.invoke(cli, ["init", str(tmp_path / "p")])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    commands = [line.partition("  #")[0].strip() for line in lines if "  #" in line]
    readme = (ROOT / "README.md").read_text()
    assert commands[0] == "mlpop sbi -c experiments/smoke.json"
    assert commands[1].startswith("mlflow run . -e sbi")
    assert commands[1] in readme
    monkeypatch.chdir(tmp_path / "p")
    from mlpop.config.files.sbi import SbiConfig

    for path in Path("experiments").glob("*.json"):
        values = json.loads(path.read_text())
        if "trainer" in values and "prior_ranges" in values:
            assert SbiConfig.parse(values, str(path)).name == path.stem


def test_what_runs_leave_is_ignored_by_git(tmp_path: Path) -> None:
    init_project(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    left = ("mlflow.db", "mlflow.db.lock", "mlruns/1/a", "output/models/a", "data/a.csv")
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = ["git", "status", "--porcelain", "--untracked-files=all"]
    told = subprocess.run(listed, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "experiments/main.json" in told
    assert not [name for name in left if name in told]


@pytest.mark.parametrize("name", ["notes.txt", ".git", "MLproject"])
def test_folder_with_files_stays_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        init_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        init_project(tmp_path / "p")
