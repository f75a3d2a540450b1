"""A posterior whose own predictions are unlike x_o must not pass for a good one."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from resume_checks import SMALL, results, without_figures

from mlpop.commands.infer import infer
from mlpop.commands.sbi import resume_experiment, run_experiment
from mlpop.compute import Purpose
from mlpop.compute.campaign import campaign
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import Dataset
from mlpop.datasets.shards import SimulationRow, write_shard
from mlpop.experiment.diagnostics.diagnostic import Evidence, Finding, Grade
from mlpop.experiment.diagnostics.predictive import (
    NOT_COMPARED,
    PLOT,
    PULSARS_PLOT,
    PredictiveDiagnostic,
)
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.io.files import write_json
from mlpop.tracking import connect, tree
from mlpop.tracking.uploads import Uploader

Values = dict[str, Any]
SEEN, UNSEEN = [0.3, -0.2], [1.9, -1.9]
CHANNELS = ("survey_PMPS_ppdot_map", "survey_PMPS_ppdot_map_fluxes")


def examined(
    folder: Path,
    x_o: NDArray,
    predicted: NDArray,
    channels: tuple[str, ...],
    count: int = 100,
    details: dict[str, NDArray] | None = None,
) -> tuple[Finding, list[str]]:
    """Return the finding, and the files written, where simulations give `predicted`."""
    theta = np.arange(200.0)[:, None]
    calls = []

    def simulate(use: str, purpose: Purpose, chosen: NDArray[np.float64]) -> Dataset:
        calls.append((use, purpose, chosen))
        number = len(predicted)
        return Dataset(chosen[:number], predicted, ("a",), channels, folder / "none.csv")

    observed = ObservedSample(x_o, channels, None, folder, details or {})
    evidence = Evidence(None, observed, {}, folder, 7, 1, count, simulate)  # type: ignore[arg-type]
    paths = PredictiveDiagnostic().examine_posterior(evidence, theta)
    ((use, purpose, chosen),) = calls
    assert (use, purpose) == ("predictive", Purpose.SIMULATION_PREDICTIVE)
    assert len(chosen) == len(np.unique(chosen)) == count
    return PredictiveDiagnostic().finding(folder), [path.name for path in paths]


def clouds(count: int, scale: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    mean = 30 * np.exp(-(np.linspace(-2, 2, 12)[:, None] ** 2) - np.linspace(-2, 2, 12) ** 2)
    counts = rng.poisson(scale * mean, (count, 12, 12))
    return np.stack([counts, np.where(counts > 0, -3.0, -7.0)], 1).astype(np.float32)


def test_usual_x_o_has_numbers_and_a_figure_but_no_verdict(tmp_path: Path) -> None:
    finding, files = examined(tmp_path, clouds(1, seed=1)[0], clouds(100), CHANNELS)
    assert files == ["predictive.json", "predictive.pdf", "predictive.png"]
    assert finding.verdict is None
    assert not finding.warnings
    assert finding.plots == [PLOT]
    assert finding.numbers["predictive/p"] > 0.02
    assert finding.numbers.keys() >= {"predictive/p_totals", f"predictive/p_{CHANNELS[0]}"}
    assert finding.calibration["predictive"]["p_value"] == finding.numbers["predictive/p"]


@pytest.mark.parametrize("shape", ["maps", "vector"])
def test_odd_x_o_is_misspecified(
    tmp_path: Path, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    if shape == "maps":
        finding, _ = examined(tmp_path, clouds(1, 1.5, 1)[0], clouds(100), CHANNELS)
    else:
        predicted = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
        finding, _ = examined(tmp_path, np.array([0.0, 9.0]), predicted, ("a", "b"))
    verdict = finding.verdict
    assert verdict is not None
    assert (verdict.name, verdict.grade) == ("misspecified", Grade.BAD)
    assert "unlike simulations at its own posterior (p = 0.0099, limit 0.02)" in verdict.reason
    assert verdict.reason in caplog.text
    assert finding.numbers["predictive/p"] == pytest.approx(1 / 101)


def stars(count: int, shift: float, seed: int) -> NDArray[np.float32]:
    """Tables of 300 pulsars, whose log DM has this mean less 2."""
    rng = np.random.default_rng(seed)
    tables = np.zeros((count, 400, 6), np.float32)
    tables[:, :300] = 10 ** rng.normal([-0.3, -15, 1, 0, 2 + shift, -3], 0.3, (count, 300, 6))
    return tables


@pytest.mark.parametrize(
    ("shift", "kept"), [(0.0, True), (-0.1, True), (-0.1, False)], ids=["same", "near", "unknown"]
)
def test_pulsars_tell_what_maps_do_not(tmp_path: Path, shift: float, kept: bool) -> None:
    """Tables of a real campaign's shards, beside maps that show nothing."""
    generator = GeneratorConfig()
    write_json(tmp_path / "generator.json", generator.model_dump(mode="json"))
    maps, tables = clouds(100), stars(100, 0.0, 1)
    for shard in range(2):
        rows = [
            SimulationRow(k, str(k), maps={"survey_PMPS_ppdot_map": m, "pulsars_PMPS": t})
            for k, (m, t) in enumerate(zip(maps[:, 0], tables, strict=True))
            if k // 50 == shard
        ]
        write_shard(tmp_path, shard, rows)
    details = {"pulsars_PMPS": stars(1, shift, 2)[0]} if kept else {}
    finding, files = examined(tmp_path, clouds(1, seed=1)[0], maps, CHANNELS, details=details)
    assert (finding.verdict is not None) is (kept and shift != 0)
    assert ("predictive/p_distances" in finding.numbers) is kept
    if kept:
        assert (finding.numbers["predictive/p_distances"] <= 0.02) is (shift != 0)
        assert finding.plots == [PLOT, PULSARS_PLOT]
        assert files[3:] == ["predictive_pulsars.pdf", "predictive_pulsars.png"]
        assert finding.sentences == []
    else:
        assert finding.plots == [PLOT]
        assert finding.sentences == [NOT_COMPARED]


def test_failed_and_too_few_simulations_are_told(tmp_path: Path) -> None:
    finding, _ = examined(tmp_path, clouds(1, 1.5, 1)[0], clouds(20), CHANNELS, 30)
    assert finding.verdict is None
    failed, few = finding.warnings
    assert failed == "10 of 30 simulations at the posterior failed."
    assert few.startswith("20 simulations at the posterior are too few")
    finding, files = examined(tmp_path, clouds(1)[0], clouds(1), CHANNELS, 30)
    assert files == ["predictive.json"]
    assert (finding.numbers, finding.plots) == ({}, ())


def test_nothing_is_said_where_nothing_is_simulated(tmp_path: Path) -> None:
    for count, simulate in ((0, print), (100, None)):
        evidence = Evidence(None, None, {}, tmp_path, 7, 0, count, simulate)  # type: ignore[arg-type]
        assert PredictiveDiagnostic().examine_posterior(evidence, np.zeros((9, 1))) == ()
    assert PredictiveDiagnostic().finding(tmp_path) == Finding()


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
    document = vectors(
        tmp_path_factory.mktemp("predictive"),
        name="predictive",
        trainer__num_rounds=2,
        trainer__truncated_prior=True,
        # hardly trained networks: sharp ones leave no mass in the prior for an odd x_o
        trainer__max_num_epochs=1,
        trainer__lr=1e-6,
        trainer__num_posterior_samples=500,
    )
    del document["test_data_loader"]["num_predictive"]
    return document


@pytest.fixture(scope="module")
def usual(run: Callable, values: Values, observed: Callable[[list[float]], Values]) -> Any:
    return run(values | {"observed_sample": observed(SEEN)})


def test_last_round_alone_is_checked_unless_told_otherwise(usual: Any) -> None:
    first, last = usual.result.rounds
    assert not [name for name in first.numbers if name.startswith("predictive/")]
    found = json.loads((usual.models / "round_1" / "predictive.json").read_text())
    assert (found["num_simulations"], found["num_predicted"]) == (200, 200)
    assert found["p_value"] > 0.02
    client = usual.store.client
    for run_id in (last.run_id, usual.result.run_id):
        metrics = client.get_run(run_id).data.metrics
        assert metrics["predictive/p"] == pytest.approx(found["p_value"], rel=1e-5)
    calibration = json.loads((usual.models / "round_1" / "calibration.json").read_text())
    assert calibration["predictive"]["x"] == found["p_values"]["x"]
    artifacts = {item.path for item in client.list_artifacts(last.run_id)}
    assert artifacts >= {"predictive.json", "predictive.pdf", "predictive"}
    stored = {item.path for item in client.list_artifacts(last.run_id, "predictive")}
    assert stored >= {"predictive/theta.npy", "predictive/manifest.csv", "predictive/shards"}
    report = (usual.models / "report.html").read_text()
    assert "predictive p-value of the observed sample" in report
    assert "<b>Observed and predicted.</b>" in report


def test_theta_are_draws_of_the_posterior(usual: Any) -> None:
    (folder,) = (usual.save_dir / "data/predictive_dataset/generated_dataset").iterdir()
    theta = np.load(folder / "theta.npy")
    summary = json.loads((usual.models / "round_1" / "summary.json").read_text())["posterior"]
    assert len(np.unique(theta, axis=0)) == 200
    for k, label in enumerate(("theta_1", "theta_2")):
        low, high = summary[label]["low_95"], summary[label]["high_95"]
        assert np.mean((theta[:, k] > low) & (theta[:, k] < high)) > 0.85


@pytest.mark.parametrize("place", ["folder", "run"])
def test_infer_checks_where_it_is_asked(
    usual: Any,
    values: Values,
    observed: Callable[[list[float]], Values],
    at_work: Path,
    tmp_path: Path,
    place: str,
) -> None:
    for x, count, unlike in ((SEEN, 60, False), (UNSEEN, 60, True), (SEEN, 0, None)):
        block = {
            "load_dir": str(usual.models) if place == "folder" else f"runs:/{usual.result.run_id}",
            "save_dir": str(tmp_path / f"{count}-{unlike}"),
            "compute_coverage": False,
            "num_posterior_samples": 200,
            "num_predictive": count,
        }
        config = SbiConfig.parse(values | {"observed_sample": observed(x), "infer": block})
        result = infer(config)
        first, last = result.rounds
        assert "predictive/p" not in first.numbers
        if unlike is None:
            assert "predictive/p" not in last.numbers
            continue
        assert (last.numbers["predictive/p"] <= 0.02) is unlike
        assert (result.folder / "round_1" / "predictive.png").is_file()
        finding = last.findings["predictive"]
        assert (finding.verdict is not None) is unlike


def test_x_o_unlike_its_predictions_is_no_champion(
    run: Callable,
    values: Values,
    observed: Callable[[list[float]], Values],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = values["trainer"] | {"save_dir": str(tmp_path), "num_rounds": 1}
    changes = {"name": "unpredicted", "observed_sample": observed(UNSEEN), "trainer": trainer}
    with caplog.at_level(logging.WARNING):
        done = run(values | changes)
    assert "unlike simulations at its own posterior" in caplog.text
    (last,) = done.result.rounds
    assert last.verdict.name == "misspecified"
    (version,) = done.store.client.search_model_versions("name='unpredicted'")
    registered = done.store.client.get_registered_model("unpredicted")
    assert registered.aliases == {"candidate": version.version}


def test_stopped_while_predicting_and_resumed_gives_the_same(
    vectors: Callable[..., Values],
    at_work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Theta and finished shards are kept, nothing is simulated twice, the bits are the same."""
    without_figures(monkeypatch)
    changes = SMALL | {"test_data_loader__num_predictive": 60}
    whole = vectors(tmp_path / "whole", name="predicting-whole", **changes)
    store = connect()
    expected = run_experiment(SbiConfig.parse(whole))
    stopped = vectors(tmp_path / "stopped", name="predicting-stopped", **changes)
    send, made = Uploader.send_shard, []

    def interrupted(self: Uploader, kind: str, *args: Any) -> None:
        send(self, kind, *args)
        if kind == "predictive":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Uploader, "send_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(SbiConfig.parse(stopped))
    simulate = campaign.simulate_shard

    def counted(job: Any, task: Any, emit: Any) -> Any:
        made.append((job.purpose, task.number))
        return simulate(job, task, emit)

    monkeypatch.setattr(campaign, "simulate_shard", counted)
    result = resume_experiment("last")
    assert {purpose for purpose, _ in made} == {Purpose.SIMULATION_PREDICTIVE}
    per_task = SbiConfig.parse(stopped).compute.simulations_per_task
    tasks = campaign.task_sizes(60, per_task)
    assert len(made) == len(tasks) - 1
    found = results(store, tree(store, result.run_id))
    assert "round_01/predictive.json" in found
    assert found == results(store, tree(store, expected.run_id))
