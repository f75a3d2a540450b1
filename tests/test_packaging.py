"""One list of dependencies, and entry points of MLproject that are commands of mlpop."""

import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mlpop import __version__
from mlpop.cli.main import cli
from mlpop.tracking import StatusRow, connect, status

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA: dict[str, Any] = yaml.safe_load((ROOT / "conda.yaml").read_text())
MLPROJECT: dict[str, Any] = yaml.safe_load((ROOT / "MLproject").read_text())


def conda_pip_list() -> list[str]:
    (pip,) = (item["pip"] for item in CONDA["dependencies"] if isinstance(item, dict))
    return list(pip)


def test_version_is_one() -> None:
    assert PROJECT["version"] == __version__


def test_conda_installs_what_pip_installs() -> None:
    assert conda_pip_list() == PROJECT["dependencies"]


def test_every_dependency_is_pinned_and_listed_once() -> None:
    """torch without a pin would be the newest CUDA build; `-e .` would tie all clones to one."""
    pins = [requirement.split("==") for requirement in PROJECT["dependencies"]]
    assert all(len(pin) == 2 for pin in pins)
    names = [name for name, _ in pins]
    assert len(names) == len(set(names))


def test_wheel_holds_every_file_of_the_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    suffixes = {Path(pattern).suffix for pattern in setuptools["package-data"]["mlpop"]}
    files = [path for path in (ROOT / "mlpop").rglob("*.*") if "__pycache__" not in path.parts]
    assert {path.suffix for path in files} - {".py"} <= suffixes


def test_conda_itself_brings_only_python_and_pip() -> None:
    """MLflow's other environment managers drop every other conda dependency."""
    plain = [item for item in CONDA["dependencies"] if isinstance(item, str)]
    assert plain == ["python=3.11", "pip"]
    assert "3.11" in PROJECT["requires-python"]


def test_project_names_one_environment() -> None:
    assert MLPROJECT["name"] == "mlpop"
    assert MLPROJECT["conda_env"] == "conda.yaml"
    assert not {"python_env", "docker_env"} & set(MLPROJECT)


@pytest.mark.parametrize("name", MLPROJECT["entry_points"])
def test_entry_point_is_one_mlpop_command_with_options_that_exist(name: str) -> None:
    point = MLPROJECT["entry_points"][name]
    parameters = point.get("parameters", {})
    words = shlex.split(point["command"])
    assert words[:3] == ["python", "-m", "mlpop"]
    assert words[3] == ("sbi" if name == "main" else name.replace("_", "-"))
    command = cli.commands[words[3]]
    flags, values = words[4::2], words[5::2]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(flags) <= known
    assert values == [f"{{{flag.removeprefix('--')}}}" for flag in flags]
    assert set(parameters) == {flag.removeprefix("--") for flag in flags}
    # `path` would be resolved against the caller's folder, the command runs in the project's
    assert {parameter["type"] for parameter in parameters.values()} == {"string"}
    by_flag = {option: parameter for parameter in command.params for option in parameter.opts}
    for flag in flags:
        default = parameters[flag.removeprefix("--")]["default"]
        assert by_flag[flag].get_default(click.Context(command)) == default
        if flag == "--configuration":
            assert (ROOT / default).is_file()


def test_main_is_sbi() -> None:
    assert MLPROJECT["entry_points"]["main"] == MLPROJECT["entry_points"]["sbi"]


JOB = """
import json, sys, time
from pathlib import Path
from mlpop.tracking import graceful_signals, open_run
with graceful_signals(), open_run("experiment", "job", params={"words": sys.argv[1:]}) as root:
    with open_run("round", "round_00", root.run_id) as child:
        Path("ids.txt").write_text(f"{root.run_id} {child.run_id}")
        while Path("wait").exists():
            time.sleep(0.05)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone with one trivial entry point in place of ours."""
    (tmp_path / "MLproject").write_text(
        "name: demo\n"
        "entry_points:\n"
        "  job:\n"
        "    parameters:\n"
        "      configuration: {type: string, default: my file.json}\n"
        '      resume: {type: string, default: ""}\n'
        '    command: "python job.py --configuration {configuration} --resume {resume}"\n'
    )
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlflow.db").symlink_to("mlruns/mlflow.db")
    return tmp_path


def mlflow_run(project: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    command = ["-m", "mlflow", "run", ".", "-e", "job", "--env-manager", "local", *arguments]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=project,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def runs_of(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect(project).client
    ids = (project / "ids.txt").read_text().split()
    return [client.get_run(run_id) for run_id in ids]


def status_rows(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[StatusRow]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root_id = (project / "ids.txt").read_text().split()[0]
    return status(root_id, store=connect(project))


def wait_until_ended(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if all(row.node.life == "ended" for row in status_rows(project, monkeypatch)):
            return
        time.sleep(0.2)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)


def test_mlflow_run_and_the_command_share_store_and_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = mlflow_run(project, "-P", "extra=1")
    _, messages = process.communicate(timeout=180)
    assert process.returncode == 0, messages
    root, child = runs_of(project, monkeypatch)
    assert (root.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert root.data.params["configuration"] == "'my file.json'"
    assert root.data.params["cfg.words"] == (
        '["--configuration","my file.json","--resume","","--extra","1"]'
    )
    assert root.data.tags["mlflow.project.entryPoint"] == "job"
    assert child.data.tags["mlflow.parentRunId"] == root.info.run_id
    assert (project / "mlruns" / "mlflow.db").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ctrl_c", "sigterm_to_mlflow_run", "sigkill_to_mlflow_run"])
def test_stopped_mlflow_run_leaves_nothing_running(
    project: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (project / "wait").touch()
    process = mlflow_run(project)
    try:
        wait_for(project / "ids.txt")
        if way == "ctrl_c":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM if way.startswith("sigterm") else signal.SIGKILL)
        process.wait(timeout=60)
        wait_until_ended(project, monkeypatch)
        rows = status_rows(project, monkeypatch)
        reason = "stopped by SIGINT" if way == "ctrl_c" else "stopped by SIGTERM"
        found = [(row.node.life, row.node.status, row.node.error) for row in rows]
        assert found == [("ended", "KILLED", reason)] * 2
    finally:
        (project / "wait").unlink()
        if process.stderr is not None:
            process.stderr.close()
