"""The best network of a training as an MLflow model."""

from pathlib import Path

import numpy as np

from mlpop.io.files import sha256_of
from mlpop.regression.prediction import PREDICTED, SIGMA, PointEstimator
from mlpop.tracking import TrackedRun
from mlpop.tracking.models import DIGEST_TAG, MODEL_URI, ServedModel, log_model

MODEL_NAME = "point_estimates"
PARTS = ("config", "datasets", "io", "networks", "regression")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "scipy", "torch")


def log_point_model(run: TrackedRun, path: Path) -> str:
    """Log a trained model to a run, with its signature and an example.

    Args:
        run: the run.
        path: the `.pth` file.

    Returns:
        The model's URI.

    Raises:
        TrackingError: the store refuses or is away.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    estimator = PointEstimator.load(path)
    shape = estimator.model.shape
    example = np.zeros((1, *shape), dtype=np.float32)
    found = estimator(example)
    names = [PREDICTED + label for label in found.labels]
    if found.sigma is not None:
        names += [SIGMA + label for label in found.labels]
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))]),
        outputs=Schema([ColSpec(DataType.double, name) for name in names]),
    )
    served = ServedModel(
        code=Path(__file__).with_name("served_point_model.py"),
        files={"model": path},
        parts=PARTS,
        requirements=REQUIREMENTS,
        signature=signature,
        example=example,
    )
    model_id = log_model(run, MODEL_NAME, served, {DIGEST_TAG: sha256_of(path)})
    run.set_tags({"mlpop.model_uri": MODEL_URI + model_id})
    return MODEL_URI + model_id
