"""What all configuration files share: strictness, reading, overriding, clear errors."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError, model_validator

from mlpop.config.attribute_docs import attribute_docstrings
from mlpop.config.messages import Problem, Refused, describe, show
from mlpop.config.reading import (
    LARGEST,
    NotJson,
    Unreadable,
    half_characters,
    missing_file,
    parse_json,
    read_text,
    unique_fields,
)
from mlpop.config.reference import Translation
from mlpop.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

logger = logging.getLogger(__name__)


class StrictModel(BaseModel):
    """A configuration block: immutable, unknown fields refused, no silent type coercion."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
    )

    def _contradictions(self) -> Iterator[Problem]:
        """Yield what is wrong with fields together, each of which may be what it is."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if problems := list(self._contradictions()):
            raise Refused(*problems)
        return self

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "configuration") -> Self:
        """Validate `values`; fields of the reference that change nothing are left out.

        Args:
            values: the raw JSON object.
            source: the file (or other origin) that error messages name.

        Raises:
            ConfigError: one line a wrong field: its path, the value found, what is allowed.
        """
        if halves := list(half_characters(dict(values))):
            what = "holds half a character (a lone surrogate, or a byte that is no UTF-8)"
            raise ConfigError("\n".join(f"{source}: {path}: {what}; mend it" for path in halves))
        taken = Translation(values)
        cls._translate(taken)
        problems = taken.problems
        try:
            parsed = cls.model_validate_json(json.dumps(taken.values, default=as_json))
        except ValidationError as error:
            problems += describe(error, cls, taken.values)
        if problems:
            raise ConfigError("\n".join(f"{source}: {p}: {m}" for p, m in problems))
        if taken.notes:
            logger.warning(
                "%s: fields of the reference that change nothing here: %s",
                source,
                "; ".join(taken.notes),
            )
        return parsed

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: "CoreSchema", handler: "GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        """Describe every field by the docstring below it."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        texts = attribute_docstrings(cls)
        for name, field in cls.model_fields.items():
            alias = field.validation_alias
            if isinstance(alias, AliasChoices):
                alias = alias.choices[0]
            shown = properties.get(alias or name)
            if shown is not None and name in texts:
                shown.setdefault("description", texts[name])
        return schema

    @classmethod
    def _translate(cls, translation: Translation) -> None:
        """Take out of the raw values what other programs' files have more than this block."""


def as_json(value: Any) -> Any:
    """Return what Python callers write into a configuration, and JSON does not know."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} is no JSON value")


def read_json(path: Path, model: type[StrictModel] | None = None) -> dict[str, Any]:
    """Read one JSON object from `path`.

    Args:
        path: of the file.
        model: what the file configures; where it is missing, another kind is not suggested.

    Raises:
        ConfigError: the file is missing, unreadable, not JSON, not one object, or gives a key
            twice.
    """
    try:
        values = parse_json(
            read_text(path, limit=LARGEST), partial(unique_fields, path, ConfigError)
        )
    except FileNotFoundError:
        raise ConfigError(missing_file(path, lambda near: _configures(near, model))) from None
    except NotJson as error:
        raise ConfigError(f"{path}:{error.line}: not valid JSON: {error}") from None
    except (OSError, Unreadable) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def may_be_of(model: type[StrictModel], values: Mapping[str, Any]) -> bool:
    """Whether `values` has no field at its top that the model does not have."""
    return set(values) <= set(model.model_fields)


def _configures(path: Path, model: type[StrictModel] | None) -> bool:
    """Whether a file may be one of the model."""
    try:
        return model is None or may_be_of(model, read_json(path))
    except ConfigError:
        return False


def apply_overrides(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `values` with every `key.path=value` of `assignments` set.

    A value is read as JSON where it is JSON, else as a string. The schema checks the type.

    Raises:
        ConfigError: an assignment has no `=`, or its path runs through something that is no
            object.
    """
    result: dict[str, Any] = json.loads(json.dumps(values))
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator or not path:
            raise ConfigError(f"--set {show(assignment)}: expected key.path=value")
        try:
            value = parse_json(text)
        except NotJson:
            value = text
        except Unreadable as error:
            raise ConfigError(f"--set {path}: its value {error}") from None
        *parents, last = path.split(".")
        block = result
        for name in parents:
            block = block.setdefault(name, {})
            if not isinstance(block, dict):
                raise ConfigError(f"--set {show(assignment)}: '{name}' is not an object")
        block[last] = value
    return result
