"""Who may import whom: the plan of the house, asserted."""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mlpop"
LEAVES = {"config", "errors"}
LAYERS = (
    {"__main__"},
    {"cli"},
    {"commands"},
    # a study varies an experiment
    {"study"},
    {"experiment", "testing"},
    {"tracking", "compute", "regression", "plots"},
    {"training"},
    {"inference"},
    {"simulators"},
    {"datasets", "networks"},
    {"maps"},
    {"population"},
    {"io"},
)
RANK = {name: len(LAYERS) - depth for depth, names in enumerate(LAYERS) for name in names}
# what each third-party package is allowed in; everything else must not know of it
HOMES = {
    "mlflow": {"tracking", "experiment", "study", "commands"},
    "dask": {"compute"},
    "distributed": {"compute"},
    "dask_jobqueue": {"compute"},
    "optuna": {"study", "commands"},
    "boto3": {"io"},
    "botocore": {"io"},
    "s3transfer": {"io"},
}
MOST_MODULES = 16
MOST_LINES = 400
HEAVY = {
    *("mlflow", "torch", "sbi", "dask", "distributed", "numba", "pandas", "matplotlib", "scipy"),
    "optuna",
    "boto3",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The folder, or the module at the top, that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import, also those inside functions."""
    package = ["mlpop", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{name}.{alias.name}"


def faults(tree: ast.AST, path: Path) -> list[str]:
    here = part(path)
    wrong = []
    for line, name in imported(tree, path):
        top, *rest = name.split(".")
        place = f"{path.relative_to(PACKAGE.parent)}:{line}"
        if top in HOMES and here not in HOMES[top]:
            wrong.append(f"{place} imports {top}, allowed only in {sorted(HOMES[top])}")
        if top != "mlpop" or not rest or here == "__init__":
            continue
        there = rest[0]
        if here in LEAVES:
            if there not in LEAVES:
                wrong.append(f"{place} imports mlpop.{there}; {here} is a leaf")
        elif there in RANK and there != here and RANK[there] >= RANK[here]:
            wrong.append(f"{place} imports mlpop.{there}, which is not below mlpop.{here}")
    return wrong


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    assert faults(ast.parse(path.read_text(encoding="utf-8")), path) == []


def test_every_part_has_a_place_in_the_layers() -> None:
    parts = {part(path) for path in modules()} - {"__init__"}
    assert parts - LEAVES - set(RANK) - {"testing"} == set()
    assert {"population", "maps", "training", "tracking", "experiment", "cli"} <= parts


def room(module: str) -> str:
    """The folder that a module lies in; a module at the top is a room of its own."""
    above, _, name = module.rpartition(".")
    return name if above == "mlpop" else above.removeprefix("mlpop.")


def module_name(path: Path) -> str:
    return ".".join(["mlpop", *path.relative_to(PACKAGE).with_suffix("").parts])


def doors(sources: Mapping[str, ast.AST]) -> dict[str, set[str]]:
    """Return room -> rooms that its modules import; what a package exports is its module's.

    Args:
        sources: module -> its parsed text; a package is `<package>.__init__`.
    """
    exported = {}
    for module, tree in sources.items():
        package, _, name = module.rpartition(".")
        if name == "__init__":
            path = PACKAGE.joinpath(*package.split(".")[1:], "__init__.py")
            for _, target in imported(tree, path):
                exported[f"{package}.{target.rpartition('.')[2]}"] = target
    found: dict[str, set[str]] = defaultdict(set)
    for module, tree in sources.items():
        if module.endswith(".__init__"):
            continue
        path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
        for _, name in imported(tree, path):
            target = name
            while target in exported:
                target = exported[target]
            while target not in sources and "." in target:
                target = target.rpartition(".")[0]
            if target in sources and room(target) != room(module):
                found[room(module)].add(room(target))
    return found


def cycle(rooms: Mapping[str, set[str]]) -> list[str]:
    """Return rooms that import each other in a circle; empty if there are none."""
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_two_rooms_import_each_other() -> None:
    sources = {module_name(path): ast.parse(path.read_text("utf-8")) for path in modules()}
    found = doors(sources)
    assert {"io"} <= found["datasets"]
    assert "population.galaxy" in found["population.stars"]
    assert cycle(found) == []


def test_rooms_that_import_each_other_would_be_found() -> None:
    sources = {
        "mlpop.a.x.one": ast.parse("from mlpop.a.y import two"),
        "mlpop.a.y.two": ast.parse("from mlpop.a import f"),
        "mlpop.a.x.three": ast.parse("def f(): pass"),
        "mlpop.a.__init__": ast.parse("from mlpop.a.x.three import f"),
    }
    assert set(cycle(doors(sources))) == {"a.x", "a.y"}
    assert cycle(doors(sources | {"mlpop.a.y.two": ast.parse("import math")})) == []


def test_a_room_holds_no_more_than_one_can_look_over() -> None:
    counts = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {str(folder): n for folder, n in counts.items() if n > MOST_MODULES} == {}


def test_a_module_is_one_idea() -> None:
    lines = {str(path): len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert {path: n for path, n in lines.items() if n > MOST_LINES} == {}


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("population/pulsars/field.py", "from mlpop.maps import density"),
        ("population/pulsars/field.py", "def f():\n    import mlflow"),
        ("maps/density.py", "from mlpop.networks.embedding import Net"),
        ("maps/density.py", "from ..simulators import base"),
        ("compute/backends/serial.py", "from mlpop.tracking.runs import open_run"),
        ("training/loop.py", "from dask import delayed"),
        ("inference/mcmc/chains.py", "from mlpop.training import loop"),
        ("tracking/runs.py", "import mlpop.experiment.rounds"),
        ("config/files/sbi.py", "from mlpop import population"),
        ("plots/corner.py", "import mlflow.entities"),
    ],
)
def test_a_wrong_import_would_be_found(file: str, code: str) -> None:
    assert len(faults(ast.parse(code), PACKAGE / file)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("population/pulsars/field.py", "from mlpop.population.constants import KPC"),
        (
            "maps/density.py",
            "from mlpop.population.surveys import survey\nfrom mlpop.errors import DataError",
        ),
        ("experiment/rounds/run.py", "from mlpop.tracking import open_run\nimport mlflow"),
        (
            "config/files/sbi.py",
            "from mlpop.config.base import StrictModel\nfrom mlpop import errors",
        ),
        ("maps/density.py", "from . import histogram"),
    ],
)
def test_a_right_import_passes(file: str, code: str) -> None:
    assert faults(ast.parse(code), PACKAGE / file) == []


def test_package_command_line_and_tracking_start_light() -> None:
    code = (
        "import sys, mlpop, mlpop.cli.main, mlpop.config, mlpop.tracking\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr
