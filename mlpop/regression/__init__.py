"""Point estimates: networks that turn maps into labels, their training and their predictions."""

from mlpop.regression.checkpoint import (
    PointModel,
    check_weights,
    load_model,
    load_weights,
    save_model,
)
from mlpop.regression.data import LabelScalingFor, MemorySet, PointSet, Selection, load_set
from mlpop.regression.evaluation import Judge, apply
from mlpop.regression.learner import Epoch, PointLearner
from mlpop.regression.losses import LOSSES, Loss, build_loss, register_loss
from mlpop.regression.metrics import METRICS, Metric, build_metric, register_metric
from mlpop.regression.optimizers import build_optimizer, build_scheduler
from mlpop.regression.prediction import (
    PointEstimator,
    Predictions,
    check_resolution,
    predict,
    selected_rows,
    summary,
    write_results,
)
from mlpop.regression.records import Records, read_records

__all__ = [
    "LOSSES",
    "METRICS",
    "Epoch",
    "Judge",
    "LabelScalingFor",
    "Loss",
    "MemorySet",
    "Metric",
    "PointEstimator",
    "PointLearner",
    "PointModel",
    "PointSet",
    "Predictions",
    "Records",
    "Selection",
    "apply",
    "build_loss",
    "build_metric",
    "build_optimizer",
    "build_scheduler",
    "check_resolution",
    "check_weights",
    "load_model",
    "load_set",
    "load_weights",
    "predict",
    "read_records",
    "register_loss",
    "register_metric",
    "save_model",
    "selected_rows",
    "summary",
    "write_results",
]
