"""The folder of a stellar database: one `.npy` file a column, and `header.json` written last."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from mlpop.errors import DataError
from mlpop.population.stars.build import UNITS, Columns, content_digest

HEADER = "header.json"
DTYPE = np.dtype("<f4")
"""Of every column."""
_NEEDED = {"schema", "n_stars", "t_age_max", "config", "digest"}


class MappedColumns(Mapping[str, NDArray[Any]]):
    """Columns of a folder, each memory-mapped when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mapped: Columns = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in UNITS:
            raise KeyError(name)
        if name not in self._mapped:
            path = self._folder / f"{name}.npy"
            try:
                self._mapped[name] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: cannot be mapped: {error}") from None
        return self._mapped[name]

    def __iter__(self) -> Iterator[str]:
        return iter(UNITS)

    def __len__(self) -> int:
        return len(UNITS)


class FolderWriter:
    """Writes columns piece by piece into a temporary folder, renamed when all is well.

    Plain writes, not a map: on a full disk those raise, whereas a map kills the process.
    """

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        self._folder = folder
        self._header = header
        self._work: Path | None = None
        self._files: dict[str, BinaryIO] = {}
        self._hashes = {name: hashlib.sha256() for name in UNITS}

    def __enter__(self) -> Self:
        try:
            if self._folder.exists() and any(self._folder.iterdir()):
                raise DataError(f"{self._folder}: exists already; name a new folder or remove it")
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{self._folder.name}.partial-"
            work = Path(tempfile.mkdtemp(prefix=prefix, dir=self._folder.parent))
            self._work = work
            for name in UNITS:
                self._files[name] = (work / f"{name}.npy").open("wb")
                self._files[name].write(_npy_header(self._header["n_stars"]))
        except OSError as error:
            self._clean()
            raise DataError(f"{self._folder}: cannot be written: {error}") from None
        return self

    def append(self, columns: Columns) -> None:
        """Write the next rows."""
        try:
            for name, file in self._files.items():
                data = np.ascontiguousarray(columns[name], dtype=DTYPE).data
                self._hashes[name].update(data)
                file.write(data)
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be written: {error}") from None

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self._work is not None:
                self._finish(self._work)
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be written: {error}") from None
        finally:
            self._clean()

    def _finish(self, work: Path) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        digests = {name: value.hexdigest() for name, value in self._hashes.items()}
        self._header["digest"] = content_digest(self._header, digests)
        self._header["columns"] = {
            name: {"unit": unit, "dtype": str(DTYPE), "sha256": digests[name]}
            for name, unit in UNITS.items()
        }
        with (work / HEADER).open("w", encoding="utf-8") as text:
            json.dump(self._header, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        work.chmod(0o755)
        work.rename(self._folder)

    def _clean(self) -> None:
        for file in self._files.values():
            # Closing flushes, which fails once more on the full disk that brought us here.
            with contextlib.suppress(OSError):
                file.close()
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)


def read_header(folder: Path) -> dict[str, Any]:
    """Read the header of a database.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = folder / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no stellar database: {HEADER} is missing; build one with 'mlpop dynamics'"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    missing = sorted(_NEEDED - set(header)) if isinstance(header, dict) else ["all fields"]
    if missing:
        raise DataError(f"{path}: not the header of a stellar database: no {', '.join(missing)}")
    return dict(header)


def check_size(path: Path, n: int) -> None:
    """Check that a column file is there and as long as `n` stars make it, without reading it.

    Raises:
        DataError: it is missing or of another length.
    """
    expected = len(_npy_header(n)) + n * DTYPE.itemsize
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: column is missing: {error.strerror}") from None
    if size != expected:
        raise DataError(
            f"{path}: {size} bytes, but {n} stars take {expected}: the file is damaged; "
            "build the database anew"
        )


def _npy_header(n: int) -> bytes:
    out = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(DTYPE)
    np.lib.format.write_array_header_1_0(
        out, {"descr": descr, "fortran_order": False, "shape": (n,)}
    )
    return out.getvalue()
