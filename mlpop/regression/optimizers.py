"""Optimizers and learning-rate schedulers of torch by name."""

import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from mlpop.config.messages import nearest
from mlpop.errors import ConfigError

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
"""Optimizers whose fused kernel is used unless the configuration says how to compute."""

T = TypeVar("T")
_HOW = {"fused", "foreach", "capturable", "differentiable"}


def optimizers() -> dict[str, type[Optimizer]]:
    """Return the usable classes of `torch.optim` by name."""
    # LBFGS searches along lines and evaluates the loss several times a step
    return {n: c for n, c in _classes(torch.optim, Optimizer).items() if n != "LBFGS"}


def schedulers() -> dict[str, type[lr_scheduler.LRScheduler]]:
    """Return the classes of `torch.optim.lr_scheduler` by name."""
    return _classes(lr_scheduler, lr_scheduler.LRScheduler)


def _classes(module: ModuleType, base: type[T]) -> dict[str, type[T]]:
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value is not base
        and not name.startswith("_")
    }


def build_optimizer(
    name: str, args: Mapping[str, Any], parameters: Iterable[nn.Parameter]
) -> Optimizer:
    """Return the optimizer `name` over the parameters that can be trained.

    Raises:
        ConfigError: unknown class or argument, or a value that it refuses.
    """
    kinds = optimizers()
    _check("optimizer.type", "optimizer", name, kinds)
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if not trainable:
        raise ConfigError("arch.type: the network has no parameter that can be trained")
    values = dict(args)
    if name in FUSED and not _HOW & set(values):
        values["fused"] = True
    return _made("optimizer.args", name, kinds[name], trainable, values)


def build_scheduler(
    name: str, args: Mapping[str, Any], optimizer: Optimizer
) -> lr_scheduler.LRScheduler:
    """Return the scheduler `name`, to be stepped once an epoch.

    Raises:
        ConfigError: unknown class or argument, or a value that it refuses.
    """
    kinds = schedulers()
    _check("lr_scheduler.type", "scheduler", name, kinds)
    return _made("lr_scheduler.args", name, kinds[name], optimizer, dict(args))


def _check(field: str, noun: str, name: str, kinds: Mapping[str, Any]) -> None:
    if name in kinds:
        return
    near = nearest(name, list(kinds))
    hint = f"; did you mean '{near}'?" if near else ""
    raise ConfigError(
        f"{field}: unknown {noun} '{name}'{hint} (allowed: {', '.join(sorted(kinds))})"
    )


def _made(field: str, name: str, kind: Any, first: Any, values: dict[str, Any]) -> Any:
    signature = inspect.signature(kind)
    try:
        signature.bind(first, **values)
    except TypeError as error:
        allowed = ", ".join(list(signature.parameters)[1:])
        raise ConfigError(f"{field} of {name}: {error}; allowed: {allowed}") from None
    try:
        return kind(first, **values)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"{field} of {name}: {error}") from None
