"""Point estimates: networks that turn maps into labels, their training and their predictions."""

from mlpop.regression.losses import Loss
from mlpop.regression.metrics import Metric

__all__ = ["Loss", "Metric"]
