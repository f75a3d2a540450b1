"""What `import mlpop` shows: every example runs, and every kind of configuration is taken."""

import doctest
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import mlpop
from mlpop.commands.configuration import parsed
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.simulate import SimulateConfig
from mlpop.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
WITH_EXAMPLE = (
    "run_experiment",
    pytest.param("resume_experiment", marks=pytest.mark.slow),
    "infer",
    "simulate",
    pytest.param("train_nn", marks=pytest.mark.slow),
    "observe",
    pytest.param("compare", marks=pytest.mark.slow),
    "dynamics",
    pytest.param("run_study", marks=pytest.mark.slow),
    "simulate_population",
    "load_posterior",
)

SWEEP: dict[str, Any] = {
    "simulator": {"type": "gaussian_linear", "args": {"dimension": 2}},
    "parameters": {"theta_1": (-1, 1), "theta_2": [-1, 1]},
    "sampling_size": 6,
    "seed": 3,
    "compute": {"n_processes": 1},
}


@pytest.fixture
def beside_the_experiments(at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_the_example_of_the_docstring_runs(name: str, beside_the_experiments: Path) -> None:
    function = getattr(mlpop, name)
    (test,) = [
        test
        for test in doctest.DocTestFinder(recurse=False).find(function, name, globs={})
        if test.examples
    ]
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.attempted >= 2
    assert result.failed == 0


def test_all_public_names_are_there_typed_and_described() -> None:
    for name in set(mlpop.__all__) - {"QUICK", "__version__"}:
        thing = getattr(mlpop, name)
        assert inspect.getdoc(thing), name
        if inspect.isfunction(thing):
            signature = inspect.signature(thing)
            assert signature.return_annotation is not inspect.Signature.empty, name
            for parameter in signature.parameters.values():
                assert parameter.annotation is not inspect.Parameter.empty, (name, parameter)


def test_one_sweep_from_a_path_a_dict_and_a_typed_configuration(
    at_work: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(SWEEP | {"save_dir": "elsewhere"}))
    digests = {
        mlpop.simulate(source, {"save_dir": tmp_path / name}).digest
        for name, source in (
            ("path", file),
            ("text", str(file)),
            ("dict", SWEEP),
            ("typed", SimulateConfig.parse(SWEEP | {"save_dir": str(tmp_path)})),
        )
    }
    assert len(digests) == 1
    assert mlpop.load_dataset(tmp_path / "dict" / "dataset_full.csv").theta.shape == (6, 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"trainer": {"lr": "high"}}, r"configuration: trainer\.lr: must be a number"),
        (7, "path of a file, a dict or a SbiConfig, found int"),
        ("missing.json", r"missing\.json: no such file"),
        ({"trainr": {}}, "trainr: unknown field; did you mean 'trainer'"),
    ],
)
def test_a_wrong_configuration_is_one_clear_error(
    source: Any, message: str, at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        mlpop.run_experiment(source)
    assert not list(tmp_path.iterdir())


def test_changes_do_what_set_does() -> None:
    file = REPOSITORY / "experiments" / "gaussian_linear.json"
    config = parsed(SbiConfig, file, {"trainer.lr": 0.5, "trainer.save_dir": Path("there")})
    assert (config.trainer.lr, config.trainer.save_dir) == (0.5, Path("there"))
    again = parsed(SbiConfig, config, {"trainer.lr": 0.25})
    assert (
        again.resolved()
        == parsed(SbiConfig, file, {"trainer.lr": 0.25, "trainer.save_dir": "there"}).resolved()
    )
    assert parsed(SbiConfig, config) is config
    with pytest.raises(ConfigError, match="trainer"):
        parsed(SbiConfig, config, {"trainer.lrr": 1})


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    door = importlib.import_module("mlpop")
    assert set(dir(door)) == set(door.__all__)
