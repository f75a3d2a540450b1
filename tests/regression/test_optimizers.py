import pytest
import torch
from torch import nn

from mlpop.errors import ConfigError
from mlpop.regression.optimizers import build_optimizer, build_scheduler, optimizers, schedulers


def parameters():
    return nn.Linear(3, 2).parameters()


@pytest.mark.parametrize("name", sorted(set(optimizers()) - {"SparseAdam", "Muon"}))
def test_every_optimizer_of_torch_takes_a_step_N11(name):
    network = nn.Linear(3, 2)
    before = network.weight.detach().clone()
    optimizer = build_optimizer(name, {}, network.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    assert not torch.equal(network.weight, before)


def test_arguments_are_passed_through_N11():
    optimizer = build_optimizer("Adam", {"lr": 0.5, "weight_decay": 0.1}, parameters())
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.5, 0.1, True)
    assert build_optimizer("Adam", {"foreach": True}, parameters()).param_groups[0]["foreach"]


def test_frozen_parameters_are_left_out_N11():
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    optimizer = build_optimizer("SGD", {}, network.parameters())
    assert len(optimizer.param_groups[0]["params"]) == 1
    network.weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter that can be trained"):
        build_optimizer("SGD", {}, network.parameters())


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("adam", {}, r"optimizer.type: unknown optimizer 'adam'; did you mean 'Adam'\?"),
        ("LBFGS", {}, "unknown optimizer 'LBFGS'"),
        ("Adam", {"learning_rate": 1}, "optimizer.args of Adam: .*'learning_rate'; allowed: lr"),
        ("Adam", {"lr": -1}, "optimizer.args of Adam: Invalid learning rate"),
        ("Adam", {"lr": "fast"}, "optimizer.args of Adam"),
    ],
)
def test_optimizer_errors_N11(name, args, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_optimizer(name, args, parameters())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("StepLr", {}, r"lr_scheduler.type: unknown scheduler 'StepLr'; did you mean 'StepLR'\?"),
        ("StepLR", {}, "lr_scheduler.args of StepLR: .*step_size"),
        ("StepLR", {"step_size": 2, "gama": 1}, "'gama'; allowed: step_size, gamma"),
    ],
)
def test_scheduler_errors_N13(name, args, message):
    optimizer = build_optimizer("SGD", {}, parameters())
    with pytest.raises(ConfigError, match=message):
        build_scheduler(name, args, optimizer)


def test_schedulers_are_those_of_torch_N13():
    assert {"StepLR", "CosineAnnealingLR", "ReduceLROnPlateau", "OneCycleLR"} <= set(schedulers())
    assert "LRScheduler" not in schedulers()
