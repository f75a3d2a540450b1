"""Split a dataset into training, validation and test rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import FULL_CSV, TEST_CSV, TRAIN_CSV, TRAIN_STATISTICS, VALID_CSV
from mlpop.datasets.scaling import label_statistics
from mlpop.errors import ConfigError, DataError
from mlpop.io.files import write_csv, write_json


@dataclass(frozen=True)
class Split:
    """Row numbers of each subset; `test` and `valid` may be empty, `train` is not."""

    train: NDArray[np.intp]
    valid: NDArray[np.intp]
    test: NDArray[np.intp]


def split_rows(
    number: int, *, test: float | None, valid: float | None, rng: np.random.Generator
) -> Split:
    """Draw the rows of each subset.

    The test rows are drawn from all, the validation rows from the rest; both are in the order
    of the draw. The training rows are what remains, in the order of the file.

    Args:
        number: rows of the dataset.
        test: fraction of all rows for testing, in (0, 1), or None.
        valid: fraction of the rows that are left for validation, in (0, 1), or None.
        rng: draws the rows.

    Raises:
        ConfigError: no fraction is given, or one is not in (0, 1).
        DataError: a subset would be empty.
    """
    if test is None and valid is None:
        raise ConfigError("split: give a fraction for test, for valid, or for both")
    rest = np.arange(number)
    drawn: dict[str, NDArray[np.intp]] = {}
    for name, fraction in (("test", test), ("valid", valid)):
        if fraction is None:
            drawn[name] = np.empty(0, dtype=np.intp)
            continue
        if not 0 < fraction < 1:
            raise ConfigError(
                f"split.{name} must lie between 0 and 1, both excluded; got {fraction}"
            )
        # 0.29 * 100 is 28.999999999999996: the small term keeps the count that was meant.
        size = int(fraction * len(rest) + 1e-9)
        if size == 0 or size == len(rest):
            raise DataError(
                f"split.{name}: a fraction of {fraction} of {len(rest)} rows is {size} rows; "
                "each subset needs at least one"
            )
        drawn[name] = rng.choice(rest, size=size, replace=False)
        left = np.ones(number, dtype=bool)
        left[np.concatenate([*drawn.values()])] = False
        rest = np.flatnonzero(left)
    return Split(rest, drawn["valid"], drawn["test"])


def split_dataset(
    folder: Path, *, test: float | None, valid: float | None, rng: np.random.Generator
) -> Split:
    """Split `dataset_full.csv` of a folder.

    Writes `dataset_train.csv`, `dataset_test.csv` and `dataset_valid.csv` as asked, and
    `statistics_train.json` over the training rows alone. Arguments as `split_rows`.

    Raises:
        ConfigError: as `split_rows`.
        DataError: as `split_rows`, or the index file is broken.
    """
    index = DatasetIndex.read(folder / FULL_CSV)
    theta = index.label_values(index.labels)
    split = split_rows(len(index), test=test, valid=valid, rng=rng)
    for name, rows in ((TEST_CSV, split.test), (VALID_CSV, split.valid), (TRAIN_CSV, split.train)):
        if len(rows):
            write_csv(folder / name, index.header, (index.row(int(k)) for k in rows))
        else:
            (folder / name).unlink(missing_ok=True)
    write_json(folder / TRAIN_STATISTICS, label_statistics(theta[split.train], index.labels))
    return split
