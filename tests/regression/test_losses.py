import math
import sys
import types

import numpy as np
import pytest
import torch
from torch import Tensor

from mlpop.errors import ConfigError, DataError
from mlpop.regression.losses import LOSSES, Loss, build_loss, register_loss

RNG = np.random.default_rng(4)
OUTPUTS = torch.from_numpy(RNG.normal(size=(7, 2)))
TARGETS = torch.from_numpy(RNG.normal(size=(7, 2)))
NAMES = ("LossMAE", "LossMSE", "LossRMSE")


def test_values_A4_N12():
    residual = (OUTPUTS - TARGETS).numpy()
    expected = {
        "LossMAE": np.abs(residual).mean(0),
        "LossMSE": (residual**2).mean(0),
        "LossRMSE": np.sqrt((residual**2).mean(0)),
    }
    for name in NAMES:
        losses = build_loss(name, {}).per_label(OUTPUTS, TARGETS)
        np.testing.assert_allclose(losses.numpy(), expected[name], rtol=1e-10)


def test_gaussian_golden_A4():
    loss = build_loss("LossNLL", {})
    outputs = torch.tensor([[0.0, 0.0]])
    assert float(loss.per_label(outputs, torch.tensor([[1.0]]))[0]) == 0.5


def test_gaussian_is_the_normal_density_A4():
    loss = build_loss("LossNLL", {"mode": "gaussian"})
    s = torch.from_numpy(RNG.normal(size=(7, 2)))
    losses = loss.per_label(torch.cat([OUTPUTS, s], 1), TARGETS)
    normal = torch.distributions.Normal(OUTPUTS, torch.exp(s / 2))
    expected = -normal.log_prob(TARGETS).mean(0) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(losses, expected)
    assert loss.output_width(2) == 4


def test_gaussian_in_physical_units_A4():
    """The density of the physical label is that of the scaled one over the width."""
    loss = build_loss("LossNLL", {})
    s = torch.from_numpy(RNG.normal(size=(7, 2)))
    scaled = torch.cat([OUTPUTS, s], 1)
    shift, width = torch.tensor([12.0, -1.0]).double(), torch.tensor([0.5, 0.3]).double()
    physical = loss.physical(scaled, shift, width)
    torch.testing.assert_close(loss.point(physical), OUTPUTS * width + shift)
    torch.testing.assert_close(loss.sigma(physical), torch.exp(s / 2) * width)
    difference = loss.per_label(physical, TARGETS * width + shift) - loss.per_label(
        scaled, TARGETS
    )
    torch.testing.assert_close(difference, torch.log(width))


def test_classes_A4():
    loss = build_loss("LossNLL", {"mode": "class", "num_classes": 3})
    assert loss.output_width(1) == 3
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    classes = torch.tensor([[0.0], [2.0], [1.0], [1.0], [0.0]])
    expected = torch.nn.functional.cross_entropy(logits, classes[:, 0].long())
    torch.testing.assert_close(loss.per_label(logits, classes)[0], expected)
    logs = torch.log_softmax(logits, 1)
    torch.testing.assert_close(loss.per_label(logs, classes)[0], expected)
    assert torch.equal(loss.point(logits)[:, 0], logits.argmax(1).double())
    assert loss.physical(logits, torch.ones(1), torch.ones(1)) is logits


@pytest.mark.parametrize("name", [*NAMES, "LossNLL"])
def test_gradient_reaches_every_output_and_is_finite_at_zero(name):
    loss = build_loss(name, {})
    width = loss.output_width(2)
    outputs = torch.zeros(6, width, requires_grad=True)
    loss.per_label(outputs, torch.zeros(6, 2)).sum().backward()
    assert bool(torch.isfinite(outputs.grad).all())
    outputs = torch.randn(6, width).requires_grad_()
    loss.per_label(outputs, torch.randn(6, 2)).sum().backward()
    assert bool((outputs.grad != 0).all())


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("LossMES", {}, "loss.type: unknown loss 'LossMES'; allowed: LossMAE, LossMSE"),
        ("LossMSE", {"weight": 1}, "loss.args of LossMSE: .*'weight'"),
        ("LossNLL", {"mode": "poisson"}, "must be 'gaussian' or 'class'"),
        ("LossNLL", {"mode": "class"}, "num_classes must be an integer of at least 2"),
        ("LossNLL", {"num_classes": 3}, "only for mode 'class'"),
    ],
)
def test_errors_N12(name, args, message):
    with pytest.raises(ConfigError, match=message):
        build_loss(name, args)


def test_classes_need_one_label_of_classes_D3():
    loss = build_loss("LossNLL", {"mode": "class", "num_classes": 3})
    with pytest.raises(ConfigError, match="exactly one label, but got 2: a, b"):
        loss.check(torch.zeros(3, 2), ("a", "b"))
    for value in (0.5, 3.0, -1.0):
        targets = torch.tensor([[0.0], [value]])
        with pytest.raises(DataError, match="label 'a', row 1: expected a class from 0 to 2"):
            loss.check(targets, ("a",))
    loss.check(torch.tensor([[0.0], [2.0]]), ("a",))


def test_own_loss_by_decorator_and_by_path(monkeypatch):
    class Cubic(Loss):
        def per_label(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs - targets).abs().pow(3).mean(0)

    module = types.ModuleType("user_losses")
    module.Cubic = Cubic
    monkeypatch.setitem(sys.modules, "user_losses", module)
    assert isinstance(build_loss("user_losses:Cubic", {}), Cubic)
    monkeypatch.setattr(LOSSES, "_classes", dict(LOSSES._classes))
    register_loss("Cubic")(Cubic)
    assert isinstance(build_loss("Cubic", {}), Cubic)
    with pytest.raises(ConfigError, match="'LossMSE' is already taken"):
        register_loss("LossMSE")(Cubic)
