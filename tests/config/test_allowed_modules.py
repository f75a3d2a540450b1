"""Which modules a configuration may name, and that nothing is imported or called before."""

import sys
import textwrap
from pathlib import Path

import pytest

from mlpop.config import allowed_modules
from mlpop.config.allowed_modules import VARIABLE, allow_modules
from mlpop.errors import ConfigError
from mlpop.simulators import load

OWN = """
    from pathlib import Path
    Path("imported").touch()

    class Simulator:
        labels, channels = ("a",), ("x",)
        def __call__(self, theta, seed): ...

    class Instances:
        def __init__(self):
            self.labels, self.channels = ("a",), ("x",)
        def __call__(self, theta, seed): ...

    class Other:
        def __init__(self, **_):
            Path("called").touch()

    def function(**_):
        Path("called").touch()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(allowed_modules, "_everything", False)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    return tmp_path


def write(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(OWN))


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("subprocess:Popen", {"args": ["touch", "called"]}),
        ("subprocess:check_output", {"args": ["touch", "called"]}),
        ("os:system", {"command": "touch called"}),
        ("builtins:exec", {}),
        ("importlib:import_module", {"name": "this"}),
        ("antigravity:anything", {}),
        ("xml.sax:make_parser", {}),
        ("numpy:load", {"file": "called"}),
        ("torch:load", {}),
        ("pandas.io.pickle:read_pickle", {}),
        ("cloudpickle:loads", {}),
        ("pytest:main", {}),
    ],
)
def test_modules_of_python_and_of_packages_are_refused(
    kind: str, args: dict[str, object], place: Path
) -> None:
    with pytest.raises(ConfigError, match=r"is not in a module of your own.*--allow-module"):
        load(kind, args)
    assert list(place.iterdir()) == []


def test_installed_module_is_not_imported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place / "site-packages", "installed_thing")
    monkeypatch.syspath_prepend(place / "site-packages")
    with pytest.raises(ConfigError, match="installed_thing belongs to Python or to an"):
        load("installed_thing:Simulator")
    assert not (place / "imported").exists()
    allow_modules(["installed_thing"])
    assert load("installed_thing:Simulator").labels == ("a",)
    del sys.modules["installed_thing"]


@pytest.mark.parametrize("name", ["Simulator", "Instances"])
def test_own_modules_are_found_in_the_working_folder_and_on_the_path(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place, "beside")
    write(place / "elsewhere" / "package", "inner")
    assert load(f"beside:{name}").labels == ("a",)
    monkeypatch.syspath_prepend(place / "elsewhere")
    assert load(f"package.inner:{name}").channels == ("x",)
    for module in ("beside", "package.inner", "package"):
        del sys.modules[module]


@pytest.mark.parametrize("name", ["Other", "function", "Path"])
def test_what_is_no_simulator_is_not_called(name: str, place: Path) -> None:
    write(place, "beside")
    with pytest.raises(ConfigError, match="is no simulator"):
        load(f"beside:{name}", {"args": ["x"]})
    assert not (place / "called").exists()
    del sys.modules["beside"]


@pytest.mark.parametrize("allowed", ["json", "json.tool", "a, json ,b"])
def test_allowed_by_name(allowed: str) -> None:
    allow_modules(allowed.split(","))
    allowed_modules.require_allowed("arch.type", "json.tool:Net")
    for other in ("jsonx:Net", "xml.sax:Net", "csv:Net"):
        if other != "jsonx:Net":
            with pytest.raises(ConfigError, match=r"^arch\.type: "):
                allowed_modules.require_allowed("arch.type", other)


def test_network_and_its_like_are_held_to_the_same(place: Path) -> None:
    from mlpop.networks.registry import find

    for name in ("subprocess:Popen", "torch.optim:Adam", "torch.nn.utils.prune:Identity"):
        with pytest.raises(ConfigError, match=r"arch\.type: .*not in a module of your own"):
            find(name)
    assert find("torch.nn:Linear").__name__ == "Linear"
    allow_modules(["torch.nn.modules"])
    assert find("torch.nn.modules.linear:Linear").__name__ == "Linear"


@pytest.mark.parametrize(
    "values",
    [
        {"compression_input": {"allow_pickle": True, "sha256": "ab" * 32}},
        {"base": {"compression_input": {"allow_pickle": True, "sha256": "ab" * 32}}},
        {"a": [{"allow_pickle": True, "sha256": None}]},
        {"allow_pickle": True},
    ],
)
def test_pickle_that_a_store_names_is_not_read(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration says itself that it may be, which proves nothing."""
    with pytest.raises(ConfigError, match="^config of run 7: asks for a pickle to be read"):
        allowed_modules.refuse_pickles(values, "config of run 7")
    monkeypatch.setenv(allowed_modules.PICKLES, f"{'cd' * 32},{'ab' * 32}")
    if "ab" in str(values):
        allowed_modules.refuse_pickles(values, "config of run 7")
    else:
        with pytest.raises(ConfigError):
            allowed_modules.refuse_pickles(values, "config of run 7")
    allowed_modules.refuse_pickles({"compression_input": {"allow_pickle": False}}, "config")
