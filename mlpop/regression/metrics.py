"""One number that says how good predictions are, and by which trainings are compared.

A metric of your own is a subclass of `Metric`, registered with `@register_metric("Name")`, by an
entry point of the group `mlpop.metrics`, or named `package.module:Class` in the configuration.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlpop.config.registry import Registry
from mlpop.errors import ConfigError
from mlpop.regression.losses import Task

SMALLEST_TARGET = 1e-12

TOLERANCE = 0.1
"""Of `MetricAccuracy` unless told [standard deviations of the training labels]."""


class Metric(ABC):
    """A number from predictions and targets of a whole set.

    Attributes:
        tasks: what it can measure.
        task: what it measures, known after `configure`.
    """

    tasks: tuple[Task, ...] = ("regression",)
    task: Task = "regression"

    @abstractmethod
    def __call__(self, predictions: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        """Return the metric, ().

        Args:
            predictions: (N, D).
            targets: (N, D) in the same units.
            unit: (D,) physical units that a 1 of these units stands for.
        """

    def distance(self, value: float) -> float:
        """Return how far `value` is from the best: smaller is better."""
        return value

    def configure(self, task: Task, label_std: Sequence[float]) -> None:
        """Get to know the task and the standard deviations of the D training labels.

        Raises:
            ConfigError: an argument is missing or has another length than there are labels.
        """
        self.task = task


METRICS = Registry("metric.type", "metric", Metric, "mlpop.metrics")
register_metric = METRICS.register


@register_metric("MetricAccuracyMAE")
class MetricAccuracyMAE(Metric):
    """Mean of |o - t| over samples and labels."""

    def __call__(self, predictions: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        return (predictions - targets).abs().mean()


@register_metric("MetricAccuracyMSE")
class MetricAccuracyMSE(Metric):
    """Mean of (o - t)^2 over samples and labels."""

    def __call__(self, predictions: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        return (predictions - targets).square().mean()


@register_metric("MetricAccuracyRMSE")
class MetricAccuracyRMSE(Metric):
    """Root of the mean of (o - t)^2 over samples and labels.

    It is pooled: not the mean of the roots of the labels, which LossRMSE sums.
    """

    def __call__(self, predictions: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        return (predictions - targets).square().mean().sqrt()


@register_metric("MetricAccuracyCHI2")
class MetricAccuracyCHI2(Metric):
    """Mean of (o - t)^2 over a variance; best at 1.

    Args:
        mode: `variance` divides by sigma_l^2, `pearson` by max(|t|, 1e-12).
        sigma: sigma_l of each label in physical units, or one number for all; by default the
            standard deviation of the training labels.

    Raises:
        ConfigError: unknown mode, or a sigma that is not positive.
    """

    def __init__(
        self, mode: str = "variance", sigma: float | Sequence[float] | None = None
    ) -> None:
        if mode not in ("variance", "pearson"):
            raise ConfigError(f"metric.args.mode must be 'variance' or 'pearson', got '{mode}'")
        self.mode = mode
        self._sigma = sigma
        self._values: list[float] = _per_label("sigma", sigma, None)

    def configure(self, task: Task, label_std: Sequence[float]) -> None:
        """Take sigma from the labels unless it is given."""
        super().configure(task, label_std)
        sigma = list(label_std) if self._sigma is None else self._sigma
        self._values = _per_label("sigma", sigma, len(label_std))

    def __call__(self, predictions: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        residual = (predictions - targets).square()
        if self.mode == "pearson":
            return (residual / targets.abs().clamp(min=SMALLEST_TARGET)).mean()
        sigma = torch.as_tensor(self._values, dtype=residual.dtype, device=residual.device) / unit
        return (residual / sigma.square()).mean()

    def distance(self, value: float) -> float:
        return abs(value - 1)


@register_metric("MetricAccuracy")
class MetricAccuracy(Metric):
    """Percentage of correct labels, 0 to 100: equal classes, or numbers within a tolerance.

    Args:
        tolerance: largest |o - t| of a correct number in physical units, of each label or one for
            all; by default a tenth of the standard deviation of the training labels.

    Raises:
        ConfigError: a tolerance that is not positive.
    """

    tasks = ("regression", "class")

    def __init__(self, tolerance: float | Sequence[float] | None = None) -> None:
        self._tolerance = tolerance
        self._values: list[float] = _per_label("tolerance", tolerance, None)

    def configure(self, task: Task, label_std: Sequence[float]) -> None:
        """Take the tolerance of a regression from the labels unless it is given."""
        super().configure(task, label_std)
        if task == "class":
            return
        tolerance = self._tolerance
        if tolerance is None:
            tolerance = [TOLERANCE * std for std in label_std]
        self._values = _per_label("tolerance", tolerance, len(label_std))

    def __call__(self, predictions: Tensor, targets: Tensor, unit: Tensor) -> Tensor:
        if self.task == "class":
            correct = predictions.round() == targets.round()
        else:
            limit = torch.as_tensor(self._values, dtype=unit.dtype, device=unit.device) / unit
            correct = (predictions - targets).abs() <= limit
        return 100 * correct.to(predictions.dtype).mean()

    def distance(self, value: float) -> float:
        return -value


def build_metric(
    name: str, args: Mapping[str, Any], task: Task, label_std: Sequence[float]
) -> Metric:
    """Return the metric `name` for a task of the loss.

    The standard deviations `label_std` (D,) of the training labels are in physical units.

    Raises:
        ConfigError: unknown name or arguments, or it cannot measure this task.
    """
    metric = METRICS.build(name, args)
    if task not in metric.tasks:
        able = [other for other in METRICS.names() if task in METRICS.find(other).tasks]
        raise ConfigError(
            f"metric.type: '{name}' cannot measure a loss of the task '{task}'; "
            f"allowed: {', '.join(able)}"
        )
    metric.configure(task, label_std)
    return metric


def _per_label(
    name: str, values: float | Sequence[float] | None, count: int | None
) -> list[float]:
    if values is None:
        return []
    listed = [float(v) for v in values] if isinstance(values, Sequence) else [float(values)]
    if any(not (v > 0 and math.isfinite(v)) for v in listed):
        raise ConfigError(f"metric.args.{name} must be positive, but got {values}")
    if count is None:
        return listed
    if not isinstance(values, Sequence):
        return listed * count
    if len(listed) != count:
        raise ConfigError(
            f"metric.args.{name} must have one number a label ({count}), but got {len(listed)}"
        )
    return listed
