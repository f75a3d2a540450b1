"""The tutorials run, with short settings; they use what `import mlpop` shows and end in a picture.

One is quick; the others are `slow`.
"""

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

import mlpop

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
MOST_BYTES = 400_000

FEW_STARS = {"NS_number": 6000, "n_processes": 1}
SHORT: Mapping[str, Mapping[str, Any]] = {
    "01_first_experiment": FEW_STARS | {"num_sim": 12, "num_tests": 4, "max_num_epochs": 2},
    "02_dynamical_database": {"NS_number": 6000},
    "03_population": {"NS_number": 6000},
    "04_maps_and_datasets": FEW_STARS | {"sampling_size": 16},
    "05_real_sky": FEW_STARS
    | {"num_sim": 12, "num_tests": 4, "num_rounds": 1, "size_ensemble": 1, "max_num_epochs": 2},
    "06_when_to_believe_it": {
        "n_processes": 1,
        "few": 60,
        "many": 60,
        "num_tests": 60,
        "num_rounds": 2,
        "size_ensemble": 1,
        "max_num_epochs": 2,
    },
    "07_point_estimates": FEW_STARS | {"sampling_size": 20, "epochs": 2},
    "08_own_simulator": {
        "n_processes": 1,
        "num_sim": 100,
        "num_tests": 20,
        "size_ensemble": 1,
        "max_num_epochs": 2,
    },
    "09_compression": FEW_STARS | {"num_sim": 20, "max_num_epochs": 2, "num_chains": 4},
    "10_study": FEW_STARS | {"num_sim": 20, "n_trials": 3, "max_num_epochs": 2},
    "11_cluster_and_resume": {"num_sim": 600, "max_num_epochs": 40},
}
FAST = ("08_own_simulator",)
"""Vectors only: nothing is compiled."""


def _runner() -> Any:
    spec = importlib.util.spec_from_file_location(
        "run_tutorials", ROOT / "docs" / "run_tutorials.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(path: Path) -> list[NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def python_of(cell: NotebookNode) -> str:
    """Return a cell as plain Python; %%writefile cells are the Python that they write."""
    return re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)


def by_name(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in paths]


def test_there_are_eleven() -> None:
    assert [path.stem for path in TUTORIALS] == sorted(SHORT)
    assert [path.stem[:2] for path in TUTORIALS] == [f"{n:02d}" for n in range(1, 12)]


def mlpop_names(source: str) -> Iterator[str]:
    """Yield what Python uses of mlpop: `name` of `mlpop.name`, or an imported module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mlpop":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("mlpop."))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mlpop":
            yield node.attr


@pytest.mark.parametrize("path", by_name(TUTORIALS))
def test_it_uses_what_import_mlpop_shows(path: Path) -> None:
    used = {name for cell in code_cells(path) for name in mlpop_names(python_of(cell))}
    assert used
    assert used <= set(mlpop.__all__)


def test_the_check_of_names_finds_others() -> None:
    assert list(mlpop_names("from mlpop.plots import corner")) == ["mlpop.plots.corner"]
    assert list(mlpop_names("import mlpop.io\nmlpop.io.files")) == ["mlpop.io", "io"]


@pytest.mark.parametrize("path", by_name(TUTORIALS))
def test_it_ships_with_outputs_and_ends_in_a_picture(path: Path) -> None:
    cells = code_cells(path)
    assert path.stat().st_size < MOST_BYTES
    assert all(cell.execution_count for cell in cells), "run docs/run_tutorials.py"
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in cells[-1].outputs)


@pytest.mark.parametrize("path", by_name(TUTORIALS))
def test_its_settings_are_those_that_tests_replace(path: Path) -> None:
    (cell,) = (cell for cell in code_cells(path) if _runner().is_settings(cell))
    assigned = {
        name.id
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Assign)
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    assert set(SHORT[path.stem]) <= assigned


@pytest.fixture(scope="session")
def catalogue(workplace: Any) -> Path:
    """A simulated catalogue in place of the real one, with enough pulsars for every survey."""
    with workplace() as folder:
        sky = mlpop.simulate_population(
            {"B_initial_log10_mean": 13.1, "P_initial_log10_mean": -0.7},
            population={"birth_rate_max": 0.05},
            stars={"NS_number": 15_000, "seed": 1, "t_age_max": 3e7},
            seed=3,
        )
        return sky.write_csv(folder / "simulated_catalogue.csv")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=p.stem, marks=() if p.stem in FAST else pytest.mark.slow)
        for p in TUTORIALS
    ],
)
def test_it_runs(
    path: Path,
    at_work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    if path.stem.startswith("05"):
        monkeypatch.setenv("MLPOP_CATALOGUE", str(request.getfixturevalue("catalogue")))
    done = _runner().executed(path, tmp_path, SHORT[path.stem], seconds=600)
    last = [cell for cell in done.cells if cell.cell_type == "code"][-1]
    assert any("image/png" in output.get("data", {}) for output in last.outputs)
