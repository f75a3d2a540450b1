"""A diagnostic that nobody else knows of is seen everywhere: what a new one needs is all here."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from mlpop.commands.infer import infer
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import Dataset
from mlpop.experiment.diagnostics import table
from mlpop.experiment.diagnostics.diagnostic import (
    NOT_TESTED,
    Cell,
    Diagnostic,
    Evidence,
    Finding,
    Grade,
    LabelTable,
    Plot,
    Simulations,
    Verdict,
)
from mlpop.experiment.report.html import REPORT
from mlpop.inference.diagnostics.coverage import CoverageResult
from mlpop.io.files import read_json_object, write_json
from mlpop.tracking import Node, tree
from mlpop.tracking.artifacts import fetched

Values = dict[str, Any]
SENTENCE = "0.0 % of the truths lie outside the 99 % region."
WARNING = "the tail was measured with 5 tests only."
REASON = "its tail was measured, and mistrusted"


class Tail(Diagnostic):
    """How many truths of the tests lie outside the 99 % region."""

    name = "tail"
    headline = ("tail/outside_99",)
    legend = "Tail: of the ranks."
    memory = ("tail_memory.json",)

    def learn(self, simulations: Simulations) -> int:
        write_json(simulations.folder / self.memory[0], {"count": len(simulations.training)})
        return len(simulations.training)

    def load(self, folder: Path) -> int | None:
        path = folder / self.memory[0]
        return read_json_object(path)["count"] if path.is_file() else None

    def examine_observed(self, evidence: Evidence) -> Sequence[Path]:
        path = evidence.folder / "tail_observed.json"
        write_json(path, {"learned": evidence.learned[self.name]})
        return (path,)

    def examine_tests(
        self, evidence: Evidence, tests: Dataset, draws: CoverageResult
    ) -> Sequence[Path]:
        assert len(tests.x) == len(draws.rank)
        outside = float((draws.rank > 0.99).mean())
        path = evidence.folder / "tail.json"
        write_json(path, {"outside": outside})
        return (path,)

    def finding(self, folder: Path) -> Finding:
        path = folder / "tail.json"
        if not path.is_file():
            return Finding()
        outside = read_json_object(path)["outside"]
        return Finding(
            numbers={"tail/outside_99": outside},
            sentences=[f"{100 * outside:.1f} % of the truths lie outside the 99 % region."],
            warnings=[WARNING],
            verdict=Verdict("mistrusted", Grade.BAD, "its tail is odd", REASON, "nothing"),
            note={"outside 99 %": outside},
            rows={"outside the 99 % region": outside},
            plots=[Plot("A tail", "As a curve.", "coverage_plot.pdf")],
            tables=[LabelTable("Tails", "Of labels.", ("tail",), {"theta_1": [Cell("0.12345")]})],
            calibration={"tail": outside},
        )


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "DIAGNOSTICS", (*table.DIAGNOSTICS, Tail()))
        yield


@pytest.fixture(scope="module")
def values(vectors: Callable[..., Values], tmp_path_factory: pytest.TempPathFactory) -> Values:
    return vectors(
        tmp_path_factory.mktemp("tail"),
        name="tail",
        training_data_loader__num_sim=60,
        test_data_loader__num_sim=5,
        trainer__max_num_epochs=2,
        trainer__num_posterior_samples=100,
    )


@pytest.fixture(scope="module")
def done(run: Callable[[Values], Any], values: Values) -> Any:
    return run(values)


def check_round(client: MlflowClient, done_tree: Node, folder: Path) -> None:
    """Number, file, sentence and verdict are in the run of the round and in the one above."""
    (node,) = (child for child in done_tree.children if child.kind == "round")
    for run_id in (done_tree.run_id, node.run_id):
        run = client.get_run(run_id)
        assert run.data.metrics["tail/outside_99"] == 0
        assert run.data.tags["mlpop.calibration"] == "mistrusted"
    assert SENTENCE in node.tags["mlflow.note.content"]
    assert "| outside 99 % | 0 |" in node.tags["mlflow.note.content"]
    artifacts = {item.path for item in client.list_artifacts(node.run_id)}
    assert artifacts >= {"tail.json", "tail_observed.json"}
    assert json.loads((folder / "tail_observed.json").read_text()) == {"learned": 60}
    calibration = json.loads((folder / "calibration.json").read_text())
    assert (calibration["verdict"], calibration["tail"]) == ("mistrusted", 0)


def test_new_diagnostic_in_an_experiment(done: Any) -> None:
    check_round(done.store.client, done.tree, done.models / "round_0")
    (round_,) = done.result.rounds
    artifacts = {item.path for item in done.store.client.list_artifacts(round_.run_id)}
    assert "tail_memory.json" in artifacts
    assert f"round 0: {SENTENCE}" in (done.logs / "log.txt").read_text()
    with fetched(done.store.client, done.result.run_id, REPORT) as path:
        html = path.read_text()
    for part in (
        f"<p>{SENTENCE}</p>",
        f"<li>Round 0: {WARNING}</li>",
        f"Verdict: mistrusted, {REASON}.",
        "What helps: nothing.",
        '<th scope="row">outside the 99 % region</th><td>0</td>',
        "<b>A tail.</b> As a curve.",
        "<h3>Tails</h3>",
        "0.12345",
        "nothing was learnt. Tail: of the ranks. Times are",
    ):
        assert part in html
    (version,) = done.store.client.search_model_versions("name='tail'")
    assert version.tags["mlpop.verdict_reason"] == REASON
    registry = done.store.client.get_registered_model("tail")
    assert registry.aliases == {"candidate": version.version}


@pytest.mark.parametrize("place", ["folder", "run"])
def test_new_diagnostic_in_infer(
    done: Any, values: Values, tmp_path: Path, at_work: Path, place: str
) -> None:
    load_dir = str(done.models) if place == "folder" else f"runs:/{done.result.run_id}"
    block = {"load_dir": load_dir, "save_dir": str(tmp_path)}
    result = infer(SbiConfig.parse(values | {"infer": block}))
    check_round(done.store.client, tree(done.store, result.run_id), result.folder / "round_0")
    assert f"round 0: {SENTENCE}" in (result.folder / "log.txt").read_text()


def test_finding_of_a_complete_round_is_read_again(done: Any) -> None:
    (round_,) = done.result.rounds
    assert table.read_findings(done.models / "round_0")["tail"] == round_.findings["tail"]


def verdict(name: str, grade: Grade) -> Finding:
    return Finding(verdict=Verdict(name, grade, "", ""))


def test_verdict_of_a_round_is_the_worst_and_of_equals_the_first() -> None:
    good, bad, worse = (
        verdict("good", Grade.GOOD),
        verdict("bad", Grade.BAD),
        verdict("worse", Grade.BAD),
    )
    untested = Finding(verdict=NOT_TESTED)
    for findings, expected in (
        ([good], "good"),
        ([good, untested], ""),
        ([untested, good, bad], "bad"),
        ([Finding(), worse, bad, good], "worse"),
        ([], ""),
    ):
        assert table.decide(dict(enumerate(findings))).name == expected


def test_draws_of_a_diagnostic_depend_on_seed_round_and_place(tmp_path: Path) -> None:
    from mlpop.compute import Purpose

    def draw(root_seed: int, round_: int, *place: int) -> float:
        evidence = Evidence(None, None, {}, tmp_path, root_seed, round_)  # type: ignore[arg-type]
        generator = evidence.generator(Purpose.DIAGNOSTICS, *place)
        return float(torch.rand(1, generator=generator))

    values = [draw(1, 0), draw(2, 0), draw(1, 1), draw(1, 0, 1)]
    assert len(set(values)) == len(values)
    assert draw(1, 0) == values[0]
