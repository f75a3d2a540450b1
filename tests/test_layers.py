"""Who may import whom: the plan of the house, asserted."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mlpop"
LEAVES = {"config", "errors"}
LAYERS = (
    {"__main__"},
    {"cli"},
    {"flags"},
    # a study varies an experiment
    {"study"},
    {"experiment", "testing"},
    {"tracking", "compute", "inference", "regression", "plots"},
    {"simulators"},
    {"maps", "networks"},
    {"population"},
    {"storage"},
)
RANK = {name: len(LAYERS) - depth for depth, names in enumerate(LAYERS) for name in names}
# what each third-party package is allowed in; everything else must not know of it
HOMES = {
    "mlflow": {"tracking", "experiment", "study"},
    "dask": {"compute"},
    "distributed": {"compute"},
    "dask_jobqueue": {"compute"},
    "optuna": {"study"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "s3transfer": {"storage"},
}
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
    assert {"population", "maps", "tracking", "experiment", "cli"} <= parts


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("population/field.py", "from mlpop.maps import image"),
        ("population/field.py", "def f():\n    import mlflow"),
        ("maps/image.py", "from mlpop.networks.embedding import Net"),
        ("maps/image.py", "from ..simulators import base"),
        ("compute/serial.py", "from mlpop.tracking.runs import open_run"),
        ("inference/fit.py", "from dask import delayed"),
        ("tracking/runs.py", "import mlpop.experiment.rounds"),
        ("config/sbi.py", "from mlpop import population"),
        ("plots/corner.py", "import mlflow.entities"),
    ],
)
def test_a_wrong_import_would_be_found(file: str, code: str) -> None:
    assert len(faults(ast.parse(code), PACKAGE / file)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("population/field.py", "from mlpop.population.constants import KPC"),
        (
            "maps/image.py",
            "from mlpop.population import survey\nfrom mlpop.errors import DataError",
        ),
        ("experiment/rounds.py", "from mlpop.tracking import open_run\nimport mlflow"),
        ("config/sbi.py", "from mlpop.config.base import StrictModel\nfrom mlpop import errors"),
        ("maps/image.py", "from . import files"),
    ],
)
def test_a_right_import_passes(file: str, code: str) -> None:
    assert faults(ast.parse(code), PACKAGE / file) == []


def test_package_command_line_and_tracking_start_light() -> None:
    code = (
        "import sys, mlpop, mlpop.cli, mlpop.config, mlpop.tracking\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr
