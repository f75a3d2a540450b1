"""Field types that several blocks share."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from mlpop.config.messages import Refused, show

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]

INPUT_PREFIX = "input:"
"""What the CSV header puts before the name of a map."""


def _given(value: Any) -> Any:
    if value == "":
        raise Refused(("", "must be a path, found ''"))
    return value


def _blank_is_null(value: Any) -> Any:
    return None if value == "" else value


def _one_kind(columns: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len({type(column) for column in columns}) > 1:
        raise Refused(("", f"must be all positions or all names, found both: {list(columns)}"))
    if twice := [c for i, c in enumerate(columns) if c in columns[:i]]:
        raise Refused(("", f"must not have a column twice, found {show(twice[0])} again"))
    return columns


# A validator before the type hands pydantic Python objects, of which strict mode takes no string
# for a path; lax mode takes a string, and still no number.
LaxPath = Annotated[Path, Field(strict=False)]

Folder = Annotated[LaxPath, BeforeValidator(_given)]
"""A path that must be given."""

OptionalPath = Annotated[LaxPath | None, BeforeValidator(_blank_is_null)]
"""A path, or null; the documented files write "" for null."""

Columns = Annotated[tuple[Natural | Name, ...], Field(min_length=1), AfterValidator(_one_kind)]
"""Columns of the index CSV: 0-based positions over all of them, or names."""


def bare_names(columns: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return column names without the `input:` prefix; positions stay as they are."""
    return tuple(c.removeprefix(INPUT_PREFIX) if isinstance(c, str) else c for c in columns)


def dataset_root(path: Path) -> Path:
    """Return `path` without a trailing `generated_dataset`, the root of a documented data tree.

    The documented examples give the training root without that component and the test root with
    it; both mean the folder that holds `generated_dataset/round_r`.
    """
    return path.parent if path.name == "generated_dataset" else path
