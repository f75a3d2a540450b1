"""Whole trainings: outputs, trials, convergence, tracking, inference, determinism."""

import csv
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from point_data import LABELS, SIZE, blob_maps, draw_theta, write_dataset
from torch import nn

from mlpop.commands.infer_nn import infer_nn
from mlpop.commands.train_nn import choose, convergence_thresholds, train_nn
from mlpop.errors import ConfigError, DataError, TrainingError
from mlpop.experiment.point.trial import TrialResult
from mlpop.regression.checkpoint import load_model
from mlpop.tracking import connect, tree

pytestmark = pytest.mark.usefixtures("tracked")
light = pytest.mark.usefixtures("light")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def read(path: Path):
    return json.loads(path.read_text())


@pytest.fixture
def trained(configuration):
    config = configuration(trainer__epochs=4, trainer__tensorboard=True)
    return config, train_nn(config)


def test_a_file_shaped_like_the_references_trains(configuration):
    """With its block that resumes nothing, and a metric without arguments."""
    config = configuration(
        resume_training={"resume": False},
        metric={"type": "MetricAccuracy", "args": {}},
        trials=1,
        trainer__epochs=2,
    )
    records = read(train_nn(config).logs / "valid_results.json")
    assert all(0 <= record["MetricAccuracy"] <= 100 for record in records.values())
    assert set(records) == {"00001", "00002"}


def test_outputs_and_tracking_N01_N14_N16_B15(trained):
    config, result = trained
    root = config.trainer.save_dir
    assert result.logs.parent == root / "logs" / "points"
    assert result.models == root / "models" / "points" / result.logs.name
    names = {"train_results.json", "train_eval_results.json", "valid_results.json"}
    expected = {"log.txt", *names}
    expected |= {f"trial_{t}/{name}" for t in (1, 2) for name in (*names, "trial.json")}
    expected |= {f"{stem}.{kind}" for stem in ("residuals", "losses") for kind in ("pdf", "png")}
    found = files(result.logs)
    assert expected <= found
    assert sum("tfevents" in name for name in found) == 2
    assert files(result.models) == {
        ".mlpop-run",
        "config.json",
        "trials.json",
        "best_model.pth",
        *(f"best_model_trial{t}.pth" for t in (1, 2)),
        *(f"checkpoint_trial{t}_epoch{e}.pth" for t in (1, 2) for e in (2, 4)),
    }
    assert read(result.models / "config.json") == config.resolved()
    for name in names:
        values = read(result.logs / name)
        assert list(values) == ["00001", "00002", "00003", "00004"]
        assert values == read(result.logs / f"trial_{result.chosen.trial}" / name)
        for numbers in values.values():
            assert sorted(numbers) == sorted([*LABELS, "loss", "MetricAccuracyMSE"])
            assert numbers["loss"] == pytest.approx(sum(numbers[n] for n in LABELS), abs=1e-6)
            assert numbers["MetricAccuracyMSE"] == pytest.approx(numbers["loss"] / 2)
    assert "trial 1 epoch 4: train" in (result.logs / "log.txt").read_text()
    _check_runs(result)


def _check_runs(result):
    store = connect()
    node = tree(store, result.run_id)
    assert (node.kind, node.status, node.state) == ("train_nn", "FINISHED", "complete")
    assert [(child.kind, child.name) for child in node.children] == [
        ("trial", "trial_00"),
        ("trial", "trial_01"),
    ]
    valid = read(result.logs / "trial_2" / "valid_results.json")
    child = node.children[1]
    for key in ("train", "train_eval", "valid"):
        for name in (*LABELS, "loss", "MetricAccuracyMSE"):
            history = store.client.get_metric_history(child.run_id, f"{key}/{name}")
            assert [point.step for point in history] == [1, 2, 3, 4]
    history = store.client.get_metric_history(child.run_id, f"valid/{LABELS[0]}")
    assert [p.value for p in history] == [valid[e][LABELS[0]] for e in valid]
    assert [p.value for p in store.client.get_metric_history(child.run_id, "lr")] == [1e-3] * 4
    run = store.client.get_run(result.run_id)
    assert run.data.metrics["best/trial"] == result.chosen.trial
    assert run.data.params["cfg.trials"] == "2"
    assert len(run.data.metrics) <= 15
    assert {d.dataset.name for d in run.inputs.dataset_inputs} == {"training", "validation"}
    plots = {item.path for item in store.client.list_artifacts(result.run_id, "plots")}
    assert {"plots/predicted_against_true.png", "plots/residuals.png", "plots/losses.png"} <= plots


def test_model_in_mlflow_takes_maps_and_gives_labels(trained, monkeypatch):
    import mlflow

    _, result = trained
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    store = connect()
    mlflow.set_tracking_uri(store.uri)
    run = store.client.get_run(result.run_id)
    (output,) = run.outputs.model_outputs
    logged = store.client.get_logged_model(output.model_id)
    assert str(logged.status) == "READY"
    assert logged.experiment_id == run.info.experiment_id
    model = mlflow.pyfunc.load_model(result.model_uri)
    maps = blob_maps(draw_theta(4, 9)).astype(np.float32)
    table = model.predict(maps)
    assert list(table) == [f"predicted:{label}" for label in LABELS]
    from mlpop.regression.prediction import PointEstimator

    direct = PointEstimator.load(result.models / "best_model.pth")(maps)
    np.testing.assert_array_equal(table.to_numpy(), direct.predicted)
    assert str(model.metadata.signature.inputs.inputs[0].shape) == f"(-1, 3, {SIZE}, {SIZE})"
    with pytest.raises(mlflow.exceptions.MlflowException):
        model.predict(maps[:, :2])


def digest_of(folder: Path, names) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@light
def test_same_seed_same_files_F2(configuration):
    first = train_nn(configuration(trials=1))
    second = train_nn(configuration(trials=1))
    other = train_nn(configuration(trials=1, manual_seed=6))
    assert second.logs != first.logs
    names = ["train_results.json", "train_eval_results.json", "valid_results.json"]
    assert digest_of(first.logs, names) == digest_of(second.logs, names)
    assert digest_of(first.logs, names) != digest_of(other.logs, names)
    weights = [load_model(r.models / "best_model.pth")[0].weights for r in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@light
def test_streamed_training_has_the_bits_of_one_in_memory(configuration):
    memory = train_nn(configuration(trials=1))
    streamed = train_nn(
        configuration(
            trials=1,
            training_data_loader__args__cache_mb=0,
            validation_data_loader__args__cache_mb=0,
        )
    )
    names = ["train_results.json", "valid_results.json"]
    assert digest_of(memory.logs, names) == digest_of(streamed.logs, names)


@light
def test_stops_at_the_first_converged_trial_N03(configuration):
    loose = {f"{LABELS[0]}_threshold": 1e6, LABELS[1]: 1e6}
    result = train_nn(configuration(convergence=loose, trials=5))
    assert [t.converged for t in result.trials] == [True]
    assert result.chosen.trial == 1
    listed = read(result.models / "trials.json")
    assert {"trial", "monitor", "losses", "converged", "seconds"} <= set(listed[0])
    assert read(result.logs / "valid_results.json")[f"{result.chosen.best_epoch:05d}"][
        LABELS[0]
    ] == pytest.approx(listed[0]["losses"][LABELS[0]])


@light
def test_best_trial_is_kept_when_none_converges_N03(configuration, caplog):
    with caplog.at_level(logging.WARNING, logger="mlpop"):
        logging.getLogger("mlpop").propagate = True
        result = train_nn(configuration(trials=3, trainer__epochs=2))
    assert [t.converged for t in result.trials] == [False] * 3
    assert result.chosen.monitor == min(t.monitor for t in result.trials)
    best = (result.models / "best_model.pth").read_bytes()
    assert best == (result.models / f"best_model_trial{result.chosen.trial}.pth").read_bytes()


def trial(number, monitor, *, converged=False, failed=False):
    return TrialResult(number, monitor, monitor, {}, converged, failed, 1, 1, "epochs", 1.0)


@light
def test_choice_of_the_trial_N03():
    a, b, bad = trial(1, 3.0), trial(2, 1.0), trial(3, 0.1, failed=True)
    assert choose([a, b, bad]) is b
    done = trial(4, 5.0, converged=True)
    assert choose([a, b, bad, done]) is done
    with pytest.raises(TrainingError, match="all 1 trials failed"):
        choose([bad])


@light
def test_convergence_is_strict_F6_N03(configuration):
    once = train_nn(configuration(trials=1, convergence={}))
    losses = once.chosen.losses
    assert once.chosen.converged
    exact = {f"{label}_threshold": value for label, value in losses.items()}
    assert not train_nn(configuration(trials=1, convergence=exact)).chosen.converged
    above = {name: value * (1 + 1e-12) for name, value in exact.items()}
    assert train_nn(configuration(trials=1, convergence=above)).chosen.converged


@light
def test_thresholds_D10(caplog):
    logging.getLogger("mlpop").propagate = True
    with caplog.at_level(logging.WARNING, logger="mlpop"):
        found = convergence_thresholds({"a_threshold": 1.0, "b": 2.0, "h_c_threshold": 3.0}, "ab")
    assert found == {"a": 1.0, "b": 2.0}
    assert "h_c_threshold: no such label is predicted; the labels are a, b" in caplog.text
    with pytest.raises(ConfigError, match="'a' has two thresholds, 1.0 and 2.0"):
        convergence_thresholds({"a_threshold": 1.0, "a": 2.0}, "ab")


@light
def test_nan_trial_is_failed_and_never_converged_N03_C2(configuration):
    with pytest.raises(TrainingError, match="all 2 trials failed"):
        train_nn(
            configuration(
                convergence={},
                optimizer={"type": "SGD", "args": {"lr": 1e30}},
                trainer__epochs=30,
            )
        )
    store = connect()
    runs = store.client.search_runs(
        [store.client.get_experiment_by_name("points").experiment_id], max_results=3
    )
    top = next(run for run in runs if run.data.tags["mlpop.kind"] == "train_nn")
    assert top.info.status == "FAILED"
    assert "all 2 trials failed" in top.data.tags["mlpop.error"]
    for child in tree(store, top.info.run_id).children:
        assert child.tags["mlpop.failed"] == "True"
        assert child.tags["mlpop.converged"] == "False"


class Average(nn.Module):
    """A network of the user's own that knows nothing of mlpop's arguments."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(3, outputs)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


def test_own_network_N05(configuration, monkeypatch):
    import sys
    import types

    module = types.ModuleType("user_points")
    module.Average = Average
    monkeypatch.setitem(sys.modules, "user_points", module)
    result = train_nn(
        configuration(trials=1, arch={"type": "user_points:Average", "args": {"outputs": 2}})
    )
    assert result.chosen.best_epoch >= 1
    with pytest.raises(ConfigError, match="Average gives 3 numbers a sample, the loss needs 2"):
        train_nn(configuration(arch={"type": "user_points:Average", "args": {"outputs": 3}}))


def test_gaussian_loss_writes_sigma_A4(configuration):
    config = configuration(trials=1, loss={"type": "LossNLL", "args": {}})
    result = train_nn(config)
    found = infer_nn(config, result.models / "best_model.pth")
    header = found.csv.read_text().splitlines()[0].split(",")
    assert header[4:] == [f"sigma:{label}" for label in LABELS]
    assert (found.predictions.sigma > 0).all()


@light
def test_classes_are_trained_and_predicted_D3(data, configuration):
    from mlpop.io.files import write_csv

    rows = list(csv.reader((data / "train.csv").open()))
    table = [[*row[:3], int(float(row[3]) > 13)] for row in rows[1:]]
    write_csv(data / "classes.csv", [*rows[0][:3], "magnetar"], table)
    config = configuration(
        trials=1,
        arch__args__num_parameters=1,
        loss={"type": "LossNLL", "args": {"mode": "class", "num_classes": 2}},
        metric={"type": "MetricAccuracy"},
        convergence={},
        trainer__epochs=25,
        validation_data_loader=...,
        training_data_loader__args__dataset_path=str(data / "classes.csv"),
        training_data_loader__args__filter_labels=[3],
        test_data_loader__args__dataset_path=str(data / "classes.csv"),
        test_data_loader__args__filter_labels=[3],
    )
    result = train_nn(config)
    assert result.chosen.monitor > 90
    found = infer_nn(config, result.models / "best_model.pth")
    assert set(found.predictions.predicted.ravel()) == {0.0, 1.0}


@light
@pytest.mark.parametrize("optional", ["validation_data_loader", "convergence"])
def test_optional_blocks_may_be_missing_N10_N13_C6(configuration, optional):
    result = train_nn(configuration(trials=1, **{optional: ...}))
    assert result.chosen.best_epoch >= 1
    assert (result.logs / "valid_results.json").is_file() == (optional == "convergence")


@light
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"training_data_loader": ...}, ConfigError, "training_data_loader: is required"),
        (
            {"arch__type": "ModelCon"},
            ConfigError,
            "arch.type: unknown network 'ModelCon'; allowed",
        ),
        (
            {"weights_initializer": {"type": "Kaiming"}},
            ConfigError,
            "weights_initializer.type: unknown initializer",
        ),
        ({"loss": {"type": "MSE"}}, ConfigError, "loss.type: unknown loss"),
        ({"metric": {"type": "MSE"}}, ConfigError, "metric.type: unknown metric"),
        ({"optimizer": {"type": "Adm"}}, ConfigError, "optimizer.type: unknown optimizer"),
        ({"lr_scheduler": {"type": "Step"}}, ConfigError, "lr_scheduler.type: unknown"),
        (
            {"arch__args__input_shape": [3, 16, 16]},
            ConfigError,
            r"input_shape: is \[3, 16, 16\], but .*train.csv holds maps of shape \[3, 12, 12\]",
        ),
        (
            {"training_data_loader__args__dataset_path": "gone.csv"},
            DataError,
            r"^training_data_loader\.args\.dataset_path: gone\.csv: no such file",
        ),
        (
            {"training_data_loader__args__statistic_path": "gone.json"},
            DataError,
            r"^training_data_loader\.args\.statistic_path: gone\.json: no such file",
        ),
        (
            {"validation_data_loader__args__dataset_path": "gone.csv"},
            DataError,
            r"^validation_data_loader\.args\.dataset_path: gone.csv.* `mlpop simulate` makes",
        ),
    ],
)
def test_nothing_is_written_when_the_configuration_is_wrong_N01_N06_N11_N12_N20(
    configuration, changes, error, message
):
    config = configuration(**changes)
    with pytest.raises(error, match=message) as caught:
        train_nn(config)
    assert "\n" not in str(caught.value)
    assert not config.trainer.save_dir.exists()


@light
def test_inference_N17_N18_N19_N21_F9(trained, data, tmp_path):
    config, result = trained
    model = result.models / "best_model.pth"
    config = config.model_copy(update={"infer": type(config.infer)(save_dir=tmp_path / "inf")})
    found = infer_nn(config, model, [2, 0])
    assert found.csv.parent.parent == tmp_path / "inf" / "logs" / "points"
    assert not (tmp_path / "inf" / "models").exists()
    assert (found.csv.parent / "log.txt").is_file()
    rows = list(csv.reader(found.csv.open()))
    assert rows[0] == [f"{k}:{label}" for k in ("target", "predicted") for label in LABELS]
    source = list(csv.reader((data / "test.csv").open()))[1:]
    assert [row[:2] for row in rows[1:]] == [source[0][3:], source[2][3:]]
    everything = infer_nn(config, model)
    assert len(everything.rows) == 10
    np.testing.assert_allclose(
        everything.predictions.predicted[[0, 2]], found.predictions.predicted, rtol=1e-6
    )
    assert everything.numbers[LABELS[0]]["rmse_over_std"] < 1
    node = tree(connect(), found.run_id)
    assert (node.kind, node.state) == ("infer_nn", "complete")
    with pytest.raises(DataError, match="has the rows 0 to 9, found 10"):
        infer_nn(config, model, [10])
    with pytest.raises(DataError, match="no such trained model"):
        infer_nn(config, tmp_path / "none.pth")


@light
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"filter_inputs": [0, 2, 1]}, ConfigError, "args.filter_inputs: must be as in the train"),
        ({"filter_labels": [4, 3]}, ConfigError, "args.filter_labels: must be as in the training"),
        ({"standardize": False}, ConfigError, "args.standardize: must be as in the training"),
        ({"filter_inputs": [0, 1]}, ConfigError, r"one entry a channel of .*input_shape \(3\)"),
    ],
)
def test_test_loader_must_fit_the_training_N17(configuration, changes, error, message):
    result = train_nn(configuration(trials=1, trainer__epochs=1))
    args = {f"test_data_loader__args__{key}": value for key, value in changes.items()}
    config = configuration(training_data_loader=..., validation_data_loader=..., **args)
    with pytest.raises(error, match=message):
        infer_nn(config, result.models / "best_model.pth")


@light
def test_wrong_resolution_at_inference_N20(configuration, tmp_path):
    result = train_nn(configuration(trials=1, trainer__epochs=1))
    model = result.models / "best_model.pth"
    wide = write_dataset(tmp_path, "wide", draw_theta(3, 0), shape=(SIZE, 2 * SIZE))
    blocks = dict(training_data_loader=..., validation_data_loader=...)
    path = {"test_data_loader__args__dataset_path": str(wide)}
    with pytest.raises(DataError, match=r"maps have shape \(3, 12, 24\).*layer fc1.weight"):
        infer_nn(configuration(**blocks, **path), model)
    shape = {"arch__args__input_shape": [3, SIZE, 2 * SIZE]}
    with pytest.raises(DataError, match=r"layer fc1.weight has shape \(64, 64\) in the trained"):
        infer_nn(configuration(**blocks, **path, **shape), model)
    with pytest.raises(ConfigError, match="arch.type: is 'ModelLinear', but .* is a 'ModelConv'"):
        infer_nn(configuration(**blocks, arch__type="ModelLinear"), model)


@light
def test_trained_model_continues_or_starts_N15(configuration):
    whole = train_nn(configuration(trials=1, trainer__epochs=4))
    short = train_nn(configuration(trials=1, trainer__epochs=2))
    checkpoint = short.models / "checkpoint_trial1_epoch2.pth"
    continued = train_nn(configuration(trials=1, trainer__epochs=4), trained_model=checkpoint)
    names = ["train_results.json", "valid_results.json"]
    assert digest_of(continued.logs, names) == digest_of(whole.logs, names)
    best = whole.models / "best_model.pth"
    tuned = train_nn(configuration(trials=1, trainer__epochs=1), trained_model=best)
    first = [read(r.logs / "valid_results.json")["00001"]["loss"] for r in (tuned, whole)]
    assert first[0] < first[1]
    other = configuration(
        trials=1,
        training_data_loader__args__filter_labels=[4, 3],
        validation_data_loader__args__filter_labels=[4, 3],
    )
    with pytest.raises(DataError, match="--trained_model: .* has the labels"):
        train_nn(other, trained_model=best)


@light
def test_tutorial_07_D1(configuration, data):
    """Train, read the JSON files, count epochs, run inference, compare with the truth."""
    config = configuration(trials=1, trainer__epochs=40, trainer__early_stop=30)
    result = train_nn(config)
    train_eval, valid = (
        read(result.logs / f"{name}_results.json") for name in ("train_eval", "valid")
    )
    assert len(train_eval) == len(valid) == result.chosen.epochs
    assert valid["00040"]["loss"] < 0.2 * valid["00001"]["loss"]
    found = infer_nn(config, result.models / "best_model_trial1.pth")
    table = np.genfromtxt(found.csv, delimiter=",", names=True, deletechars="")
    for label in LABELS:
        residual = table[f"predicted:{label}"] - table[f"target:{label}"]
        assert np.sqrt(np.mean(residual**2)) < 0.4 * np.std(table[f"target:{label}"])
