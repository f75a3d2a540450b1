import json
import pickle

import numpy as np
import pytest
import torch
from point_data import LABELS

from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import ConfigError, DataError
from mlpop.networks.convolutional import ModelConv
from mlpop.regression.checkpoint import PointModel, load_model, load_weights, save_model
from mlpop.regression.prediction import (
    PointEstimator,
    Predictions,
    check_resolution,
    selected_rows,
    summary,
    write_results,
)
from mlpop.training.events import EpochEnded

from .test_learner import make, timeless

STATISTICS = {
    LABELS[0]: {"mean": 13.0, "std": 0.5, "min": 12.0, "max": 14.0},
    LABELS[1]: {"mean": -0.9, "std": 0.3, "min": -1.5, "max": -0.3},
}


def point_model(network=None, **changes):
    torch.manual_seed(0)
    network = network or ModelConv((3, 12, 12), 2)
    values = dict(
        arch="ModelConv",
        arch_args={"input_shape": [3, 12, 12], "num_parameters": 2},
        loss="LossMSE",
        loss_args={},
        labels=LABELS,
        channels=("a", "b", "c"),
        shape=(3, 12, 12),
        kind="array",
        input_scaling="standardize",
        scaling=LabelScaling("standardize", STATISTICS, LABELS),
        config="{}",
        weights=network.state_dict(),
        epoch=7,
        monitor_best=0.25,
    )
    return PointModel(**(values | changes))


def test_plain_types_only_A10(tmp_path):
    model = point_model()
    save_model(tmp_path / "m.pth", model, optimizer={"state": {}, "param_groups": []})
    content = torch.load(tmp_path / "m.pth", weights_only=True)
    assert {"arch", "epoch", "state_dict", "optimizer", "monitor_best", "config"} <= set(content)
    assert content["arch"] == "ModelConv"
    assert content["labels"] == list(LABELS)
    assert content["scaling"]["statistics"] == STATISTICS
    assert isinstance(content["version"], str)
    json.loads(content["config"])
    loaded, state = load_model(tmp_path / "m.pth")
    assert state is None
    assert (loaded.labels, loaded.scaling, loaded.epoch) == (LABELS, model.scaling, 7)
    assert all(torch.equal(loaded.weights[k], v) for k, v in model.weights.items())
    assert [p.name for p in tmp_path.iterdir()] == ["m.pth"]


def test_leading_module_is_stripped_A10(tmp_path):
    model = point_model()
    prefixed = {f"module.{name}": value for name, value in model.weights.items()}
    save_model(tmp_path / "m.pth", point_model(weights=prefixed))
    assert set(load_model(tmp_path / "m.pth")[0].weights) == set(model.weights)


def test_training_state_survives_the_file_A10(tmp_path):
    whole = make(epochs=5, scheduler=("StepLR", {"step_size": 2}))
    whole.run()
    states = []
    broken = make(epochs=5, scheduler=("StepLR", {"step_size": 2}))
    broken.run(lambda event: isinstance(event, EpochEnded) and states.append(broken.state()))
    save_model(tmp_path / "c.pth", point_model(), state=states[1])
    _, state = load_model(tmp_path / "c.pth")
    continued = make(epochs=5, scheduler=("StepLR", {"step_size": 2}))
    continued.restore(state)
    continued.run()
    assert timeless(continued.history) == timeless(whole.history)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_files_that_hold_code_are_refused_C11(tmp_path, capsys):
    torch.save({"arch": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="cannot be read without running the code"):
        load_model(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="cannot be read"):
        load_model(tmp_path / "plain.pth")
    assert capsys.readouterr().out == ""


def test_damaged_and_foreign_files_N19(tmp_path):
    with pytest.raises(DataError, match="no such trained model"):
        load_model(tmp_path / "none.pth")
    (tmp_path / "empty.pth").touch()
    save_model(tmp_path / "cut.pth", point_model())
    data = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.pth").write_text("epoch,loss\n1,0.5\n")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    np.savez(tmp_path / "numbers.npz", a=np.zeros(3))
    for name in ("empty.pth", "cut.pth", "text.pth", "page.pth", "numbers.npz"):
        with pytest.raises(DataError, match=r"cannot be read(: it is no| without)") as caught:
            load_model(tmp_path / name)
        assert "\n" not in str(caught.value)
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="is no trained model of mlpop: it has no 'arch'"):
        load_model(tmp_path / "other.pth")


def test_wrong_resolution_names_layer_and_shapes_N20():
    weights = ModelConv((3, 64, 64), 2).state_dict()
    with pytest.raises(DataError) as caught:
        load_weights(ModelConv((3, 64, 128), 2), weights, "model.pth")
    message = str(caught.value)
    assert "layer fc1.weight has shape (64, 12544) in the trained model" in message
    assert "(64, 26880) in the network" in message
    model = point_model(
        ModelConv((3, 64, 64), 2),
        arch_args={"input_shape": [3, 64, 64], "num_parameters": 2},
        shape=(3, 64, 64),
    )
    with pytest.raises(DataError, match=r"maps have shape \(3, 64, 128\).*fc1.weight.*26880"):
        check_resolution(model, (3, 64, 128), "test.csv")
    check_resolution(model, (3, 64, 64), "test.csv")
    with pytest.raises(DataError, match="layer fc2.bias is not in the trained model"):
        load_weights(
            ModelConv((3, 64, 64), 2), {k: v for k, v in weights.items() if k != "fc2.bias"}, "m"
        )


def test_estimator_takes_maps_as_they_are_stored():
    model = point_model()
    estimator = PointEstimator(model, "m")
    maps = np.random.default_rng(0).uniform(size=(5, 3, 12, 12))
    found = estimator(maps)
    assert found.predicted.shape == (5, 2)
    # scaling by its own pixels makes the amplitude of a map irrelevant
    np.testing.assert_allclose(estimator(7 * maps + 3).predicted, found.predicted, atol=1e-4)
    assert abs(found.predicted.mean(0) - [13.0, -0.9]).max() < 1
    with pytest.raises(DataError, match=r"expected maps of shape \(n, 3, 12, 12\)"):
        estimator(maps[:, :2])
    with pytest.raises(ConfigError, match="unknown network 'Gone'"):
        PointEstimator(point_model(arch="Gone"), "m")


def test_rows_in_the_order_of_the_dataset_N19_F9():
    assert selected_rows([2, 0], 4, "t.csv") == [0, 2]
    assert selected_rows([], 3, "t.csv") == [0, 1, 2]
    with pytest.raises(DataError, match="--samples: t.csv has the rows 0 to 3, found 4, 9"):
        selected_rows([4, 0, 9], 4, "t.csv")


def test_result_table_N21_C10(tmp_path):
    truth = np.array([[12.187267435646975, -1.0], [13.1, -0.5]])
    found = Predictions(("B", "P"), truth + 0.1, None)
    write_results(tmp_path / "r.csv", found, truth)
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert lines[0] == "target:B,target:P,predicted:B,predicted:P"
    assert lines[1].startswith("12.187267435646975,-1.0,")
    assert len(lines) == 3
    write_results(tmp_path / "r.csv", Predictions(("B", "P"), truth, truth * 0 + 1), truth)
    assert (
        (tmp_path / "r.csv")
        .read_text()
        .startswith("target:B,target:P,predicted:B,predicted:P,sigma:B,sigma:P\n")
    )


def test_summary_is_what_it_says():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(500, 1)) * 2
    found = Predictions(("B",), truth + 0.5, None)
    numbers = summary(found, truth)["B"]
    assert numbers["bias"] == pytest.approx(0.5)
    assert numbers["mae"] == pytest.approx(0.5)
    assert numbers["rmse"] == pytest.approx(0.5)
    assert numbers["rmse_over_std"] == pytest.approx(0.5 / truth.std())
    guess = summary(Predictions(("B",), truth * 0 + truth.mean(), None), truth)["B"]
    assert guess["rmse_over_std"] == pytest.approx(1)
