"""The folder of a stellar database: one `.npy` file a column, and `header.json` written last."""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

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


def write_folder(folder: Path, header: dict[str, Any], chunks: Iterable[Columns]) -> None:
    """Write columns piece by piece into a temporary folder, renamed when all is well.

    Plain writes, not a map: on a full disk those raise, whereas a map kills the process.

    Args:
        folder: where to; must not exist.
        header: of the database; digest and columns are added to it.
        chunks: every column of `UNITS`, for the next stars in order.

    Raises:
        DataError: the folder exists or cannot be written.
    """
    hashes = {name: hashlib.sha256() for name in UNITS}
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder}: exists already; name a new folder or remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.partial-", dir=folder.parent, ignore_cleanup_errors=True
        ) as name:
            work = Path(name)
            with contextlib.ExitStack() as stack:
                files = {n: stack.enter_context((work / f"{n}.npy").open("wb")) for n in UNITS}
                for file in files.values():
                    file.write(_npy_header(header["n_stars"]))
                for columns in chunks:
                    for name, file in files.items():
                        data = np.ascontiguousarray(columns[name], dtype=DTYPE).data
                        hashes[name].update(data)
                        file.write(data)
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
            digests = {name: value.hexdigest() for name, value in hashes.items()}
            header["digest"] = content_digest(header, digests)
            header["columns"] = {
                name: {"unit": unit, "dtype": str(DTYPE), "sha256": digests[name]}
                for name, unit in UNITS.items()
            }
            with (work / HEADER).open("w", encoding="utf-8") as text:
                json.dump(header, text, indent=1)
                text.flush()
                os.fsync(text.fileno())
            work.chmod(0o755)
            work.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error}") from None


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
