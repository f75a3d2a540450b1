"""A configuration from wherever it is: a file, an artifact of a run, a dict, or typed already."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlpop.config.base import StrictModel, apply_overrides, as_json, may_be_of, read_json
from mlpop.errors import ConfigError

Model = TypeVar("Model", bound=StrictModel)

Source = str | os.PathLike[str] | Mapping[str, Any]
"""The path of a JSON file, `runs:/<run id>/<name>` of an artifact, or the values themselves."""

RUN_URI = "runs:/"


def raw_values(
    source: str | os.PathLike[str],
    assignments: Sequence[str] = (),
    model: type[StrictModel] | None = None,
) -> dict[str, Any]:
    """Read a configuration file, or an artifact of a run, and set every `key.path=value`.

    Args:
        source: where it is.
        assignments: what to set.
        model: its type, if a missing file may be said to be another.

    Raises:
        ConfigError: it is missing or not JSON, or an assignment is none.
        TrackingError: the run or the artifact does not exist.
    """
    text = os.fspath(source)
    if text.startswith(RUN_URI):
        return apply_overrides(_artifact(text), assignments)
    return apply_overrides(read_json(Path(text), model), assignments)


def of_command(
    model: type[Model], source: str | os.PathLike[str], assignments: Sequence[str]
) -> Model:
    """Return the configuration of a command: what `source` says, changed by `assignments`.

    Raises:
        ConfigError: one line a wrong field; of a file of another command, that it is one.
    """
    values = raw_values(source, assignments, model)
    try:
        return model.parse(values, os.fspath(source))
    except ConfigError:
        from mlpop.config.files.schema import kinds_of

        kinds = [] if may_be_of(model, values) else kinds_of(values)
        if not kinds:
            raise
        commands = " or ".join(f"`mlpop {kind.replace('_', '-')}`" for kind in kinds)
        raise ConfigError(f"{source}: is a configuration of {commands}") from None


def parsed(
    model: type[Model], source: Source | Model, changes: Mapping[str, Any] | None = None
) -> Model:
    """Return a typed configuration.

    Args:
        model: its type.
        source: where it is.
        changes: `key.path` -> value to set in it.

    Raises:
        ConfigError: one line a wrong field; of a file of another command, that it is one.
    """
    assignments = [
        f"{path}={json.dumps(value, default=as_json)}" for path, value in (changes or {}).items()
    ]
    if isinstance(source, model):
        if not assignments:
            return source
        resolved = getattr(source, "resolved", None)
        values = source.model_dump(mode="json") if resolved is None else resolved()
        return model.parse(apply_overrides(values, assignments))
    if isinstance(source, Mapping):
        plain = json.loads(json.dumps(dict(source), default=as_json))
        return model.parse(apply_overrides(plain, assignments))
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(
            f"a configuration is the path of a file, a dict or a {model.__name__}, found "
            f"{type(source).__name__}"
        )
    return of_command(model, source, assignments)


def _artifact(uri: str) -> dict[str, Any]:
    """Read a configuration that is an artifact of a run, `runs:/<run id>/<name>`."""
    from mlpop.config.allowed_modules import refuse_pickles
    from mlpop.experiment.resume.attempts import recorded_json
    from mlpop.tracking import connect, refuse_without_runs

    run_id, _, name = uri.removeprefix(RUN_URI).partition("/")
    if not run_id or not name:
        raise ConfigError(f"{uri}: expected runs:/<run id>/<name of a JSON artifact>")
    refuse_without_runs(uri)
    values = recorded_json(connect(), run_id, name)
    refuse_pickles(values, uri)
    return values
