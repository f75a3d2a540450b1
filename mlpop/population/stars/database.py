"""The stellar database: stars with everything about them that does not depend on theta.

A folder with one `.npy` file a column and `header.json`, which is written last. Columns are
memory-mapped, so that any number of worker processes share one copy.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlpop.config.blocks.dynamics import SCHEMA_VERSION, DynamicsConfig
from mlpop.errors import DataError
from mlpop.io.cache import cache_folder
from mlpop.io.locks import NotLocked, locked, make_folder
from mlpop.population.stars.build import (
    UNITS,
    Progress,
    content_digest,
    new_header,
    star_chunks,
)
from mlpop.population.stars.folder import (
    HEADER,
    MappedColumns,
    check_size,
    read_header,
    write_folder,
)
from mlpop.population.surveys.survey import Survey, coverage

_log = logging.getLogger(__name__)
T = TypeVar("T")


class StellarDatabase:
    """Stars as columns.

    Attributes:
        columns: (n,) float32 arrays by name, see `build.UNITS`. Rows are in random order.
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
        self._derived: dict[Hashable, Any] = {}

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

    def coverage(self, chosen: tuple[Survey, ...]) -> NDArray[np.unsignedinteger[Any]]:
        """Return which of these surveys cover each star (n,), see `surveys.survey.coverage`.

        Computed when first asked for: what a survey covers is no property of the stars, so that
        a new survey leaves every database as it is.
        """
        return self.derived(
            ("coverage", chosen),
            lambda: coverage(chosen, *(self.columns[name] for name in ("l", "b", "ra", "dec"))),
        )

    def derived(self, key: Hashable, derive: Callable[[], T]) -> T:
        """Return what `derive` makes of the columns; once for each `key`, which names it."""
        if key not in self._derived:
            self._derived[key] = derive()
        made: T = self._derived[key]
        return made

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the database in `folder`; columns are mapped when first used.

        Raises:
            DataError: the folder holds no database, an incomplete one, or one of another schema.
        """
        folder = Path(folder)
        header = read_header(folder)
        if header["schema"] != SCHEMA_VERSION:
            raise DataError(
                f"{folder / HEADER}: schema {header['schema']}, but this version of mlpop "
                f"reads schema {SCHEMA_VERSION}: build the database anew"
            )
        for name in UNITS:
            check_size(folder / f"{name}.npy", int(header["n_stars"]))
        return cls(MappedColumns(folder), header, folder)

    @classmethod
    def build(cls, config: DynamicsConfig, folder: Path, progress: Progress | None = None) -> Self:
        """Build a database in `folder`, which appears only when it is complete.

        `progress` is called now and then with the numbers of stars done and of all.

        Raises:
            DataError: the folder exists or cannot be written.
        """
        header = new_header(config, "mlpop") | {"content_key": config.content_key()}
        write_folder(Path(folder), header, star_chunks(config, header, progress))
        return cls.open(folder)

    @classmethod
    def generate(cls, config: DynamicsConfig) -> Self:
        """Make the stars of `config` in memory; the same bits as `build` writes."""
        header = new_header(config, "mlpop") | {"content_key": config.content_key()}
        chunks = list(star_chunks(config, header))
        columns = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in UNITS}
        digests = {name: hashlib.sha256(columns[name].data).hexdigest() for name in UNITS}
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
        # Here, because pandas and pyarrow would double the start of every worker process.
        from mlpop.population.stars.csv_file import read_configuration, read_csv

        path = Path(path)
        config = read_configuration(configuration_json or path.parent / "configuration.json")
        header = new_header(config, f"import of {path.name}") | {"content_key": None}
        write_folder(Path(folder), header, read_csv(path, config))
        return cls.open(folder)

    def export_csv(self, path: Path) -> None:
        """Write the documented `final_pop_dyn.csv`, and `configuration.json` beside it.

        Raises:
            DataError: one of the files exists or cannot be written.
        """
        from mlpop.population.stars.csv_file import write_csv

        write_csv(Path(path), self.columns, self.header)


def find_or_build(
    config: DynamicsConfig, cache: Path | None = None, progress: Progress | None = None
) -> StellarDatabase:
    """Open the database of `config` in the cache, building it if it is not there.

    Equal settings share one folder; of processes that ask at the same time one builds and the
    others wait. The cache is `cache_folder()` unless another folder is given.

    Raises:
        DataError: the cache cannot be written.
    """
    key = config.content_key()[:24]
    folder = (cache or cache_folder()) / "stars" / key
    stars = _open_if_whole(folder)
    if stars is not None:
        return stars
    try:
        make_folder(folder.parent)
        with locked(folder.with_suffix(".lock")):
            stars = _open_if_whole(folder)
            if stars is not None:
                return stars
            # Nobody else builds while we hold the lock: these are damaged or were left behind.
            for remnant in [folder, *folder.parent.glob(f".{key}.partial-*")]:
                shutil.rmtree(remnant, ignore_errors=True)
            _log.info("building a stellar database of %d stars in %s", config.NS_number, folder)
            return StellarDatabase.build(config, folder, progress)
    except (OSError, NotLocked) as error:
        raise DataError(
            f"{folder}: the cache cannot be written: {error}; set MLPOP_CACHE_DIR to a folder of "
            "your own"
        ) from None


def _open_if_whole(folder: Path) -> StellarDatabase | None:
    if not folder.exists():
        return None
    try:
        return StellarDatabase.open(folder)
    except DataError as error:
        _log.warning("the cached stellar database is built again: %s", error)
        return None
