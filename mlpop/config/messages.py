"""What a wrong configuration says: one line a field, its path, what was found, what is allowed.

A validator that knows more than "this value is wrong" raises `Refused` with field paths of its
own; everything else is pydantic's finding, put into words here.
"""

import ast
import difflib
import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]

Problem = tuple[str, str]
"""Path of a field, relative to the block that says it ("" is the block itself), and a complete
message such as "must be less than high[0] (12.0), found 14.0"."""

FOUND_LENGTH = 80
"""Longest rendering of a found value [characters]."""

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "path_type": "a path",
    "string_type": "a string",
    "tuple_type": "a list",
}
"""pydantic's error type -> what the field must be; several of one field are joined by "or"."""

BOUNDS = {
    "greater_than": "greater than {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than": "less than {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
}
"""pydantic's error type -> the bound that was missed."""


class Refused(ValueError):
    """Raised inside a validator to refuse values with the paths of the fields that are wrong.

    Args:
        problems: what is wrong.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def show(value: Any) -> str:
    """Render a found value: strings in single quotes, everything else as JSON, cut when long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= FOUND_LENGTH else text[: FOUND_LENGTH - 3] + "..."


def one_of(value: Any, choices: Sequence[Any], others: str = "") -> str:
    """Say which `choices` there are, which value was found, and the nearest of the choices.

    Args:
        others: what is allowed beside the choices, for instance "'package.module:Class'".
    """
    named = [show(choice) for choice in choices] + ([others] if others else [])
    allowed = f"must be one of {', '.join(named)}" if len(named) > 1 else f"must be {named[0]}"
    near = nearest(value, [choice for choice in choices if isinstance(choice, str)])
    return f"{allowed}, found {show(value)}" + (f"; did you mean {near!r}?" if near else "")


def unknown(name: str, known: Sequence[str]) -> str:
    """Say that a field does not exist, and the nearest that does, or else all that do."""
    near = nearest(name, known)
    hint = f"did you mean '{near}'?" if near else f"allowed: {', '.join(known)}"
    return f"unknown field; {hint}"


def nearest(value: Any, names: Sequence[str]) -> str | None:
    """Return the entry of `names` that `value` most probably misspells, whatever its case."""
    if not isinstance(value, str):
        return None
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(value.lower(), list(by_lower), n=1)
    holders = [name for name in by_lower if len(value) > 2 and value.lower() in name]
    if not close and len(holders) == 1:
        close = holders
    return by_lower[close[0]] if close else None


def describe(
    error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Translate pydantic's findings about `values` into (field path, message), one a field."""
    return [
        (dotted(path) or "(top level)", message)
        for path, items in _by_field(error, values).items()
        for path, message in _messages(path, items, model)
    ]


def dotted(path: Path) -> str:
    """Write a path as users do: `trainer.lr`, `prior_ranges.low[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _by_field(error: ValidationError, values: Mapping[str, Any]) -> dict[Path, list[Any]]:
    """Gather findings that concern one field: the branches of a union, missing list entries."""
    fields: dict[Path, list[Any]] = {}
    for item in error.errors():
        path = _without_tags(item["loc"], values, item["type"] == "missing")
        if item["type"] == "missing" and isinstance(path[-1], int):
            path = path[:-1]
        fields.setdefault(path, []).append(item)
    return fields


def _without_tags(location: Path, values: Any, missing: bool) -> Path:
    """Drop from pydantic's location what is no key of the input: the names of union branches."""
    path: Path = ()
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if _holds(values, part):
            values = values[part]
        elif not (last and missing):
            continue
        path = (*path, part)
    return path


def _holds(values: Any, part: str | int) -> bool:
    if isinstance(values, list):
        return isinstance(part, int) and part < len(values)
    return isinstance(values, Mapping) and part in values


def _messages(path: Path, items: list[Any], model: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    first = items[0]
    kind, found = first["type"], first["input"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Refused):
        for name, message in cause.problems:
            yield (*path, *((name,) if name else ())), message
    elif kind == "extra_forbidden":
        yield path, _unknown_field(path, model)
    elif kind == "missing":
        yield path, _missing(items)
    elif kind in ("too_short", "too_long"):
        yield path, _length(kind, first["ctx"], found)
    elif kind in BOUNDS:
        yield path, f"must be {BOUNDS[kind].format(**first.get('ctx', {}))}, found {show(found)}"
    elif kind == "literal_error":
        yield path, one_of(found, _choices(items))
    elif kind == "string_too_short":
        yield path, "must not be empty"
    elif kind in EXPECTED:
        expected = dict.fromkeys(EXPECTED[i["type"]] for i in items if i["type"] in EXPECTED)
        yield path, f"must be {' or '.join(expected)}, found {show(found)}"
    elif kind == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        whole_block = isinstance(found, (dict, list))
        yield path, message if whole_block else f"{message}, found {show(found)}"
    else:
        message = first["msg"][:1].lower() + first["msg"][1:]
        yield path, f"{message.replace('input should', 'must')}, found {show(found)}"


def _missing(items: list[Any]) -> str:
    last = items[-1]["loc"][-1]
    if isinstance(last, int):
        return f"must have {last + 1} entries, found {show(items[0]['input'])}"
    return "is required"


def _length(kind: str, context: Mapping[str, Any], found: Any) -> str:
    if kind == "too_long":
        size, bound = context["max_length"], "at most"
    else:
        size, bound = context["min_length"], "at least"
    return f"must have {bound} {size} {'entry' if size == 1 else 'entries'}, found {show(found)}"


def _unknown_field(path: Path, model: type[BaseModel]) -> str:
    *parents, name = path
    fields = sorted(
        {field for block in _models_at(model, parents) for field in block.model_fields}
    )
    if nearest(name, fields) is None:
        elsewhere = next(_places(model, str(name)), None)
        if elsewhere:
            return f"unknown field; did you mean '{elsewhere}'?"
    return unknown(str(name), fields)


def _choices(items: list[Any]) -> list[Any]:
    """Return the literals that the branches of a field allow; pydantic has them only as text."""
    texts = [item["ctx"]["expected"] for item in items if item["type"] == "literal_error"]
    return [ast.literal_eval(word) for text in texts for word in re.split(r", | or ", text)]


def _models_at(model: type[BaseModel], path: Sequence[str | int]) -> list[type[BaseModel]]:
    annotations: list[Any] = [model]
    for part in path:
        annotations = [below for one in annotations for below in _step(one, part)]
    return [option for one in annotations for option in _options(one) if _is_model(option)]


def _step(annotation: Any, part: str | int) -> Iterator[Any]:
    """Go from an annotation to that of the field, list entry or mapping value `part`."""
    for option in _options(annotation):
        if _is_model(option):
            if str(part) in option.model_fields:
                yield option.model_fields[str(part)].annotation
        elif get_origin(option) is tuple:
            inner = [entry for entry in get_args(option) if entry is not Ellipsis]
            if isinstance(part, int) and inner:
                yield inner[min(part, len(inner) - 1)]
        elif get_origin(option) is dict:
            yield get_args(option)[1]


def _options(annotation: Any) -> Iterator[Any]:
    """Take apart unions and Annotated."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from _options(option)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _places(model: type[BaseModel], name: str, prefix: str = "") -> Iterator[str]:
    """Find every field called `name` in the whole schema."""
    if prefix and name in model.model_fields:
        yield prefix + name
    for key, field in model.model_fields.items():
        for option in _options(field.annotation):
            if _is_model(option):
                yield from _places(option, name, f"{prefix}{key}.")
