"""What a training of point estimates minimises: one loss a label, and their sum.

A loss of your own is a subclass of `Loss`, registered with `@register_loss("Name")`, by an entry
point of the group `mlpop.losses`, or named `package.module:Class` in the configuration.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mlpop.config.registry import Registry
from mlpop.errors import ConfigError, DataError

ROOT_OFFSET = 1e-12
"""Added under the root of LossRMSE, whose gradient is infinite at 0."""

Task = Literal["regression", "class"]


class Loss(ABC):
    """The losses of D labels over N samples.

    Attributes:
        task: `regression` of numbers, or `class` for a label that counts classes.
    """

    task: Task = "regression"

    def output_width(self, num_labels: int) -> int:
        """Return the length of the vector that the network must give."""
        return num_labels

    @abstractmethod
    def per_label(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each label, (D,), of `outputs` (N, W) and `targets` (N, D)."""

    def point(self, outputs: Tensor) -> Tensor:
        """Return the point estimates (N, D) in `outputs` (N, W)."""
        return outputs

    def sigma(self, outputs: Tensor) -> Tensor | None:
        """Return the predicted standard deviations (N, D), None where there are none."""
        return None

    def physical(self, outputs: Tensor, shift: Tensor, width: Tensor) -> Tensor:
        """Undo the scaling of labels in `outputs` (N, W).

        Args:
            outputs: in scaled units.
            shift: (D,) physical value of a scaled 0.
            width: (D,) physical units of a scaled 1.
        """
        return outputs * width + shift

    def check(self, targets: Tensor, labels: tuple[str, ...]) -> None:
        """Refuse targets (N, D) that the loss makes no sense for.

        Raises:
            ConfigError: too many labels.
            DataError: values that are not allowed.
        """
        if targets.shape[1] != len(labels):
            raise DataError(f"{targets.shape[1]} columns of targets for {len(labels)} labels")


LOSSES = Registry("loss.type", "loss", Loss, "mlpop.losses")
register_loss, build_loss = LOSSES.register, LOSSES.build


@register_loss("LossMAE")
class LossMAE(Loss):
    """Mean of |o - t|."""

    def per_label(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean(0)


@register_loss("LossMSE")
class LossMSE(Loss):
    """Mean of (o - t)^2."""

    def per_label(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(0)


@register_loss("LossRMSE")
class LossRMSE(Loss):
    """Root of the mean of (o - t)^2."""

    def per_label(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets).square().mean(0) + ROOT_OFFSET).sqrt()


@register_loss("LossNLL")
class LossNLL(Loss):
    """Negative log likelihood of a Gaussian for each label, or of the classes of one label.

    With `gaussian` the network gives 2 D outputs, all means mu and then all log variances s; the
    loss is the mean of (s + (t - mu)^2 exp(-s)) / 2, without the constant log(2 pi) / 2. With
    `class` it gives K outputs, of which log_softmax makes log-probabilities; the one label holds
    integers from 0 to K - 1 and is not scaled.

    Args:
        mode: `gaussian` or `class`.
        num_classes: K; for `class` only.

    Raises:
        ConfigError: unknown mode, or the number of classes is missing or too many.

    References:
        Nix & Weigend 1994, "Estimating the mean and variance of the target probability
        distribution", IEEE ICNN.
    """

    def __init__(self, mode: str = "gaussian", num_classes: int | None = None) -> None:
        if mode not in ("gaussian", "class"):
            raise ConfigError(f"loss.args.mode must be 'gaussian' or 'class', but got '{mode}'")
        if mode == "class" and (not isinstance(num_classes, int) or num_classes < 2):
            raise ConfigError(
                f"loss.args.num_classes must be an integer of at least 2 with mode 'class', "
                f"but got {num_classes}"
            )
        if mode == "gaussian" and num_classes is not None:
            raise ConfigError("loss.args.num_classes is only for mode 'class'")
        self.task = "class" if mode == "class" else "regression"
        self.num_classes = num_classes or 0

    def output_width(self, num_labels: int) -> int:
        """Return 2 D or K."""
        return self.num_classes if self.task == "class" else 2 * num_labels

    def per_label(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.task == "class":
            logs = functional.log_softmax(outputs, dim=1)
            return functional.nll_loss(logs, targets[:, 0].long())[None]
        mean, log_variance = outputs.chunk(2, dim=1)
        residual = (targets - mean).square() * torch.exp(-log_variance)
        return 0.5 * (log_variance + residual).mean(0)

    def point(self, outputs: Tensor) -> Tensor:
        """Return the means (N, D), or the most probable class (N, 1)."""
        if self.task == "class":
            return outputs.argmax(1, keepdim=True).to(outputs.dtype)
        return outputs.chunk(2, dim=1)[0]

    def sigma(self, outputs: Tensor) -> Tensor | None:
        """Return the standard deviations (N, D) of the Gaussians."""
        if self.task == "class":
            return None
        return torch.exp(0.5 * outputs.chunk(2, dim=1)[1])

    def physical(self, outputs: Tensor, shift: Tensor, width: Tensor) -> Tensor:
        """Undo the scaling: mu like a label, s + 2 log(width); classes are not scaled."""
        if self.task == "class":
            return outputs
        mean, log_variance = outputs.chunk(2, dim=1)
        return torch.cat([mean * width + shift, log_variance + 2 * torch.log(width)], dim=1)

    def check(self, targets: Tensor, labels: tuple[str, ...]) -> None:
        """Refuse classes of several labels, and values that are no classes."""
        if self.task != "class":
            return
        if len(labels) != 1:
            raise ConfigError(
                f"loss.args.mode 'class' needs exactly one label, but got {len(labels)}: "
                f"{', '.join(labels)}"
            )
        values = targets[:, 0]
        wrong = (values != values.round()) | (values < 0) | (values >= self.num_classes)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0, 0])
            raise DataError(
                f"label '{labels[0]}', row {row}: expected a class from 0 to "
                f"{self.num_classes - 1}, found {float(values[row]):g}"
            )
