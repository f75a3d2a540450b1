"""Configuration as MLflow parameters: a few plain values that runs can be compared by."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mlpop.errors import TrackingError

MOST_PARAMS = 15  # of a run at the top; more columns than that nobody compares


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


def select(values: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Pick fields out of a nested configuration.

    Args:
        values: the configuration as nested mappings.
        paths: dotted paths of fields or of whole blocks.

    Returns:
        path -> value in the order of `paths`; what the configuration does not have, or has as
        None, is left out.

    Raises:
        TrackingError: more than 15 fields are picked.
    """
    flat = flatten(values)
    picked: dict[str, Any] = {}
    for path in paths:
        picked |= {
            key: value
            for key, value in flat.items()
            if (key == path or key.startswith(f"{path}.")) and value is not None
        }
    if len(picked) > MOST_PARAMS:
        raise TrackingError(
            f"{len(picked)} parameters are picked for a run, at most {MOST_PARAMS} are meant to "
            f"be: {', '.join(picked)}"
        )
    return picked


def logged_value(value: Any) -> str:
    """Return the text of a parameter: numbers plain, so that MLflow compares them as numbers."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), default=str)
