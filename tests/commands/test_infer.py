"""`mlpop infer`: posterior and coverage of trained rounds, and what it refuses (S29, B10)."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mlpop.commands.infer import InferResult, infer
from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError, DataError, TrackingError
from mlpop.experiment.models.trained_rounds import launch_folder, load_rounds
from mlpop.inference.posteriors.store import load_posterior
from mlpop.networks.rng import generator_from_seed
from mlpop.tracking import TrackedRun, connect, find, tree, verify

Values = dict[str, Any]
POSTERIOR = {"corner_plot_observed_sample.pdf", "samples_posterior.pt"}
TESTING = {"coverage_plot.pdf", "coverage_probability.npy", "posterior_samples_test_data.npz"}
LOGS = {"log.txt", "profile.json", "profile.log"}
TESTS = 6


@dataclass(frozen=True)
class Training:
    """Two truncated rounds on vectors."""

    values: Values
    models: Path
    run_id: str
    tests: tuple[Path, ...]
    """Index files of the test sets that the rounds simulated."""


@pytest.fixture(scope="module")
def trained(run: Callable, vectors: Callable[..., Values], tmp_path_factory) -> Training:
    """An experiment to infer with; tests copy what they change."""
    values = vectors(
        tmp_path_factory.mktemp("trained"),
        name="trained",
        training_data_loader__num_sim=200,
        test_data_loader__num_sim=TESTS,
        trainer__num_rounds=2,
        trainer__truncated_prior=True,
        trainer__max_num_epochs=4,
        trainer__num_posterior_samples=100,
    )
    done = run(values)
    root = done.save_dir / "data/test_dataset/generated_dataset"
    csvs = [root / f"round_{i}" / "dataset_full.csv" for i in (0, 1)]
    return Training(values, done.models, done.result.run_id, tuple(csvs))


@pytest.fixture
def start(
    trained: Training, at_work: Path, tmp_path: Path, changed: Callable[..., Values]
) -> Callable[..., InferResult]:
    """Run `mlpop infer` with changes of the training's configuration."""

    def begin(**changes: Any) -> InferResult:
        fields = {"infer.save_dir": str(tmp_path / "inferred"), "infer.load_dir": None}
        fields |= {path.replace("__", "."): value for path, value in changes.items()}
        return infer(SbiConfig.parse(changed(trained.values, fields)))

    return begin


@pytest.fixture(scope="module")
def inferred(trained: Training, workplace: Callable[..., Any], tmp_path_factory) -> InferResult:
    """An inference with the test sets of the training."""
    folder = tmp_path_factory.mktemp("inferred")
    values = trained.values | {"infer": {"save_dir": str(folder)}}
    with workplace():
        return infer(SbiConfig.parse(values))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def samples(folder: Path, round_: int) -> np.ndarray:
    path = folder / f"round_{round_}" / "samples_posterior.pt"
    return torch.load(path, weights_only=True).numpy()


def truths_of(folder: Path, round_: int) -> np.ndarray:
    with np.load(folder / f"round_{round_}" / "posterior_samples_test_data.npz") as file:
        return file["true_values"]


# --- what it writes -------------------------------------------------------------------------


def test_documented_files_with_coverage_S29(inferred: InferResult) -> None:
    assert inferred.folder.parts[-3:-1] == ("logs", "trained")
    assert names(inferred.folder) >= LOGS | {"round_0", "round_1", "config_sbi.json"}
    for round_ in (0, 1):
        assert names(inferred.folder / f"round_{round_}") >= POSTERIOR | TESTING
    assert not (inferred.folder.parents[2] / "models").exists()


def test_documented_files_without_coverage_S29(
    start: Callable[..., InferResult], trained: Training
) -> None:
    folder = start(infer__compute_coverage=False).folder
    for round_ in (0, 1):
        found = names(folder / f"round_{round_}")
        assert found >= POSTERIOR
        assert not found & TESTING


def test_profile_has_the_documented_names_B13(inferred: InferResult) -> None:
    profile = json.loads((inferred.folder / "profile.json").read_text())
    expected = ("TotalInference", "Initialization")
    expected += tuple(f"{part}{i}" for part in ("TotalRound", "ComputingCoverage") for i in (0, 1))
    assert {f"[{name}]" for name in expected} <= set(profile)
    # a proposal is found only where something is compared with it: the given tests of round 1
    proposals = [name for name in profile if "Proposal" in name or "RestrictedPrior" in name]
    assert proposals == ["[ComputeRestrictedPriorRound0]"]


def test_runs_are_complete_and_tell_the_result(
    inferred: InferResult, trained: Training, at_work: Path
) -> None:
    store = connect()
    top = tree(store, inferred.run_id)
    found = [(depth, node.kind, node.name) for depth, node in top.walk()]
    assert found == [(0, "infer", "trained"), (1, "round", "round_00"), (1, "round", "round_01")]
    for _, node in top.walk():
        assert (node.status, node.state, node.error) == ("FINISHED", "complete", "")
        assert verify(store.client, node.run_id) == []
        assert "theta_1" in node.tags["mlflow.note.content"]
    assert top.tags["mlpop.trained_run"] == trained.run_id
    metrics = store.client.get_run(top.children[1].run_id).data.metrics
    assert metrics["coverage/tests"] == TESTS
    summary = json.loads((inferred.folder / "round_1" / "summary.json").read_text())
    for label, values in summary["posterior"].items():
        assert metrics[f"posterior/{label}/median"] == pytest.approx(values["median"], rel=1e-5)
    artifacts = {item.path for item in store.client.list_artifacts(top.children[0].run_id)}
    assert artifacts >= POSTERIOR | TESTING | {"coverage_plot.png"}


def test_draws_are_those_of_the_trained_posterior(
    inferred: InferResult, trained: Training
) -> None:
    x = np.load(trained.models / "round_0" / "x_o.npy")
    for round_ in (0, 1):
        posterior = load_posterior(trained.models / f"round_{round_}" / "posterior.json")
        seed = seed_sequence(trained.values["manual_seed"], Purpose.POSTERIOR_SAMPLES, round_)
        draws = posterior.sample(5000, x, generator_from_seed(torch_seed(seed)))
        scaled = posterior.prior.to_files(draws).astype(np.float32)
        np.testing.assert_array_equal(samples(inferred.folder, round_), scaled)


# --- which test sets: the four corrections of B10 -------------------------------------------


def test_every_round_is_tested_on_its_own_set_B10(
    inferred: InferResult, trained: Training
) -> None:
    for round_ in (0, 1):
        training = trained.models / f"round_{round_}"
        expected = np.load(training / "coverage_probability.npy")
        found = np.load(inferred.folder / f"round_{round_}" / "coverage_probability.npy")
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(
            truths_of(inferred.folder, round_), truths_of(trained.models, round_)
        )
    assert not np.array_equal(truths_of(inferred.folder, 0), truths_of(inferred.folder, 1))


def test_appended_test_sets_are_joined_once_B10(start: Callable[..., InferResult]) -> None:
    folder = start(trainer__append_simulations=True).folder
    assert len(truths_of(folder, 0)) == TESTS
    assert len(truths_of(folder, 1)) == 2 * TESTS
    np.testing.assert_array_equal(truths_of(folder, 1)[:TESTS], truths_of(folder, 0))


def test_simulated_test_set_is_of_the_proposal_of_the_round_before_B10(
    start: Callable[..., InferResult], trained: Training
) -> None:
    """The training drew the test set of round 1 from the proposal of round 0 as well."""
    shards = sorted((trained.tests[1].parent / "shards").rglob("*.npy"))
    before = [path.stat().st_mtime_ns for path in shards]
    folder = start(infer__sim_dataset=True).folder
    np.testing.assert_array_equal(truths_of(folder, 1), truths_of(trained.models, 1))
    assert [path.stat().st_mtime_ns for path in shards] == before
    other = start(infer__sim_dataset=True, manual_seed=8).folder
    assert not np.array_equal(truths_of(other, 1), truths_of(trained.models, 1))
    assert len(truths_of(other, 1)) == TESTS


def test_training_set_is_not_needed_B10(
    start: Callable[..., InferResult], trained: Training, tmp_path: Path
) -> None:
    data = {"simulate": False, "dataset_path_round_0": "gone", "statistic_path": "gone.json"}
    np.save(tmp_path / "x.npy", np.array([0.5, 0.5], np.float32))
    done = start(
        training_data_loader=data,
        test_data_loader={"testing": False},
        infer__compute_coverage=False,
        observed_sample={"path": str(tmp_path / "x.npy")},
    )
    assert (samples(done.folder, 0).mean(0) > samples(trained.models, 0).mean(0)).all()


def test_set_of_a_round_may_be_given(
    start: Callable[..., InferResult], trained: Training, tmp_path: Path
) -> None:
    root = tmp_path / "given"
    for round_ in (0, 1):
        # the other way round, to see that they are read
        source = trained.tests[1 - round_].parent
        shutil.copytree(source, root / "generated_dataset" / f"round_{round_}")
    given = {
        "dataset_path_round_0": str(root / "generated_dataset" / "round_0"),
        "dataset_path": str(root / "generated_dataset"),
    }
    folder = start(test_data_loader=given).folder
    for round_ in (0, 1):
        np.testing.assert_array_equal(
            truths_of(folder, round_), truths_of(trained.models, 1 - round_)
        )


def test_of_several_sets_that_of_the_training_is_taken(
    start: Callable[..., InferResult], trained: Training
) -> None:
    source = trained.tests[1].parent
    other = source.with_name("round_1_0123456789ab")
    shutil.copytree(source, other)
    try:
        folder = start().folder
        np.testing.assert_array_equal(truths_of(folder, 1), truths_of(trained.models, 1))
        with pytest.raises(
            ConfigError, match=r"holds \d test sets of round 1, none of which is known"
        ):
            start(name="untracked", infer__load_dir=str(_copy(trained, other.parent / "copy")))
    finally:
        shutil.rmtree(other)
        shutil.rmtree(other.parent / "copy", ignore_errors=True)


# --- where the rounds come from -------------------------------------------------------------


def _copy(trained: Training, target: Path) -> Path:
    shutil.copytree(trained.models, target)
    return target


def test_rounds_of_a_run_are_those_of_its_folder(
    start: Callable[..., InferResult], trained: Training, inferred: InferResult
) -> None:
    done = start(infer__load_dir=f"runs:/{trained.run_id}", infer__compute_coverage=False)
    for round_ in (0, 1):
        np.testing.assert_array_equal(
            samples(done.folder, round_), samples(inferred.folder, round_)
        )


def test_damaged_artifact_is_refused(
    trained: Training, at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect()
    (member,) = tree(store, trained.run_id).children[1].children
    uri = store.client.get_run(member.run_id).info.artifact_uri
    path = Path(str(uri).removeprefix("file://")) / "estimator.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(TrackingError, match=r"estimator\.safetensors of run .*SHA-256"):
            load_rounds(Path(f"runs:/{trained.run_id}"), 2)
    finally:
        path.write_bytes(whole)
    assert len(load_rounds(Path(f"runs:/{trained.run_id}"), 2).posteriors) == 2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("member", "is of kind 'member'|of kind"),
        ("missing", "run 0123456789abcdef"),
        ("rounds", r"has no round 2; set trainer.num_rounds to 2"),
    ],
)
def test_run_that_has_no_such_rounds(
    trained: Training, at_work: Path, inferred: InferResult, kind: str, message: str
) -> None:
    run_id = {"member": inferred.run_id, "missing": "0123456789abcdef" * 2}.get(
        kind, trained.run_id
    )
    with pytest.raises(TrackingError, match=message):
        load_rounds(Path(f"runs:/{run_id}"), 3)


def test_newest_launch_of_a_name_is_taken(tmp_path: Path) -> None:
    for stamp in ("20250101_000000", "20250101_000000_9", "20250101_000000_10"):
        (tmp_path / stamp / "round_0").mkdir(parents=True)
    (tmp_path / "20260101_000000").mkdir()
    assert launch_folder(tmp_path).name == "20250101_000000_10"
    assert launch_folder(tmp_path / "20250101_000000").name == "20250101_000000"
    with pytest.raises(ConfigError, match="holds no round_0"):
        launch_folder(tmp_path / "20260101_000000")
    with pytest.raises(ConfigError, match="no such folder"):
        launch_folder(tmp_path / "gone")


def test_nothing_is_unpickled(
    start: Callable[..., InferResult],
    trained: Training,
    inferred: InferResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = _copy(trained, tmp_path / "copy")
    pickles = list(folder.rglob("*.pickle"))
    assert len(pickles) == 4
    for path in pickles:
        path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    done = start(infer__load_dir=str(folder), infer__compute_coverage=False)
    np.testing.assert_array_equal(samples(done.folder, 1), samples(inferred.folder, 1))


# --- what it refuses ------------------------------------------------------------------------


REFUSED: dict[str, tuple[Values, type[Exception], str]] = {
    "folder that does not exist": (
        {"infer__load_dir": "gone"},
        ConfigError,
        r"infer\.load_dir: no such folder 'gone'",
    ),
    "round that was not trained": (
        {"trainer__num_rounds": 3},
        DataError,
        r"round 2: .*round_2/posterior\.json: no such file; .*trainer\.num_rounds to 2",
    ),
    "other prior": (
        {"prior_ranges__low": [-0.5, -1.0]},
        ConfigError,
        r"prior_ranges\.low: is \[-0\.5, -1\.0\], but .* was trained with \[-1\.0, -1\.0\]",
    ),
    "other scaling": (
        {"training_data_loader__standardize": False},
        ConfigError,
        r"training_data_loader: scaling: is none, but .* was trained with standardize",
    ),
    "other components of x": (
        {"training_data_loader__filter_inputs": ["x_2", "x_1"]},
        ConfigError,
        r'filter_inputs: is \["x_2", "x_1"\], but .* was trained with \["x_1", "x_2"\]',
    ),
    "other method": (
        {"trainer__type": "snle", "trainer__truncated_prior": False},
        ConfigError,
        r"trainer\.type: is snle, but .* was trained with snpe",
    ),
    "no test set of round 0": (
        {"test_data_loader": {"dataset_path_round_0": "gone"}},
        ConfigError,
        r"gone: holds no dataset_full\.csv; make one with `mlpop simulate`",
    ),
    "no path to the test set of round 0": (
        {"test_data_loader": {"testing": False}},
        ConfigError,
        r"test_data_loader\.dataset_path_round_0: is required when infer\.compute_coverage",
    ),
    "no test set of round 1": (
        {"test_data_loader__dataset_path": "elsewhere"},
        ConfigError,
        r"elsewhere/generated_dataset/round_1' holds no dataset_full\.csv, the test set of "
        r"round 1; make one with `mlpop simulate --set save_dir=elsewhere/generated_dataset/"
        r"round_1`, or set infer\.sim_dataset to true",
    ),
    "x_o that is not there": (
        {"observed_sample": {"path": "gone.npy"}},
        DataError,
        r"observed_sample\.path: gone\.npy: no such file",
    ),
    "folder that cannot be written": (
        {"infer__save_dir": "/proc/mlpop"},
        ConfigError,
        r"infer\.save_dir: '/proc/mlpop' cannot be written",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused_before_a_run_is_opened(
    case: str, start: Callable[..., InferResult], tmp_path: Path
) -> None:
    changes, error, message = REFUSED[case]
    before = {run.info.run_id for run in find(connect(), {"mlpop.kind": "infer"})}
    with pytest.raises(error, match=message):
        start(**changes)
    assert {run.info.run_id for run in find(connect(), {"mlpop.kind": "infer"})} == before
    assert not (tmp_path / "inferred").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("round_1/member_00/estimator.safetensors", r"round 1: .*SHA-256"),
        ("round_1/member_00/estimator.json", r"round 1: .*estimator\.json"),
        ("round_0/posterior.json", r"round 0: .*posterior\.json"),
        ("round_0/problem.json", r"round 0: .*problem\.json"),
        ("round_0/x_o.npy", r"round 0: .*observed sample cannot be read"),
    ],
)
def test_damaged_round_is_named(
    trained: Training, tmp_path: Path, file: str, message: str
) -> None:
    folder = _copy(trained, tmp_path / "copy")
    (folder / file).write_bytes((folder / file).read_bytes()[:-20])
    with pytest.raises(DataError, match=message):
        load_rounds(folder, 2)


def test_observed_sample_of_another_shape(
    start: Callable[..., InferResult], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"has shape \[3\], one x of the training set has \[2\]"):
        start(observed_sample={"path": str(tmp_path / "x.npy")})


def test_error_is_shown_at_once_while_the_store_is_away(
    at_work: Path,
    vectors: Callable[..., Values],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed inference does not wait for the store to keep its log."""
    config = SbiConfig.parse(vectors(tmp_path, name="away"))
    source = SimpleNamespace(source="nowhere", origin=lambda store: None)
    job = SimpleNamespace(config=config, trained=source, save_dir=tmp_path)

    def waits(*_: Any, **__: Any) -> None:
        pytest.fail("waits for the store")

    def fails(*_: Any) -> None:
        monkeypatch.setattr(TrackedRun, "answers", lambda run: False)
        monkeypatch.setattr("mlpop.tracking.artifacts.send", waits)
        raise DataError("a broken file")

    monkeypatch.setattr("mlpop.commands.infer.prepare", lambda config: job)
    monkeypatch.setattr("mlpop.commands.infer.infer_rounds", fails)
    with pytest.raises(DataError, match="a broken file"):
        infer(config)
