"""Configuration as MLflow parameters: runs differ there exactly where their settings differ."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

PREFIX = "cfg."
LONGEST_KEY = 250
"""Of MLflow 3.17, prefix included [characters]."""
LONGEST_VALUE = 500
"""Longest text of a value [characters]: nobody reads on, and older servers keep no more."""
_DIGEST = 16
_PLAIN = re.compile(r"[\w\- ]+", re.ASCII)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"a.b": 1}` for `{"a": {"b": 1}}`; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def parameters(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a configuration to the parameters of a run, path -> value, nothing left out.

    A block stays one value where MLflow could not keep its keys: with signs that it refuses, or
    too long. Keys that differ in case alone are told apart, since a server on MySQL does not:
    `A1` beside `a1` becomes `A1.capital`.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        small = key.lower()
        path = f"{prefix}{key}" + (".capital" if key != small and small in values else "")
        inner: dict[str, Any] = {}
        if isinstance(value, Mapping) and all(_PLAIN.fullmatch(str(name)) for name in value):
            inner = parameters(value, f"{path}.")
        if inner and max(map(len, inner)) <= LONGEST_KEY - len(PREFIX):
            flat |= inner
        else:
            flat[path] = value
    return flat


def logged_value(value: Any) -> str:
    """Return the text of a parameter: numbers plain, so that MLflow compares them as numbers.

    A long text is cut and ends with its SHA-256, so that two that differ still do.
    """
    text = value
    if not isinstance(value, str):
        text = json.dumps(value, separators=(",", ":"), default=str)
    if len(text) <= LONGEST_VALUE:
        return text
    ending = f"... sha256 {hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]}"
    return text[: LONGEST_VALUE - len(ending)] + ending
