"""Code of the user that raises, ends its process or changes the folder: one message, no end."""

import os
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from numpy.random import SeedSequence

from mlpop.config import allowed_modules
from mlpop.config.allowed_modules import VARIABLE
from mlpop.errors import ConfigError, SimulationFailed, Stopped
from mlpop.networks.registry import NETWORKS
from mlpop.simulators import Simulation, load
from mlpop.simulators.base import simulate

SIMULATOR = """
class Own:
    labels, channels = ("a",), ("x",)
    def __init__(self):
        {start}
    def __call__(self, theta, seed): ...
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(allowed_modules, "_everything", False)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def write(place: Path, name: str, code: str) -> str:
    (place / f"{name}.py").write_text(textwrap.dedent(code))
    return f"{name}:Own"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("broken_syntax", "def (", "SyntaxError: invalid syntax (broken_syntax.py, line 1)"),
        ("broken_name", "\nmissing", "NameError: name 'missing' is not defined (broken_name.py"),
        ("broken_exit", "import sys\nsys.exit(3)", "SystemExit: 3 (broken_exit.py, line 2)"),
        ("broken_depth", "def f(): f()\nf()", "RecursionError: maximum recursion depth"),
        ("broken_file", "open('no such')", "FileNotFoundError: "),
    ],
)
@pytest.mark.parametrize("find", [load, NETWORKS.find])
def test_a_module_that_cannot_be_imported(find, place, name, code, message) -> None:
    kind = write(place, name, code)
    with pytest.raises(ConfigError, match="type: '.*' cannot be imported: ") as caught:
        find(kind)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        ("init_value", "raise ValueError('a table is missing')", "ValueError: a table is missing"),
        ("init_exit", "raise SystemExit(0)", "SystemExit: 0"),
        ("init_key", "{}['x']", "KeyError: 'x'"),
        ("init_zero", "1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_simulator_that_cannot_be_made(place, name, start, message) -> None:
    kind = write(place, name, SIMULATOR.format(start=start))
    with pytest.raises(ConfigError, match=r"simulator\.args: .* cannot be made") as caught:
        load(kind)
    assert message in str(caught.value)
    assert f"({name}.py, line 5)" in str(caught.value)


def test_labels_that_raise(place: Path) -> None:
    code = SIMULATOR.format(start="pass").replace(
        'labels, channels = ("a",), ("x",)', "labels = property(lambda self: 1 / 0)"
    )
    with pytest.raises(ConfigError, match=r"simulator\.type: .* cannot be used: ZeroDivision"):
        load(write(place, "labels_raise", code))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped(143)])
def test_a_stop_of_mlpop_itself_goes_on(error: BaseException) -> None:
    def call(theta, seed):
        raise error

    with pytest.raises(type(error)):
        simulate(call, np.zeros(1), SeedSequence(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [0, 1, None, "text"])
def test_a_simulator_that_calls_exit_has_failed(code) -> None:
    with pytest.raises(SimulationFailed, match=r"called sys\.exit"):
        simulate(lambda theta, seed: sys.exit(code), np.zeros(1), SeedSequence(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("made", [None, np.zeros(2), (np.zeros(2), {}), {"x": 1.0}, "text"])
def test_what_is_no_simulation_is_called_so(made) -> None:
    with pytest.raises(SimulationFailed, match=f"returned a {type(made).__name__}, no Simulation"):
        simulate(lambda theta, seed: made, np.zeros(1), SeedSequence(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["/", "/tmp", ".."])
def test_the_working_folder_stays(place: Path, folder: str) -> None:
    def call(theta, seed):
        os.chdir(folder)
        theta += 1
        return Simulation(theta)

    theta = np.zeros(1)
    simulate(call, theta, SeedSequence(1))  # type: ignore[arg-type]
    assert Path.cwd() == place
    assert theta == 0
