"""The stellar database: stars with everything about them that does not depend on theta.

A folder with one `.npy` file a column and `header.json`, which is written last. Columns are
memory-mapped, so that any number of worker processes share one copy.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import filelock
import numpy as np
import platformdirs
from numpy.typing import NDArray

from mlpop.config.dynamics import SCHEMA_VERSION, DynamicsConfig
from mlpop.errors import DataError
from mlpop.population.stars_build import (
    UNITS,
    Columns,
    OrbitQuality,
    Progress,
    content_digest,
    coverage_digest,
    new_header,
    star_chunks,
)
from mlpop.population.stars_csv import read_configuration, read_csv, write_csv

HEADER = "header.json"
_NPY_MAX_HEADER = 256  # bytes; ours take 128

_log = logging.getLogger(__name__)


class StellarDatabase:
    """Stars as columns.

    Attributes:
        columns: (n,) arrays by name, see `stars_build.UNITS`; float32, but `coverage` uint16
            with one bit a survey in the order of `header["surveys"]`. Rows are in random order.
        header: how the database was made, as JSON values.
        folder: where it lies; None if it is held in memory.
    """

    def __init__(
        self,
        columns: Mapping[str, NDArray[Any]],
        header: dict[str, Any],
        folder: Path | None = None,
    ) -> None:
        self.columns = columns
        self.header = header
        self.folder = folder

    def __len__(self) -> int:
        return int(self.header["n_stars"])

    def __repr__(self) -> str:
        place = "memory" if self.folder is None else str(self.folder)
        return f"StellarDatabase({len(self)} stars, t_age_max={self.t_age_max:g} yr, {place})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is not None:
            return StellarDatabase.open, (self.folder,)
        return StellarDatabase, (self.columns, self.header)

    @property
    def t_age_max(self) -> float:
        """Oldest age that a star may have [yr]; birth rates are numbers over this time."""
        return float(self.header["t_age_max"])

    @property
    def digest(self) -> str:
        """SHA-256 [hex] of the content: equal digests mean equal stars."""
        return str(self.header["digest"])

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the database in `folder`; columns are mapped when first used.

        Raises:
            DataError: the folder holds no database, an incomplete one, one of another schema,
                or one whose coverage belongs to other survey areas.
        """
        folder = Path(folder)
        header = _read_header(folder)
        if header.get("schema") != SCHEMA_VERSION:
            raise DataError(
                f"{folder / HEADER}: schema {header.get('schema')}, but this version of mlpop "
                f"reads schema {SCHEMA_VERSION}: build the database anew"
            )
        if header["coverage_digest"] != coverage_digest():
            raise DataError(
                f"{folder}: its coverage bits were made for other survey areas than those of "
                "mlpop/population/surveys: build the database anew"
            )
        for name in UNITS:
            _check_size(folder / f"{name}.npy", name, int(header["n_stars"]))
        return cls(_MappedColumns(folder), header, folder)

    @classmethod
    def build(cls, config: DynamicsConfig, folder: Path, progress: Progress | None = None) -> Self:
        """Build a database in `folder`, which appears only when it is complete.

        Args:
            config: which stars.
            folder: where to; must not exist.
            progress: called now and then with the numbers of stars done and of all.

        Raises:
            DataError: the folder exists or cannot be written.
        """
        quality = OrbitQuality()
        header = new_header(config, "mlpop") | {"content_key": config.content_key()}
        with _Writer(Path(folder), header) as writer:
            for columns in star_chunks(config, quality, progress):
                writer.append(columns)
            header |= quality.summary()
        return cls.open(folder)

    @classmethod
    def generate(cls, config: DynamicsConfig) -> Self:
        """Make the stars of `config` in memory; the same bits as `build` writes."""
        quality = OrbitQuality()
        columns = _join(star_chunks(config, quality))
        header = new_header(config, "mlpop") | {"content_key": config.content_key()}
        header |= quality.summary()
        digests = {name: hashlib.sha256(columns[name]).hexdigest() for name in UNITS}
        header["digest"] = content_digest(header, digests)
        for column in columns.values():
            column.setflags(write=False)
        return cls(columns, header)

    @classmethod
    def import_csv(cls, path: Path, configuration_json: Path | None, folder: Path) -> Self:
        """Import the documented `final_pop_dyn.csv`, computing every derived column.

        Args:
            path: the CSV file.
            configuration_json: its configuration; the `configuration.json` beside it if None.
            folder: where to; must not exist.

        Raises:
            DataError: a column or setting is missing, a unit is not the documented one, a value
                is not a finite number in its range, or the file is truncated.
        """
        path = Path(path)
        settings = path.parent / "configuration.json" if configuration_json is None else None
        config = read_configuration(settings or Path(str(configuration_json)))
        header = new_header(config, f"import of {path.name}") | {"content_key": None}
        with _Writer(Path(folder), header) as writer:
            for columns in read_csv(path, config):
                writer.append(columns)
        return cls.open(folder)

    def export_csv(self, path: Path) -> None:
        """Write the documented `final_pop_dyn.csv`, and `configuration.json` beside it.

        Raises:
            DataError: one of the files exists or cannot be written.
        """
        write_csv(Path(path), self.columns, self.header)


def find_or_build(
    config: DynamicsConfig, cache: Path | None = None, progress: Progress | None = None
) -> StellarDatabase:
    """Open the database of `config` in the cache, building it if it is not there.

    Equal settings share one folder; of processes that ask at the same time one builds and the
    others wait.

    Args:
        config: which stars.
        cache: folder of the cache; `$MLPOP_CACHE_DIR`, else the user's cache folder, if None.
        progress: see `StellarDatabase.build`.

    Raises:
        DataError: the cache cannot be written.
    """
    root = cache or os.environ.get("MLPOP_CACHE_DIR") or platformdirs.user_cache_dir("mlpop")
    key = hashlib.sha256(f"{config.content_key()} {coverage_digest()}".encode()).hexdigest()[:24]
    folder = Path(root) / "stars" / key
    if (folder / HEADER).is_file():
        return StellarDatabase.open(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_suffix(".lock")):
            if (folder / HEADER).is_file():
                return StellarDatabase.open(folder)
            # Nobody else builds while we hold the lock: these are left from killed processes.
            for remnant in [folder, *folder.parent.glob(f".{key}.partial-*")]:
                shutil.rmtree(remnant, ignore_errors=True)
            _log.info("building a stellar database of %d stars in %s", config.NS_number, folder)
            return StellarDatabase.build(config, folder, progress)
    except OSError as error:
        raise DataError(f"{folder}: the cache cannot be written: {error}") from None


class _MappedColumns(Mapping[str, NDArray[Any]]):
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


class _Writer:
    """Writes columns piece by piece into a temporary folder, renamed when all is well.

    Plain writes, not a map: on a full disk those raise, whereas a map kills the process.
    """

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        self._folder = folder
        self._header = header
        self._files: dict[str, BinaryIO] = {}
        self._hashes = {name: hashlib.sha256() for name in UNITS}
        self._rows = 0

    def __enter__(self) -> Self:
        if self._folder.exists():
            raise DataError(f"{self._folder}: exists already; name a new folder or remove it")
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{self._folder.name}.partial-"
            self._work = Path(tempfile.mkdtemp(prefix=prefix, dir=self._folder.parent))
            for name in UNITS:
                self._files[name] = (self._work / f"{name}.npy").open("wb")
                np.lib.format.write_array_header_1_0(
                    self._files[name],
                    {
                        "descr": np.lib.format.dtype_to_descr(_dtype(name)),
                        "fortran_order": False,
                        "shape": (self._header["n_stars"],),
                    },
                )
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be written: {error}") from None
        return self

    def append(self, columns: Columns) -> None:
        """Write the next rows."""
        try:
            for name, file in self._files.items():
                data = np.ascontiguousarray(columns[name], dtype=_dtype(name)).data
                self._hashes[name].update(data)
                file.write(data)
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be written: {error}") from None
        self._rows += len(columns["age"])

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be written: {error}") from None
        finally:
            for file in self._files.values():
                file.close()
            shutil.rmtree(self._work, ignore_errors=True)

    def _finish(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        digests = {name: value.hexdigest() for name, value in self._hashes.items()}
        self._header["digest"] = content_digest(self._header, digests)
        self._header["columns"] = {
            name: {"unit": unit, "dtype": str(_dtype(name)), "sha256": digests[name]}
            for name, unit in UNITS.items()
        }
        with (self._work / HEADER).open("w", encoding="utf-8") as file:
            json.dump(self._header, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        self._work.chmod(0o755)
        self._work.rename(self._folder)


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype("<u2" if name == "coverage" else "<f4")


def _join(chunks: Iterable[Columns]) -> Columns:
    pieces = list(chunks)
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in UNITS}


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    try:
        header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no stellar database: {HEADER} is missing; build one with 'mlpop dynamics'"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return header


def _check_size(path: Path, name: str, n: int) -> None:
    least = n * _dtype(name).itemsize
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: column is missing: {error.strerror}") from None
    if not least < size <= least + _NPY_MAX_HEADER:
        raise DataError(
            f"{path}: {size} bytes, but {n} stars take {least} and a header: the file is damaged; "
            "build the database anew"
        )
