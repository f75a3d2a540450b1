"""The posterior at the end of an experiment as an MLflow model, and its place in the registry."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlpop.errors import DataError, MlpopError, TrackingError
from mlpop.experiment.diagnostics.diagnostic import Grade
from mlpop.experiment.rounds.result import RoundResult
from mlpop.inference.posteriors.model_files import pack_posterior
from mlpop.tracking import TrackedRun
from mlpop.tracking.models import (
    DIGEST_TAG,
    MODEL_URI,
    ServedModel,
    give_alias,
    log_model,
    register_model,
)

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

logger = logging.getLogger(__name__)

MODEL_NAME = "posterior"
CHAMPION, CANDIDATE = "champion", "candidate"
ALIASES = (CHAMPION, CANDIDATE)

PARTS = ("config", "datasets", "inference", "io", "networks")
REQUIREMENTS = (
    "mlflow",
    "nflows",
    "numpy",
    "pandas",
    "pydantic",
    "safetensors",
    "sbi",
    "scipy",
    "torch",
)
OBSERVATION = "observation"
PARAMS = {"num_samples": 1000, "seed": 0}
"""What a request that does not say gets."""


def log_posterior_model(run: TrackedRun, name: str, result: RoundResult) -> str | None:
    """Log the posterior of a round to the run of its experiment, and register it.

    The version gets the alias `champion` if its verdict is good, else `candidate`, and
    the verdict with its reason as tags. A posterior that has a version already keeps it. A
    registry that refuses or is away is a warning: the posterior lies in the run of its round.

    Args:
        run: the experiment's.
        name: of the experiment, and of the registered model.
        result: of its last round.

    Returns:
        `models:/<id>` of the logged model; None if it could not be logged.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mlpop-posterior-") as scratch:
            packed = Path(scratch, MODEL_NAME)
            digest = pack_posterior(packed, result.posterior, result.members)
            tags = {
                DIGEST_TAG: digest,
                "mlpop.round": str(result.number),
                "mlpop.round_run": result.run_id,
                "mlpop.verdict": result.verdict.name or "not tested",
                "mlpop.verdict_reason": result.verdict.reason,
            }
            model_id = log_model(
                run, MODEL_NAME, _served(packed, digest, result), tags, step=result.number
            )
        run.set_tags({"mlpop.model_uri": MODEL_URI + model_id})
    except MlpopError as error:
        logger.warning(
            "the posterior is not logged as a model: %s; it is kept in round %d, "
            'mlpop.load_posterior("runs:/%s")',
            error,
            result.number,
            run.run_id,
        )
        return None
    alias = CHAMPION if result.verdict.grade is Grade.GOOD else CANDIDATE
    try:
        version = register_model(run.store, name, model_id, run.run_id, tags)
        give_alias(run.store, name, version, alias, [other for other in ALIASES if other != alias])
    except TrackingError as error:
        logger.warning("the posterior is not registered, only logged: %s", error)
    else:
        run.set_tags({"mlpop.model_version": f"{name}/{version}"})
        logger.info("posterior: models:/%s@%s (version %s)", name, alias, version)
    return MODEL_URI + model_id


def _served(packed: Path, digest: str, result: RoundResult) -> ServedModel:
    x = np.asarray(result.observed.x, dtype=_kind(result))[None]
    return ServedModel(
        code=Path(__file__).with_name("served_posterior.py"),
        files={MODEL_NAME: packed},
        parts=PARTS,
        requirements=REQUIREMENTS,
        signature=_signature(result),
        example=(x, dict(PARAMS)),
        config={"digest": digest},
    )


def _kind(result: RoundResult) -> np.dtype:
    """Return float32, or float64 where that loses what varies in x."""
    return np.dtype(np.float32 if result.problem.preprocessing.units is None else np.float64)


def _signature(result: RoundResult) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    names = result.posterior.labels
    if OBSERVATION in names:
        raise DataError(f"a label '{OBSERVATION}' is the column that tells observations apart")
    labels = [ColSpec(DataType.double, label) for label in names]
    return ModelSignature(
        inputs=Schema([TensorSpec(_kind(result), (-1, *result.posterior.x_shape))]),
        outputs=Schema([ColSpec(DataType.long, OBSERVATION), *labels]),
        params=ParamSchema(
            [ParamSpec(name, DataType.long, value) for name, value in PARAMS.items()]
        ),
    )
