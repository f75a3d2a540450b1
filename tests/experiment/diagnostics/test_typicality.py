"""A posterior at an x_o that the simulator cannot have made must not pass for a good one."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlpop.commands.infer import infer
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.diagnostics.diagnostic import Evidence, Grade
from mlpop.experiment.diagnostics.typicality import TypicalityDiagnostic

Values = dict[str, Any]
SEEN, UNSEEN = [0.3, -0.2], [1.9, -1.9]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[float]], Values]:
    """Give the block of an observed sample that is an array."""
    folder = tmp_path_factory.mktemp("observed")

    def make(x: list[float]) -> Values:
        path = folder / f"{x[0]}.npy"
        np.save(path, np.array(x, dtype=np.float32))
        return {"path": str(path)}

    return make


@pytest.fixture(scope="module")
def values(vectors: Callable[..., Values], tmp_path_factory: pytest.TempPathFactory) -> Values:
    return vectors(
        tmp_path_factory.mktemp("typical"),
        name="typical",
        test_data_loader__num_sim=80,
        # hardly trained networks: what is tested here is x
        trainer__max_num_epochs=1,
        trainer__lr=1e-6,
        trainer__num_posterior_samples=200,
    )


@pytest.fixture(scope="module")
def usual(run: Callable, values: Values, observed: Callable[[list[float]], Values]) -> Any:
    return run(values | {"observed_sample": observed(SEEN)})


def test_x_o_of_the_simulator_is_not_suspected(usual: Any) -> None:
    found = json.loads((usual.models / "round_0" / "typicality.json").read_text())
    assert found["held_out"] == {"x": 120}
    assert found["p_values"]["x"] > 0.05
    assert not found["misspecified"]
    assert usual.result.rounds[0].verdict.name != "misspecified"
    calibration = json.loads((usual.models / "round_0" / "calibration.json").read_text())
    assert calibration["typicality"] == found["p_values"]
    metrics = usual.store.client.get_run(usual.tree.children[0].run_id).data.metrics
    assert metrics["typicality/p_x"] == pytest.approx(found["p_values"]["x"])


def evidence(folder: Path, learned: dict[str, Any], elsewhere: bool = False) -> Evidence:
    posterior: Any = SimpleNamespace(members=(), preprocessing=None)
    observed: Any = SimpleNamespace(x=np.zeros(2, np.float32))
    return Evidence(posterior, observed, learned, folder, 1, 2, elsewhere=elsewhere)


class Known:
    """A typicality of which all p-values are known."""

    def __init__(self, held_out: int, p_value: float) -> None:
        self.views = {"x": SimpleNamespace(held_out=np.zeros(held_out))}
        self.p_value = p_value

    def p_values(self, posterior: Any, x: Any) -> dict[str, float]:
        return {"x": self.p_value}


@pytest.mark.parametrize(("held_out", "silent"), [(99, True), (100, False)])
def test_check_that_cannot_say_no_says_so(
    held_out: int, silent: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diagnostic = TypicalityDiagnostic()
    learned = {"typicality": Known(held_out, 0.4)}
    with caplog.at_level(logging.WARNING):
        diagnostic.examine_observed(evidence(tmp_path, learned))
    found = diagnostic.finding(tmp_path)
    assert found.verdict is None
    assert bool(found.warnings) is silent
    assert ("nobody has checked" in caplog.text) is silent
    if silent:
        assert "that takes 100 that were not trained on, and there are 99" in found.warnings[0]


@pytest.mark.parametrize("learned", [{}, {"typicality": Known(500, 0.4)}])
def test_round_made_for_another_x_o_is_misspecified(learned: Any, tmp_path: Path) -> None:
    diagnostic = TypicalityDiagnostic()
    diagnostic.examine_observed(evidence(tmp_path, learned, elsewhere=True))
    verdict = diagnostic.finding(tmp_path).verdict
    assert verdict is not None
    assert (verdict.name, verdict.grade) == ("misspecified", Grade.BAD)
    assert "another observed sample" in verdict.meaning


@pytest.mark.parametrize("testing", [True, False])
def test_x_o_unlike_all_simulations_is_misspecified(
    run: Callable,
    values: Values,
    observed: Callable[[list[float]], Values],
    testing: bool,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    changes = {"name": f"odd-{testing}", "observed_sample": observed(UNSEEN)}
    loader = values["test_data_loader"] | {"testing": testing}
    training = values["training_data_loader"] | {"num_sim": 1200}
    trainer = values["trainer"] | {"save_dir": str(tmp_path)}
    blocks = {"trainer": trainer, "test_data_loader": loader, "training_data_loader": training}
    with caplog.at_level(logging.WARNING):
        done = run(values | changes | blocks)
    assert "the observed sample is unlike all simulations (x p = 0.0" in caplog.text
    (last,) = done.result.rounds
    assert last.verdict.name == "misspecified"
    (version,) = done.store.client.search_model_versions(f"name='odd-{testing}'")
    assert version.tags["mlpop.verdict"] == "misspecified"
    assert "unlike all simulations" in version.tags["mlpop.verdict_reason"]
    registered = done.store.client.get_registered_model(f"odd-{testing}")
    assert registered.aliases == {"candidate": version.version}
    tags = done.store.client.get_run(done.result.run_id).data.tags
    assert tags["mlpop.calibration"] == "misspecified"


@pytest.mark.parametrize("place", ["folder", "run"])
def test_infer_judges_its_own_x_o(
    usual: Any,
    values: Values,
    observed: Callable[[list[float]], Values],
    at_work: Path,
    tmp_path: Path,
    place: str,
) -> None:
    for x, unlike in ((SEEN, False), (UNSEEN, True)):
        block = {
            "load_dir": str(usual.models) if place == "folder" else f"runs:/{usual.result.run_id}",
            "save_dir": str(tmp_path / str(unlike)),
            "compute_coverage": False,
        }
        config = SbiConfig.parse(values | {"observed_sample": observed(x), "infer": block})
        (last,) = infer(config).rounds
        assert (last.numbers["typicality/p_x"] < 0.01) is unlike
        assert (last.verdict.name == "misspecified") is unlike
