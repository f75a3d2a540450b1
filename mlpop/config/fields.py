"""Field types that several blocks share."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mlpop.config.messages import Refused, show

Count = Annotated[int, Field(ge=1, le=10**9)]
Few = Annotated[int, Field(ge=1, le=10**4)]
"""Of what takes a process, a network or a layer for each."""
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]

INPUT_PREFIX = "input:"
"""What the CSV header puts before the name of a map."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|s3:")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


class S3Uri(str):
    """`s3://bucket/key`: an object, or the folder of all objects whose keys begin with `key/`.

    Args:
        text: the URI; a slash at its end is left out.

    Raises:
        ValueError: it has no bucket, or its key has an empty part, `.` or `..`.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        bucket, _, key = text.removeprefix("s3://").partition("/")
        key = key.removesuffix("/")
        if not text.startswith("s3://") or not _BUCKET.fullmatch(bucket):
            raise ValueError(f"must be s3://bucket/folder, found '{text}'")
        if key and any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(
                f"must not have an empty part, '.' or '..' in its key, found '{text}'"
            )
        return super().__new__(cls, f"s3://{bucket}/{key}".removesuffix("/"))

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.removeprefix("s3://").partition("/")[0]

    @property
    def key(self) -> str:
        """What follows the bucket, without slashes around it; empty for the bucket itself."""
        return self.removeprefix("s3://").partition("/")[2]

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Suffix of the last part, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> "S3Uri":
        """The folder that this lies in."""
        return S3Uri(f"s3://{self.bucket}/{self.key.rpartition('/')[0]}")

    def __truediv__(self, name: str) -> "S3Uri":
        return S3Uri(f"{self}/{name}")


class OneOf:
    """Makes pydantic take one of some names, such as the keys of a table, as a `Literal` does.

    Args:
        names: those that are allowed.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(self.names)


def expanded(path: Path) -> Path:
    """Return a path with the home folder in place of a leading `~`.

    Raises:
        Refused: nobody has that home folder, or the path holds a NUL character.
    """
    if "\0" in str(path):
        raise Refused(("", "must not hold a NUL character"))
    try:
        return path.expanduser()
    except RuntimeError:
        raise Refused(
            ("", f"has a home folder that is not known, found {show(str(path))}")
        ) from None


def _local(value: Any) -> Any:
    if isinstance(value, str) and _URI.match(value):
        raise Refused(("", f"must be a path on this machine, found {show(value)}"))
    return value


def _given(value: Any) -> Any:
    if value == "":
        raise Refused(("", "must be a path, found ''"))
    return value


def _blank_is_null(value: Any) -> Any:
    return None if value == "" else value


class _LocationField:
    """Makes pydantic read a path or, where the text has a scheme, an `S3Uri`."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            _location,
            handler.generate_schema(LaxPath),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )


def _location(value: Any, as_path: Any) -> Any:
    if isinstance(value, S3Uri):
        return value
    if not isinstance(value, str) or not _URI.match(value):
        return as_path(value)
    if not value.startswith("s3://"):
        raise Refused(("", f"must be a path or s3://bucket/folder, found {show(value)}"))
    try:
        return S3Uri(value)
    except ValueError as error:
        raise Refused(("", str(error))) from None


def _one_kind(columns: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len({type(column) for column in columns}) > 1:
        raise Refused(("", f"must be all positions or all names, found both: {list(columns)}"))
    if twice := [c for i, c in enumerate(columns) if c in columns[:i]]:
        raise Refused(("", f"must not have a column twice, found {show(twice[0])} again"))
    return columns


# A validator before the type hands pydantic Python objects, of which strict mode takes no string
# for a path; lax mode takes a string, and still no number.
LaxPath = Annotated[Path, Field(strict=False), AfterValidator(expanded)]

Folder = Annotated[LaxPath, BeforeValidator(_given), BeforeValidator(_local)]
"""A path that must be given."""

OptionalPath = Annotated[LaxPath | None, BeforeValidator(_blank_is_null), BeforeValidator(_local)]
"""A path, or null; the documented files write "" for null."""

Location = Annotated[Path | S3Uri, _LocationField(), BeforeValidator(_given)]
"""A path, or `s3://bucket/folder`, that must be given."""

OptionalLocation = Annotated[
    Annotated[Path | S3Uri, _LocationField()] | None, BeforeValidator(_blank_is_null)
]
"""A path or `s3://bucket/folder`, or null; "" is null."""

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
