"""Models in MLflow: logged to a run, given a version and an alias in the registry, read back."""

import importlib.metadata
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlpop
from mlpop.errors import TrackingError
from mlpop.tracking.artifacts import require_safe
from mlpop.tracking.outages import patiently
from mlpop.tracking.run import TrackedRun
from mlpop.tracking.store import Store, few_retries, translated

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

DIGEST_TAG = "mlpop.digest"
MODEL_URI = "models:/"
READY = "READY"


@dataclass(frozen=True)
class ServedModel:
    """What MLflow needs to serve a model; it is made of code and files, nothing is pickled.

    Attributes:
        code: the Python file that MLflow runs to load it.
        files: name -> file or folder that the code reads.
        parts: the folders of mlpop that the code imports; they travel with the model.
        requirements: the packages that it needs, pinned to the versions of this environment.
        signature: of its inputs, parameters and outputs.
        example: an input, or a pair of input and parameters.
        config: what the code is told when it is loaded.
    """

    code: Path
    files: Mapping[str, Path]
    parts: Sequence[str]
    requirements: Sequence[str]
    signature: "ModelSignature"
    example: Any
    config: Mapping[str, Any] = field(default_factory=dict)


def log_model(
    run: TrackedRun, name: str, model: ServedModel, tags: Mapping[str, str], step: int = 0
) -> str:
    """Log a model to a run; wait for a store that is away.

    A model of the same name with the same digest among its tags, that the run has already, is
    taken instead; one that an earlier process left unfinished is finished.

    Args:
        run: the run.
        name: of the model.
        model: what to log.
        tags: of the model in MLflow; `mlpop.digest` tells whether two are the same.
        step: of the run, for instance the round.

    Returns:
        The id of the model.

    Raises:
        TrackingError: the store refuses or is away for too long.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    client, what = run.store.client, f"model '{name}' of run {run.run_id}"

    def begin() -> "LoggedModel":
        return _same(run, name, tags) or client.create_logged_model(
            run.experiment_id, name, source_run_id=run.run_id, tags=dict(tags)
        )

    logged = patiently(begin, what)
    if str(logged.status) == READY:
        return str(logged.model_id)
    with tempfile.TemporaryDirectory(prefix="mlpop-model-") as scratch:
        folder = Path(scratch, "model")
        with translated(what):
            _save(folder, model, logged, run.run_id, Path(scratch, "code"))

        def send() -> None:
            client.log_model_artifacts(logged.model_id, str(folder))
            outputs = client.get_run(run.run_id).outputs
            linked = outputs.model_outputs if outputs is not None else []
            # MLflow takes an output of a run once
            if logged.model_id not in [output.model_id for output in linked]:
                client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step)])
            # last of all: a model that is not ready is not whole
            client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)

        patiently(send, what)
    return str(logged.model_id)


def register_model(
    store: Store, name: str, model_id: str, run_id: str, tags: Mapping[str, str]
) -> str:
    """Make a model a version of a registered model, unless one has its digest already.

    Args:
        store: the tracking store.
        name: of the registered model, made if there is none.
        model_id: the logged model.
        run_id: the run that made it.
        tags: of the version, among them `mlpop.digest`; set on a version that exists too.

    Returns:
        The version.

    Raises:
        TrackingError: the registry refuses or is away; it is asked for seconds only.
    """
    from mlflow.exceptions import MlflowException

    client = store.client
    with translated(f"registered model '{name}'"), few_retries():
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        digest = tags[DIGEST_TAG]
        query = f"name = '{name}' and tags.`{DIGEST_TAG}` = '{digest}'"
        for found in client.search_model_versions(query):
            for key, value in tags.items():
                client.set_model_version_tag(name, found.version, key, value)
            return str(found.version)
        created = client.create_model_version(
            name, f"{MODEL_URI}{model_id}", run_id, tags=dict(tags), model_id=model_id
        )
        return str(created.version)


def give_alias(store: Store, name: str, version: str, alias: str, others: Sequence[str]) -> None:
    """Give a version an alias, and take `others` away from it; other versions keep theirs.

    Raises:
        TrackingError: the registry refuses or is away; it is asked for seconds only.
    """
    client = store.client
    with translated(f"alias '{alias}' of registered model '{name}'"), few_retries():
        held = client.get_registered_model(name).aliases
        for other in others:
            if str(held.get(other)) == version:
                client.delete_registered_model_alias(name, other)
        if str(held.get(alias)) != version:
            client.set_registered_model_alias(name, alias, version)


def find_model(store: Store, uri: str) -> "LoggedModel":
    """Return the logged model that a `models:/` address means.

    Args:
        store: the tracking store.
        uri: `models:/<name>@<alias>`, `models:/<name>/<version>` or `models:/<model id>`.

    Raises:
        TrackingError: there is no such model or version, or it is of no logged model.
    """
    client, address = store.client, uri.removeprefix(MODEL_URI).strip("/")
    with translated(f"{uri} in {store.safe_uri}"):
        name, at, alias = address.rpartition("@")
        if at:
            found = client.get_model_version_by_alias(name, alias)
        else:
            name, slash, version = address.rpartition("/")
            if not slash:
                return client.get_logged_model(address)
            found = client.get_model_version(name, version)
        model_id = found.model_id or str(found.source).removeprefix(MODEL_URI)
        return client.get_logged_model(model_id)


def fetch_model_file(store: Store, model: "LoggedModel", name: str, target: Path) -> None:
    """Copy a file of a logged model to exactly this place, whatever the store says of its name.

    Raises:
        TrackingError: it is missing, cannot be read, or its name leaves the model.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    def attempt() -> None:
        repository = get_artifact_repository(
            model.artifact_location, tracking_uri=store.client.tracking_uri
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        # MLflow's public way follows the store's own listing to local paths
        repository._download_file(name, str(target))

    patiently(attempt, f"file {require_safe(name)} of model {model.model_id}")


def _same(run: TrackedRun, name: str, tags: Mapping[str, str]) -> "LoggedModel | None":
    """Return the model of this run and name with the same digest; a whole one if there is."""
    if DIGEST_TAG not in tags:
        return None
    found = run.store.client.search_logged_models(
        [run.experiment_id],
        f"source_run_id = '{run.run_id}' and tags.`{DIGEST_TAG}` = '{tags[DIGEST_TAG]}'",
    )
    named = [model for model in found if model.name == name]
    ready = [model for model in named if str(model.status) == READY]
    return next(iter(ready or named), None)


def _save(
    folder: Path, model: ServedModel, logged: "LoggedModel", run_id: str, code: Path
) -> None:
    """Write what MLflow loads a model from into `folder`."""
    with _quiet():
        import mlflow.pyfunc
        from mlflow.models import Model

        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(model.code),
            artifacts={name: str(path) for name, path in model.files.items()},
            code_paths=[str(_package_copy(code, model.parts))],
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            ),
            signature=model.signature,
            input_example=model.example,
            pip_requirements=[_pinned(name) for name in model.requirements],
            model_config=dict(model.config) or None,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what MLflow says of the type hints of its own classes and of every step."""
    pyfunc_logger = logging.getLogger("mlflow.pyfunc")
    level = pyfunc_logger.level
    pyfunc_logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pyfunc_logger.setLevel(level)


def _pinned(name: str) -> str:
    # no index has the local builds of a version, such as 2.13.0+cpu
    version = importlib.metadata.version(name).partition("+")[0]
    return f"{name}=={version}"


def _package_copy(folder: Path, parts: Sequence[str]) -> Path:
    source, target = Path(mlpop.__file__).parent, folder / "mlpop"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in parts:
        shutil.copytree(source / name, target / name, ignore=ignored)
    for path in source.glob("*.py"):
        shutil.copyfile(path, target / path.name)
    return target


def require_tag(model: "LoggedModel", tag: str, uri: str) -> str:
    """Return a tag of a logged model.

    Raises:
        TrackingError: it has none: it was not made by mlpop, or is something else.
    """
    value = model.tags.get(tag)
    if value is None:
        raise TrackingError(f"{uri}: model {model.model_id} is no posterior: it has no tag {tag}")
    return str(value)
