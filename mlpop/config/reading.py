"""Reading text of which nothing is known yet: regular files of a bounded size, JSON that ends."""

import codecs
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlpop.config.messages import nearest
from mlpop.errors import MlpopError

LARGEST_TEXT = 1 << 30
"""The largest text file that is read [byte]."""
LARGEST = 1 << 26
"""The largest configuration [byte]."""
BLOCK = 1 << 22
"""What is looked through at a time [byte]."""
DEEPEST = 100
"""How deeply JSON may be nested."""
SHIPPED = "experiments"
"""Folder of the configurations that commands take by default."""

FOREIGN = {
    b"SQLite format 3\x00": "an SQLite database",
    b"\x1f\x8b": "a gzip archive (unpack it)",
    b"PK\x03\x04": "a zip archive (an .npz, an .xlsx)",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a .npy array",
}


UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Marks at the beginning of text as some Windows programs save it."""


class Unreadable(ValueError):
    """A file is not what it should be; the message does not name it."""


class NotJson(Unreadable):
    """Text is no JSON.

    Args:
        line: where, from 1.
        message: what is wrong there.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_bytes(path: Path, limit: int = LARGEST_TEXT) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it cannot be read.
        Unreadable: it is no regular file (a device, a pipe), or larger than `limit` [byte].
    """
    _check_file(path, limit)
    return path.read_bytes()


def _check_file(path: Path, limit: int) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("is no regular file")
    if status.st_size > limit:
        raise Unreadable(f"has {status.st_size} bytes; at most {limit} are read")


def check_text(path: Path, *, limit: int = LARGEST_TEXT) -> None:
    """Look through a text file, block by block, as `read_text` does, which holds it whole.

    Raises:
        OSError: it cannot be read.
        Unreadable: it is no text in UTF-8; the message says what it is where that is known.
    """
    _check_file(path, limit)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with path.open("rb") as file:
        place = 0
        while block := file.read(BLOCK):
            if place == 0:
                refuse_foreign(block)
            if b"\x00" in block:
                raise Unreadable("is no text: it holds NUL bytes")
            _decode(decoder, block, place)
            place += len(block)
        _decode(decoder, b"", place)


def _decode(decoder: codecs.IncrementalDecoder, block: bytes, place: int) -> None:
    waiting = len(decoder.getstate()[0])
    try:
        decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        at = place - waiting + error.start
        raise Unreadable(
            f"is no UTF-8 text: {error.reason} at byte {at}; save it as UTF-8"
        ) from None


def refuse_foreign(data: bytes) -> None:
    """Refuse the beginning of a file that is known not to be text in UTF-8.

    Raises:
        Unreadable: the message says what it is.
    """
    if data.startswith(UTF16):
        raise Unreadable("is text in UTF-16; save it as UTF-8")
    for magic, kind in FOREIGN.items():
        if data.startswith(magic):
            raise Unreadable(f"is {kind}, not text")


def read_text(path: Path, *, errors: str = "strict", limit: int = LARGEST_TEXT) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: it cannot be read.
        Unreadable: it is no text; the message says what it is where that is known.
    """
    data = read_bytes(path, limit)
    refuse_foreign(data)
    if b"\x00" in data:
        raise Unreadable("is no text: it holds NUL bytes")
    try:
        return data.decode("utf-8-sig", errors=errors)
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"is no UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from None


def unique_fields(
    path: Path, refusal: type[MlpopError], pairs: list[tuple[str, Any]]
) -> dict[str, Any]:
    """Return an object of a JSON file, as a hook of `parse_json`.

    Raises:
        MlpopError: of the class `refusal`, if a field is there twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise refusal(f"{path}: field '{twice}' is given twice in one object")
    return values


def parse_json(text: str, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return what JSON text says.

    Args:
        text: the JSON.
        hook: makes an object of its pairs; None makes a dict.

    Raises:
        NotJson: it is no JSON.
        Unreadable: it is nested too deeply, or has an integer of too many digits.
    """
    try:
        values = json.loads(text, object_pairs_hook=hook)
    except json.JSONDecodeError as error:
        raise NotJson(error.lineno, error.msg) from None
    except RecursionError:
        raise Unreadable(f"is nested more than {DEEPEST} levels deep") from None
    except ValueError as error:
        if "digits" not in str(error):
            raise
        raise Unreadable("holds an integer of more than 4300 digits") from None
    # what lies in the innermost counts as a level
    if not is_shallow(values, DEEPEST - 1):
        raise Unreadable(f"is nested more than {DEEPEST} levels deep")
    return values


def is_shallow(values: Any, deepest: int) -> bool:
    """Whether objects and lists lie in each other at most `deepest` deep; without recursion."""
    level = [values]
    for _ in range(deepest):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


def half_characters(values: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the path of every text, and field name, that holds half a character.

    JSON may say "\\ud800", and a shell may give bytes that are no UTF-8: neither can be stored.
    """
    if isinstance(values, str):
        try:
            values.encode()
        except UnicodeEncodeError:
            yield ascii(".".join(path) or "(top level)").strip("'\"")
    elif isinstance(values, dict):
        for name, value in values.items():
            inside = (*path, str(name))
            yield from half_characters(name, inside)
            yield from half_characters(value, inside)
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from half_characters(value, (*path, str(number)))


def sought_in(path: Path) -> str:
    """Return the words that say where a relative path was sought."""
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def missing_file(
    path: os.PathLike[str], meant: Callable[[Path], bool] = lambda _near: True
) -> str:
    """Return that there is no file `path`: where it was sought, and what is there instead.

    Args:
        path: that was given.
        meant: whether a file with a name like it may be the one.
    """
    file = Path(path)
    text = f"{file}: no such file{sought_in(file)}"
    if not file.is_absolute() and os.environ.get("MLFLOW_RUN_ID"):
        text += ", the folder of the project, where `mlflow run` starts its commands"
    near = next(filter(meant, _near_files(file)), None)
    if near is not None:
        text += f"; did you mean '{near}'?"
    elif file.parts[0] == SHIPPED and not file.parent.is_dir():
        text += "; `mlpop init FOLDER` makes a project with all shipped experiments"
    return text


def _near_files(file: Path) -> Iterator[Path]:
    """Yield files whose name `file` misspells: beside it, then `name` for a shipped one."""
    folders = [file.parent]
    if file == Path(file.name):
        folders.append(Path(SHIPPED))
    for folder in folders:
        with suppress(OSError):
            found = {path.stem: path for path in folder.iterdir() if _same_kind(path, file)}
            if near := nearest(file.stem, list(found)):
                yield found[near]


def _same_kind(path: Path, given: Path) -> bool:
    return path.is_file() and given.suffix in ("", path.suffix)
