"""The three documented files of a training: losses and metric of every epoch."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from mlpop.errors import DataError
from mlpop.io.files import read_json_object
from mlpop.regression.evaluation import Numbers
from mlpop.regression.learner import Epoch

TRAIN, TRAIN_EVAL, VALID = "train_results.json", "train_eval_results.json", "valid_results.json"

OTHER_NAMES = {
    TRAIN: "train_result.json",
    TRAIN_EVAL: "train_eval_result.json",
    VALID: "validation_result.json",
}
"""What the reference calls them; read, never written."""


class Records:
    """Files that grow by an entry an epoch and are whole at any time.

    Args:
        folder: where they lie.
        history: epochs that they hold from the start.

    Raises:
        DataError: a file cannot be written.
    """

    def __init__(self, folder: Path, history: Sequence[Epoch] = ()) -> None:
        self.folder = folder
        self._entries: dict[str, list[str]] = {TRAIN: [], TRAIN_EVAL: [], VALID: []}
        for record in history:
            self._take(record)
        if history:
            self._write()

    def add(self, record: Epoch) -> None:
        """Write the files with one epoch more."""
        self._take(record)
        self._write()

    @property
    def files(self) -> list[Path]:
        """The files that are there: no validation set, no file of it."""
        return [self.folder / name for name, entries in self._entries.items() if entries]

    def _take(self, record: Epoch) -> None:
        parts = {TRAIN: record.train, TRAIN_EVAL: record.train_eval, VALID: record.valid}
        for name, numbers in parts.items():
            if numbers is not None:
                self._entries[name].append(_entry(record.epoch, numbers))

    def _write(self) -> None:
        for name, entries in self._entries.items():
            if entries:
                text = "{\n" + ",\n".join(entries) + "\n}\n"
                _replace(self.folder / name, text)


def read_records(folder: Path, name: str) -> dict[str, dict[str, float | None]]:
    """Read one of the files: epoch -> numbers. The reference's name of it is found too.

    Raises:
        DataError: the file is missing or broken.
    """
    path = folder / name
    other = folder / OTHER_NAMES[name]
    return read_json_object(other if other.is_file() and not path.is_file() else path)


def _replace(path: Path, text: str) -> None:
    # not flushed to the disk: that would take longer than many an epoch
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _entry(epoch: int, numbers: Numbers) -> str:
    values = {
        name: value if math.isfinite(value) else None for name, value in sorted(numbers.items())
    }
    lines = json.dumps(values, indent=2, allow_nan=False).replace("\n", "\n  ")
    return f'  "{epoch:05d}": {lines}'
