"""One list of dependencies, and entry points of MLproject that are commands of mlpop."""

import ast
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlpop import __version__
from mlpop.cli.main import cli
from mlpop.cli.options import file_of
from mlpop.tracking import StatusRow, connect, status

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA: dict[str, Any] = yaml.safe_load((ROOT / "conda.yaml").read_text())
MLPROJECT: dict[str, Any] = yaml.safe_load((ROOT / "MLproject").read_text())


def conda_pip_list() -> list[str]:
    (pip,) = (item["pip"] for item in CONDA["dependencies"] if isinstance(item, dict))
    return list(pip)


def lock() -> dict[str, str]:
    """Name -> version of the set that CI and the README install."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins)
    assert len(pins) == len({name for name, _ in pins})
    return {canonicalize_name(name): version for name, version in pins}


def ranges() -> list[Requirement]:
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    found = [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]
    return [requirement for requirement in found if requirement.name != "mlpop"]


def test_version_has_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__


def test_lock_lies_within_the_ranges() -> None:
    pins = lock()
    for requirement in ranges():
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_every_range_has_a_lowest_version() -> None:
    for requirement in ranges():
        operators = {part.operator for part in requirement.specifier}
        assert operators & {">=", "=="}, requirement


def test_conda_installs_what_the_lock_says() -> None:
    pins = [line.split("==") for line in conda_pip_list()]
    assert {canonicalize_name(name): version for name, version in pins}.items() <= lock().items()
    named = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert named <= {canonicalize_name(name) for name, _ in pins}


def test_what_is_installed_is_in_the_lock() -> None:
    """Else the lock is older than the ranges: run .ci/lock.py."""
    pins = lock()
    for requirement in ranges():
        assert canonicalize_name(requirement.name) in pins
        assert requirement.specifier.contains(distribution(requirement.name).version)


@pytest.mark.parametrize("text", ["README.md", ".ci/run"])
def test_commands_install_the_lock(text: str) -> None:
    lines = (ROOT / text).read_text().splitlines()
    commands = [line for line in lines if "-m venv" in line]
    assert commands
    assert all("pip install -c requirements.lock -e" in line for line in commands)


def test_every_import_is_a_named_requirement() -> None:
    """What arrives only through others would go with them.

    pydantic-core is half of pydantic, which asks for one version of it and documents its imports.
    """
    named = {canonicalize_name(requirement.name) for requirement in ranges()}
    named |= {"mlpop", "pydantic-core"}
    homes = packages_distributions()
    for path in (ROOT / "mlpop").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [str(node.module)]
            else:
                continue
            for module in {name.partition(".")[0] for name in modules}:
                if module in sys.stdlib_module_names:
                    continue
                found = {canonicalize_name(name) for name in homes[module]}
                assert found & named, f"{path}: {module} ({found}) is not in pyproject.toml"


def test_wheel_holds_every_file_of_the_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = setuptools["package-data"]["mlpop"]
    package = ROOT / "mlpop"
    held = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*.*") if "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py" and path.is_file()} <= held
    assert package / "project" / "experiments" / "main.json" in held


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
            assert (ROOT / file_of(Path(default))).is_file()


def test_main_is_sbi() -> None:
    assert MLPROJECT["entry_points"]["main"] == MLPROJECT["entry_points"]["sbi"]


@pytest.mark.slow
def test_wheel_works_outside_of_the_checkout(tmp_path: Path) -> None:
    """A project made by the installed wheel runs an experiment and a command without one."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, project = tmp_path / "site", tmp_path / "project"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(site)

    def mlpop(*words: str, cwd: Path) -> str:
        command = [sys.executable, "-m", "mlpop", *words]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import mlpop; print(mlpop.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(site))
    mlpop("init", str(project), cwd=tmp_path)
    mlpop("sbi", "--configuration", "experiments/smoke.json", cwd=project)
    assert "FINISHED" in mlpop("status", cwd=project)
    assert json.loads(mlpop("schema", "sbi", cwd=project))["properties"]


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
