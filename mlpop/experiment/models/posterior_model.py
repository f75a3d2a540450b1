"""The posterior at the end of an experiment as an MLflow model, and its place in the registry."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpop.errors import DataError, MlpopError, TrackingError
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.rounds.typicality import MISSPECIFIED, TYPICALITY_JSON, unlike_reason
from mlpop.inference.diagnostics.calibration import MIN_TESTS
from mlpop.inference.posteriors.model_files import pack_posterior
from mlpop.io.files import read_json_object
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
CALIBRATED = "calibrated"

PARTS = ("config", "datasets", "inference", "io", "networks")
REQUIREMENTS = (
    *("mlflow", "nflows", "numpy", "pandas", "pydantic", "safetensors", "sbi", "scipy", "torch"),
)
OBSERVATION = "observation"
PARAMS = {"num_samples": 1000, "seed": 0}
"""What a request that does not say gets."""


def log_posterior_model(
    run: TrackedRun, name: str, result: RoundResult, folder: Path
) -> str | None:
    """Log the posterior of a round to the run of its experiment, and register it.

    The version gets the alias `champion` if the posterior is calibrated, else `candidate`, and
    the verdict with its reason as tags. A posterior that has a version already keeps it. A
    registry that refuses or is away is a warning: the posterior lies in the run of its round.

    Args:
        run: the experiment's.
        name: of the experiment, and of the registered model.
        result: of its last round.
        folder: the models folder of that round.

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
                "mlpop.verdict": result.verdict or "not tested",
                "mlpop.verdict_reason": verdict_reason(result.verdict, folder),
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
    alias = CHAMPION if result.verdict == CALIBRATED else CANDIDATE
    try:
        version = register_model(run.store, name, model_id, run.run_id, tags)
        give_alias(run.store, name, version, alias, [other for other in ALIASES if other != alias])
    except TrackingError as error:
        logger.warning("the posterior is not registered, only logged: %s", error)
    else:
        run.set_tags({"mlpop.model_version": f"{name}/{version}"})
        logger.info("posterior: models:/%s@%s (version %s)", name, alias, version)
    return MODEL_URI + model_id


def verdict_reason(verdict: str, folder: Path) -> str:
    """Say in one line what the verdict of a round rests on.

    Args:
        verdict: of its `calibration.json`; empty without testing.
        folder: where that file is.
    """
    if verdict == MISSPECIFIED:
        return unlike_reason(read_json_object(folder / TYPICALITY_JSON)["p_values"])
    if not verdict:
        return "its coverage was not tested: test_data_loader.testing is false"
    values: Mapping[str, Any] = read_json_object(folder / "calibration.json")
    number, p_values = values["num_tests"], values["p_values"]
    if verdict == "too few tests":
        return f"{number} tests succeeded, {MIN_TESTS} are needed"
    limit = values["alpha"] / len(p_values)
    kinds = f"{len(p_values)} kinds of ranks over {number} tests"
    if verdict == CALIBRATED:
        least = min(p_values, key=lambda name: float(p_values[name]))
        return f"{kinds} are uniform: least p = {p_values[least]:.2g} ({least}), limit {limit:.2g}"
    wrong = ", ".join(f"{name} p = {p:.2g}" for name, p in p_values.items() if p < limit)
    return f"of {kinds} these are not uniform (limit {limit:.2g}): {wrong}"


def _served(packed: Path, digest: str, result: RoundResult) -> ServedModel:
    x = np.asarray(result.observed.x, dtype=np.float32)[None]
    return ServedModel(
        code=Path(__file__).with_name("served_posterior.py"),
        files={MODEL_NAME: packed},
        parts=PARTS,
        requirements=REQUIREMENTS,
        signature=_signature(result),
        example=(x, dict(PARAMS)),
        config={"digest": digest},
    )


def _signature(result: RoundResult) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    names = result.posterior.labels
    if OBSERVATION in names:
        raise DataError(f"a label '{OBSERVATION}' is the column that tells observations apart")
    labels = [ColSpec(DataType.double, label) for label in names]
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *result.posterior.x_shape))]),
        outputs=Schema([ColSpec(DataType.long, OBSERVATION), *labels]),
        params=ParamSchema(
            [ParamSpec(name, DataType.long, value) for name, value in PARAMS.items()]
        ),
    )
