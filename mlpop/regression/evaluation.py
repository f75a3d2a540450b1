"""Losses and metric of a network on a whole set, in scaled or in physical units."""

import torch
from torch import Tensor, nn

from mlpop.datasets.scaling import LabelScaling
from mlpop.regression.data import PointSet
from mlpop.regression.losses import Loss
from mlpop.regression.metrics import Metric

Numbers = dict[str, float]
"""Loss of each label, their sum as `loss`, and the metric under its name."""


class Judge:
    """Loss and metric together, in both units, computed on `device`."""

    def __init__(
        self,
        loss: Loss,
        metric: Metric,
        metric_name: str,
        scaling: LabelScaling,
        device: torch.device,
    ) -> None:
        self.loss, self.metric, self.metric_name = loss, metric, metric_name
        self.labels = scaling.labels
        self._shift = torch.from_numpy(scaling.shift).to(device)
        self._width = torch.from_numpy(scaling.width).to(device)
        self.device = device

    def scaled(self, outputs: Tensor, targets: Tensor) -> Numbers:
        """Return the numbers of outputs (N, W) and targets (N, D), both scaled."""
        return self._numbers(outputs.double(), targets.double(), self._width)

    def physical(self, outputs: Tensor, theta: Tensor) -> Numbers:
        """Return the numbers of scaled outputs (N, W) and labels (N, D) in physical units."""
        unscaled = self.loss.physical(outputs.double(), self._shift, self._width)
        return self._numbers(unscaled, theta, torch.ones_like(self._width))

    def evaluate(self, network: nn.Module, data: PointSet) -> Numbers:
        """Return the numbers of a network on a set, in evaluation mode and physical units."""
        outputs = apply(network, data)
        return self.physical(outputs, torch.from_numpy(data.theta).to(self.device))

    def _numbers(self, outputs: Tensor, targets: Tensor, unit: Tensor) -> Numbers:
        losses = self.loss.per_label(outputs, targets)
        metric = self.metric(self.loss.point(outputs), targets, unit)
        values = dict(zip(self.labels, losses.tolist(), strict=True))
        # the sum of what is written, to the last digit
        return values | {"loss": sum(values.values()), self.metric_name: float(metric)}


@torch.no_grad()
def apply(network: nn.Module, data: PointSet, rows: Tensor | None = None) -> Tensor:
    """Return the outputs (N, W) of a network in evaluation mode, rows (by default all) in order.

    The network is on the device of the data; its mode is given back.
    """
    was_training = network.training
    network.eval()
    try:
        return torch.cat([network(x) for x in data.evaluation(rows)])
    finally:
        network.train(was_training)
