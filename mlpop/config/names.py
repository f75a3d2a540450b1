"""Names of labels and channels: they become columns, files and keys in MLflow."""

import re
from collections.abc import Iterable, Iterator

from mlpop.config.fields import INPUT_PREFIX
from mlpop.config.messages import Problem, show

LONGEST = 100
"""Longest name [characters]; with what is put around it, it must fit into a key of MLflow."""

_NAME = re.compile(r"[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_REFUSED = re.compile(r"[^\w\-. :/]")
_ESCAPED = re.compile(r"_u([0-9a-f]+)_")


def fault_of_name(name: str) -> str:
    """Return why a label or a channel cannot have this name; empty if it can."""
    if len(name) > LONGEST:
        return f"must have at most {LONGEST} characters, found {len(name)}"
    if name.strip() != name or not name:
        return f"must not be empty, or begin or end with a space, found {show(name)}"
    if not _NAME.fullmatch(name) or name.startswith((".", INPUT_PREFIX)):
        return (
            "becomes the name of columns and files: no slash, no backslash, no control character, "
            f"no leading dot and no leading '{INPUT_PREFIX}', found {show(name)}"
        )
    return ""


def faults_of_names(names: Iterable[str], field: str) -> Iterator[Problem]:
    """Yield the faults of the names in a list called `field`."""
    for number, name in enumerate(names):
        if fault := fault_of_name(name):
            yield f"{field}[{number}]", fault


def key_of(name: str) -> str:
    """Return `name` as a key of MLflow, which takes letters, digits and `_ - . : /` and spaces.

    `log10(B)` becomes `log10_u28_B_u29_`; different names have different keys, and `name_of`
    reads them back.
    """
    safe = re.sub(r"_(?=u[0-9a-f]+_)", "_u5f_", name)
    return _REFUSED.sub(lambda match: f"_u{ord(match[0]):x}_", safe)


def name_of(key: str) -> str:
    """Undo `key_of`."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), key)
