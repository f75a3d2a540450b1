import numpy as np
import pytest
import torch

from mlpop.errors import ConfigError
from mlpop.regression.losses import build_loss
from mlpop.regression.metrics import build_metric

# the example table of the user documents: true B, true P, predicted B, predicted P
SHIPPED = torch.tensor(
    [
        [12.8414, -0.8420, 12.7719, -0.9049],
        [13.4751, -0.8544, 13.3115, -0.7742],
        [13.0185, -1.3988, 12.9350, -1.3471],
        [13.1814, -0.6673, 13.0620, -0.6512],
    ],
    dtype=torch.float64,
)
TRUE, PREDICTED = SHIPPED[:, :2], SHIPPED[:, 2:]
ONE = torch.ones(2, dtype=torch.float64)
STD = (0.5, 0.25)


def value(name, args=None, predictions=PREDICTED, targets=TRUE, unit=ONE):
    metric = build_metric(name, args or {}, "regression", STD)
    return float(metric(predictions, targets, unit))


def test_shipped_example_D1_A5_N12():
    losses = build_loss("LossMSE", {}).per_label(PREDICTED, TRUE)
    assert losses.tolist() == pytest.approx([0.0132101, 0.0033328], abs=1e-5)
    assert value("MetricAccuracyMSE") == pytest.approx(0.0082715, abs=1e-5)
    assert value("MetricAccuracyRMSE") == pytest.approx(0.0082715**0.5, abs=5e-5)
    mae = build_loss("LossMAE", {}).per_label(PREDICTED, TRUE)
    assert mae.tolist() == pytest.approx([0.10902, 0.05275], abs=5e-5)
    assert value("MetricAccuracyMAE") == pytest.approx((0.10902 + 0.05275) / 2, abs=5e-5)


@pytest.mark.parametrize("kind", ["MAE", "MSE"])
def test_metric_is_mean_of_losses_of_its_kind_A5(kind):
    losses = build_loss(f"Loss{kind}", {}).per_label(PREDICTED, TRUE)
    assert value(f"MetricAccuracy{kind}") == pytest.approx(float(losses.sum()) / 2, rel=1e-12)


def test_rmse_is_pooled_and_not_the_mean_of_roots_A5():
    roots = build_loss("LossRMSE", {}).per_label(PREDICTED, TRUE)
    assert value("MetricAccuracyRMSE") != pytest.approx(float(roots.mean()), rel=1e-3)


def test_chi2_is_closest_to_one_and_never_negative_A5():
    residual = (PREDICTED - TRUE).numpy()
    expected = np.mean(residual**2 / np.array(STD) ** 2)
    assert value("MetricAccuracyCHI2") == pytest.approx(expected)
    assert value("MetricAccuracyCHI2", {"sigma": 0.1}) == pytest.approx(
        np.mean(residual**2) / 0.01
    )
    pearson = value("MetricAccuracyCHI2", {"mode": "pearson"})
    assert pearson == pytest.approx(np.mean(residual**2 / np.abs(TRUE.numpy())))
    assert pearson > 0
    metric = build_metric("MetricAccuracyCHI2", {}, "regression", STD)
    assert metric.distance(0.9) < metric.distance(1.2) < metric.distance(0.5)


def test_scaled_and_physical_units_agree_A5():
    """sigma and tolerance are physical: scaled residuals with their unit give the same number."""
    width = torch.tensor([0.5, 0.25], dtype=torch.float64)
    for name, args in (
        ("MetricAccuracyCHI2", {"sigma": [0.3, 0.2]}),
        ("MetricAccuracy", {"tolerance": [0.1, 0.06]}),
    ):
        scaled = value(name, args, PREDICTED / width, TRUE / width, width)
        assert scaled == pytest.approx(value(name, args))


def test_accuracy_is_a_percentage_A5():
    assert value("MetricAccuracy", {"tolerance": 0.1}) == pytest.approx(75.0)
    metric = build_metric("MetricAccuracy", {}, "class", (1.0,))
    right = metric(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [1.0]]), ONE)
    assert float(right) == pytest.approx(200 / 3)
    assert metric.distance(90) < metric.distance(80)


def test_accuracy_without_arguments_takes_a_tenth_of_the_labels_spread_A5():
    metric = build_metric("MetricAccuracy", {}, "regression", (1.0, 20.0))
    truth = torch.zeros(4, 2, dtype=torch.float64)
    found = torch.tensor([[0.09, 1.9], [0.11, 2.1], [-0.09, 0.0], [0.0, -2.1]]).double()
    unit = torch.ones(2, dtype=torch.float64)
    assert float(metric(found, truth, unit)) == pytest.approx(100 * 5 / 8)
    scaled = torch.tensor([0.5, 4.0], dtype=torch.float64)
    assert float(metric(found / scaled, truth, scaled)) == pytest.approx(100 * 5 / 8)


@pytest.mark.parametrize(
    ("name", "args", "task", "message"),
    [
        ("MetricAccuracy", {"tolerance": [0.1]}, "regression", "one number a label"),
        ("MetricAccuracy", {"tolerance": -1}, "regression", "must be positive"),
        ("MetricAccuracyMSE", {}, "class", "cannot measure .*allowed: MetricAccuracy$"),
        ("MetricAccuracyCHI2", {"mode": "x"}, "regression", "'variance' or 'pearson'"),
        ("MetricAccuracyCHI2", {"sigma": 0}, "regression", "must be positive"),
        ("Accuracy", {}, "regression", "unknown metric 'Accuracy'; allowed: MetricAccuracy"),
    ],
)
def test_errors_N12(name, args, task, message):
    with pytest.raises(ConfigError, match=message):
        build_metric(name, args, task, STD)
