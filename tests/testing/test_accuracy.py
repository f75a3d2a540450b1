"""benchmarks/accuracy.py: its C2ST is sbibm's, it goes on where it was, and every method runs."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def as_in_sbibm(exact: np.ndarray, samples: np.ndarray) -> float:
    """The C2ST of sbibm/metrics/c2st.py (Lueckmann et al. 2021), by hand."""
    mean, std = exact.mean(0), exact.std(0, ddof=1)
    data = np.concatenate([(exact - mean) / std, (samples - mean) / std]).astype(np.float32)
    target = np.repeat([0.0, 1.0], [len(exact), len(samples)])
    width = 10 * exact.shape[1]
    classifier = MLPClassifier(
        activation="relu",
        hidden_layer_sizes=(width, width),
        max_iter=10_000,
        solver="adam",
        random_state=1,
    )
    folds = KFold(n_splits=5, shuffle=True, random_state=1)
    return float(cross_val_score(classifier, data, target, cv=folds, scoring="accuracy").mean())


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.42, 0.58), (3.0, 0.9, 1.0)])
def test_c2st_is_that_of_sbibm(
    accuracy: ModuleType, shift: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((300, 2)) * [1.0, 100.0]
    samples = rng.standard_normal((300, 2)) * [1.0, 100.0] + [shift, 0.0]
    value = accuracy.classifier_two_sample_test(exact, samples)
    assert value == pytest.approx(as_in_sbibm(exact, samples), abs=0.01)
    assert low < value <= high


def arguments(tmp_path: Path, **changed: Any) -> argparse.Namespace:
    given = {
        "tasks": ["two_moons"],
        "methods": ["npe", "tsnpe"],
        "observations": 3,
        "samples": 100,
        "simulations": 1000,
        "rounds": 10,
        "members": 0,
        "output": tmp_path / "accuracy.json",
    }
    return argparse.Namespace(**given | changed)


def test_what_is_done_is_not_done_again(accuracy: ModuleType, tmp_path: Path) -> None:
    options = arguments(tmp_path)
    jobs = accuracy.make_jobs(options, [])
    assert [(job.method, job.observations, job.rounds) for job in jobs] == [
        ("npe", (0, 1, 2), 1),
        ("tsnpe", (0,), 10),
        ("tsnpe", (1,), 10),
        ("tsnpe", (2,), 10),
    ]
    made = [job.record(k) | {"c2st": 0.5, "seconds": {}} for job in jobs for k in job.observations]
    records = json.loads(json.dumps([record for record in made if record["observation"] != 1]))
    left = accuracy.make_jobs(options, records)
    assert [(job.method, job.observations) for job in left] == [("npe", (1,)), ("tsnpe", (1,))]
    assert accuracy.make_jobs(options, json.loads(json.dumps(made))) == []
    other = arguments(tmp_path, samples=200)
    assert len(accuracy.make_jobs(other, json.loads(json.dumps(made)))) == len(jobs)


def test_observations_and_exact_draws_do_not_depend_on_the_method(
    accuracy: ModuleType, tmp_path: Path
) -> None:
    jobs = accuracy.make_jobs(arguments(tmp_path), [])
    npe, tsnpe = accuracy.Learner(jobs[0]), accuracy.Learner(jobs[2])
    x = npe.observe(1)
    np.testing.assert_array_equal(x, tsnpe.observe(1))
    assert not np.array_equal(x, npe.observe(2))
    np.testing.assert_array_equal(npe.exact(1, x), tsnpe.exact(1, x))
    assert npe.exact(1, x).shape == (100, 2)


def test_the_table_gives_medians(accuracy: ModuleType, tmp_path: Path) -> None:
    job = accuracy.make_jobs(arguments(tmp_path), [])[0]
    seconds = {"train": 7.0, "c2st": 2.0}
    records = [
        job.record(k) | {"c2st": value, "seconds": seconds, "proposals": []}
        for k, value in enumerate((0.51, 0.59, 0.70))
    ]
    head, row = accuracy.table(records).splitlines()
    assert " ".join(head.split()) == (
        "task method sims obs median min max limit published train c2st"
    )
    assert " ".join(row.split()) == (
        "two_moons npe 1 x 1000 3 0.590 0.510 0.700 0.620 0.608 7s 2s"
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npe", "tsnpe", "snpe_c", "snle", "snre"])
def test_every_method_learns_two_moons(
    accuracy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    output = tmp_path / "accuracy.json"
    given = ["--tasks", "two_moons", "--methods", method, "--observations", "1"]
    given += ["--samples", "500", "--simulations", "600", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *given, "--output", str(output)])
    accuracy.main()
    [record] = json.loads(output.read_text())["records"]
    assert record["method"] == method
    # what is guessed from the prior alone has 0.99 and more
    assert record["c2st"] < 0.95
    before = output.read_text()
    accuracy.main()
    assert output.read_text() == before
