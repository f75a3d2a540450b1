"""The best network of a training as an MLflow model."""

import importlib.metadata
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

import mlpop
from mlpop.regression import PointEstimator
from mlpop.regression.prediction import PREDICTED, SIGMA
from mlpop.tracking import TrackedRun
from mlpop.tracking.store import translated

MODEL_NAME = "point_estimates"
CODE = ("networks", "regression", "maps", "config")
"""What of the package a prediction needs; it travels with the model."""

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
    with warnings.catch_warnings():
        # MLflow warns of the type hints of its own classes
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
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
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS]
    before = mlflow.get_tracking_uri()
    with tempfile.TemporaryDirectory() as folder, translated(f"model of run {run.run_id}"):
        package = _package_copy(Path(folder))
        mlflow.set_tracking_uri(run.store.uri)
        try:
            # made beforehand: MLflow would put it into the experiment that is active
            model = run.store.client.create_logged_model(
                run.experiment_id, MODEL_NAME, source_run_id=run.run_id
            )
            info = Model.log(
                artifact_path=None,
                name=MODEL_NAME,
                flavor=mlflow.pyfunc,
                run_id=run.run_id,
                model_id=model.model_id,
                python_model=str(Path(__file__).with_name("served_point_model.py")),
                artifacts={"model": str(path)},
                code_paths=[str(package)],
                signature=signature,
                input_example=example,
                pip_requirements=versions,
            )
        finally:
            mlflow.set_tracking_uri(before)
    run.set_tags({"mlpop.model_uri": info.model_uri})
    return str(info.model_uri)


def _package_copy(folder: Path) -> Path:
    source, target = Path(mlpop.__file__).parent, folder / "mlpop"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in CODE:
        shutil.copytree(source / name, target / name, ignore=ignored)
    for path in source.glob("*.py"):
        shutil.copyfile(path, target / path.name)
    return target
