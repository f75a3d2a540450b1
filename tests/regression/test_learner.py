import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from point_data import LABELS, blob_maps, draw_theta
from torch import nn

from mlpop.config.files.regression import PointTrainerConfig
from mlpop.datasets.scaling import LabelScaling, label_statistics
from mlpop.networks.linear import ModelLinear
from mlpop.regression.data import MemorySet
from mlpop.regression.evaluation import Judge
from mlpop.regression.learner import PointLearner
from mlpop.regression.losses import build_loss
from mlpop.regression.metrics import build_metric
from mlpop.regression.optimizers import build_optimizer, build_scheduler
from mlpop.training.events import EpochEnded
from mlpop.training.loop import Training

SHAPE = (3, 12, 12)


def make(
    *,
    epochs=4,
    loss="LossMSE",
    metric="MetricAccuracyMSE",
    valid=True,
    seed=0,
    lr=1e-3,
    scheduler=None,
    network=None,
    optimizer="Adam",
    shuffle=True,
    monitor="metric",
    early_stop=None,
):
    theta = draw_theta(21, 1)
    scaling = LabelScaling("standardize", label_statistics(theta, LABELS), LABELS)

    def data(theta):
        x = blob_maps(theta).astype(np.float32)
        return MemorySet(x, theta, scaling, ("a", "b", "c"), Path("set.csv"))

    made = build_loss(loss, {})
    std = theta.std(axis=0).tolist()
    judge = Judge(
        made, build_metric(metric, {}, "regression", std), metric, scaling, torch.device("cpu")
    )
    if network is None:
        torch.manual_seed(seed)
        network = ModelLinear(SHAPE, made.output_width(2), [16])
    optimizer = build_optimizer(optimizer, {"lr": lr}, network.parameters())
    if scheduler:
        scheduler = build_scheduler(*scheduler, optimizer)
    learner = PointLearner(
        network,
        data(theta),
        data(draw_theta(9, 2)) if valid else None,
        judge,
        optimizer,
        scheduler,
        batch_size=8,
        shuffle=shuffle,
        monitor=monitor,
    )
    trainer = PointTrainerConfig(epochs=epochs, early_stop=early_stop)
    return Training(learner, torch.Generator().manual_seed(seed), trainer)


def timeless(history):
    return [dataclasses.replace(record, seconds=0.0, wall_time=0.0) for record in history]


def test_numbers_of_an_epoch_F1():
    training = make(epochs=2)
    training.run()
    for record in training.history:
        for numbers in (record.train, record.train_eval, record.valid):
            assert set(numbers) == {*LABELS, "loss", "MetricAccuracyMSE"}
            assert numbers["loss"] == pytest.approx(sum(numbers[n] for n in LABELS), abs=1e-12)
            assert numbers["MetricAccuracyMSE"] == pytest.approx(numbers["loss"] / 2, rel=1e-9)


def test_evaluation_is_in_physical_units_A9():
    training = make(epochs=1, lr=1e-9)
    training.run()
    (record,) = training.history
    width = training.learner.train.theta.std(axis=0)
    for label, w in zip(LABELS, width, strict=True):
        # the weights hardly moved, so that only the units differ
        assert record.train_eval[label] == pytest.approx(record.train[label] * w**2, rel=1e-4)
    x = torch.cat(list(training.learner.valid.evaluation()))
    with torch.no_grad():
        outputs = training.network(x).double().numpy()
    predicted = outputs * width + training.learner.train.theta.mean(axis=0)
    expected = ((predicted - training.learner.valid.theta) ** 2).mean(axis=0)
    assert [record.valid[label] for label in LABELS] == pytest.approx(expected, rel=1e-6)


def test_epoch_values_weigh_samples_A5():
    """21 samples in batches of 8: the short last batch must not count as much as the others."""
    training = make(epochs=1, lr=1e-12)
    with torch.no_grad():
        x = torch.cat(list(training.learner.train.evaluation()))
        losses = (training.network(x) - training.learner.train.targets).square().mean(0)
    training.run()
    found = [training.history[0].train[label] for label in LABELS]
    assert found == pytest.approx(losses.tolist(), rel=1e-5)


def test_same_seed_same_bits_F2():
    first, second, other = make(seed=3), make(seed=3), make(seed=4)
    for training in (first, second, other):
        training.run()
    assert timeless(first.history) == timeless(second.history)
    assert timeless(first.history) != timeless(other.history)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


class Dropping(nn.Module):
    """A network with dropout: its noise must come from the training's generator."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(432, 2))

    def forward(self, x):
        return self.layers(x)


def dropping():
    torch.manual_seed(1)
    return Dropping()


@pytest.mark.parametrize(
    "scheduler",
    [
        ("StepLR", {"step_size": 2, "gamma": 0.5}),
        ("ReduceLROnPlateau", {"patience": 0}),
        ("OneCycleLR", {"max_lr": 0.01, "total_steps": 20}),
    ],
    ids=lambda s: s[0],
)
@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "RMSprop"])
@pytest.mark.parametrize("cut", [1, 3])
def test_continued_training_has_the_bits_of_an_uninterrupted_one(scheduler, optimizer, cut):
    torch.manual_seed(99)
    options = dict(epochs=6, scheduler=scheduler, optimizer=optimizer)
    whole = make(network=dropping(), **options)
    whole.run()
    before = torch.get_rng_state()
    states = []
    broken = make(network=dropping(), **options)
    broken.run(lambda event: isinstance(event, EpochEnded) and states.append(broken.state()))
    continued = make(network=ModelLike(dropping()), **options)
    continued.restore(states[cut - 1])
    continued.run()
    assert timeless(continued.history) == timeless(whole.history)
    assert continued.best_epoch == whole.best_epoch
    for a, b in zip(
        continued.network.state_dict().values(), whole.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def ModelLike(network):
    """The same network with other first weights."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3)
    return network


class Scripted(PointLearner):
    """A network whose monitored value is given."""

    values: tuple[float, ...] = ()

    def evaluate(self, network, epoch, started):
        record = super().evaluate(network, epoch, started)
        value = self.values[epoch - 1]
        return dataclasses.replace(
            record, valid=record.valid | {"MetricAccuracyMSE": value, "loss": -value}
        )


def scripted(values, **options):
    training = make(epochs=len(values), **options)
    training.learner.__class__ = Scripted
    training.learner.values = tuple(values)
    return training


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_stops_exactly_k_epochs_after_the_best_F7_N14(patience):
    training = scripted([3, 2, 1, 5, 5, 5, 5, 5, 5], early_stop=patience)
    assert training.run() == "patience"
    assert training.best_epoch == 3
    assert training.epoch == 3 + patience


def test_equal_value_is_no_improvement_and_no_patience_means_all_epochs_N14():
    training = scripted([2, 2, 2, 2])
    assert training.run() == "max_num_epochs"
    assert training.best_epoch == 1


def test_monitor_chooses_metric_or_loss_D9():
    by_metric, by_loss = scripted([3, 1, 2]), scripted([3, 1, 2], monitor="loss")
    by_metric.run()
    by_loss.run()
    assert (by_metric.best_epoch, by_loss.best_epoch) == (2, 1)


def test_ends_with_the_best_weights():
    kept = []
    training = scripted([3, 1, 2])
    training.run(lambda event: kept.append(training.network.layers[1].weight.detach().clone()))
    assert torch.equal(training.network.layers[1].weight, kept[2])
    assert not torch.equal(kept[2], kept[3])
    assert not training.network.training


def test_nan_stops_a_trial_at_once_C2():
    training = make(epochs=50, lr=1e30, optimizer="SGD")
    assert training.run() == "nan"
    assert training.epoch < 5
    assert math.isnan(training.history[-1].train["loss"]) or math.isinf(
        training.history[-1].train["loss"]
    )


def test_scheduler_steps_once_an_epoch_N13():
    training = make(epochs=7, lr=0.1, scheduler=("StepLR", {"step_size": 3, "gamma": 0.1}))
    training.run()
    expected = [0.1 * 0.1 ** (e // 3) for e in range(7)]
    assert [record.lr for record in training.history] == pytest.approx(expected)


def test_training_set_decides_without_a_validation_set_N10():
    training = make(valid=False, epochs=3)
    training.run()
    assert training.history[0].valid is None
    best = min(training.history, key=lambda record: record.train_eval["MetricAccuracyMSE"])
    assert training.best is best


def test_order_is_new_in_every_epoch_and_fixed_without_shuffle_N07():
    orders = []

    class Watched(MemorySet):
        def batches(self, order, size):
            orders.append(order.tolist())
            return super().batches(order, size)

    for shuffle in (True, False):
        training = make(epochs=2, shuffle=shuffle)
        training.learner.train.__class__ = Watched
        training.run()
    assert sorted(orders[0]) == list(range(21))
    assert orders[0] != orders[1]
    assert orders[2] == orders[3] == list(range(21))


def test_it_learns():
    training = make(epochs=60, lr=3e-3)
    training.run()
    first, best = training.history[0].valid, training.best.valid
    assert best["loss"] < 0.1 * first["loss"]
