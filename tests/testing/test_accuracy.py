"""benchmarks/accuracy.py: its C2ST is sbibm's, it goes on where it was, and every method runs."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

from benchmarks import accuracy
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig


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
def test_c2st_is_that_of_sbibm(shift: float, low: float, high: float) -> None:
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
        "output": tmp_path / "accuracy.json",
    }
    return argparse.Namespace(**given | changed)


@pytest.mark.parametrize("task", ["gaussian_linear", "two_moons"])
def test_networks_and_training_are_those_of_the_shipped_file(tmp_path: Path, task: str) -> None:
    shipped = read_json(accuracy.EXPERIMENTS / f"{task}.json")
    for method in accuracy.METHODS:
        values = accuracy.configuration(task, method, arguments(tmp_path), Path("x_o.npy"))
        SbiConfig.parse(values)
        rounds = values["trainer"]["num_rounds"]
        assert rounds == (1 if method == "npe" else 10)
        assert values["training_data_loader"]["num_sim"] * rounds == 1000
        for name in ("batch_size", "lr", "ema_decay", "stop_after_epochs", "max_num_epochs"):
            assert values["trainer"].get(name) == shipped["trainer"].get(name)
        if method != "snle":
            assert values["density_estimator"] == shipped["density_estimator"]


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def judged(task: str, method: str, observations: Any, options: Any) -> list[dict[str, Any]]:
        asked.append((method, *observations))
        found = [accuracy.identity(task, method, k, options) for k in observations]
        return [record | {"c2st": 0.5, "seconds": 1.0} for record in found]

    monkeypatch.setattr(accuracy, "judged", judged)
    given = ["--tasks", "two_moons", "--methods", "npe", "tsnpe", "--simulations", "1000"]
    given += ["--observations", "2", "--output", str(tmp_path / "accuracy.json")]
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *given])
    accuracy.main()
    assert asked == [("npe", 0, 1), ("tsnpe", 0), ("tsnpe", 1)]
    accuracy.main()
    assert len(asked) == 3
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *given, "--observations", "3"])
    accuracy.main()
    assert asked[3:] == [("npe", 2), ("tsnpe", 2)]


def test_observations_and_exact_draws_are_the_same_every_time() -> None:
    x, theta, prior = accuracy.observe("two_moons", 1)
    again, *_ = accuracy.observe("two_moons", 1)
    np.testing.assert_array_equal(x, again)
    assert prior.contains(theta)
    assert not np.array_equal(x, accuracy.observe("two_moons", 2)[0])
    draws = accuracy.exact("two_moons", 1, x, prior, 100)
    np.testing.assert_array_equal(draws, accuracy.exact("two_moons", 1, x, prior, 100))
    assert draws.shape == (100, 2)


def test_the_table_gives_medians(tmp_path: Path) -> None:
    records = [
        accuracy.identity("two_moons", "npe", k, arguments(tmp_path))
        | {"c2st": value, "seconds": 7.0}
        for k, value in enumerate((0.51, 0.59, 0.70))
    ]
    head, row = accuracy.table(records).splitlines()
    assert " ".join(head.split()) == "task method sims obs median min max published sbi"
    assert " ".join(row.split()) == "two_moons npe 1 x 1000 3 0.590 0.510 0.700 0.608 7s"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npe", "tsnpe", "snpe_c", "snle", "snre"])
def test_every_method_learns_two_moons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
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
