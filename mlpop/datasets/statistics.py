"""Mean, standard deviation and extremes of labels: what scales them."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.errors import DataError
from mlpop.io.files import read_json_object

Statistics = dict[str, dict[str, float]]
"""`{label: {"mean", "std", "max", "min"}}`, the standard deviation with ddof 0."""

KEYS = ("mean", "std", "max", "min")


def label_statistics(theta: NDArray[np.float64], labels: Sequence[str]) -> Statistics:
    """Statistics of each label over all rows.

    Args:
        theta: (N, D) labels.
        labels: D names.

    Raises:
        DataError: there is no row, or the number of names is not D.
    """
    if theta.ndim != 2 or theta.shape[1] != len(labels) or len(theta) == 0:
        raise DataError(
            f"statistics need at least one row of {len(labels)} labels, found shape {theta.shape}"
        )
    return {
        label: {key: float(getattr(values, key)()) for key in KEYS}
        for label, values in zip(labels, theta.T.copy(), strict=True)
    }


def read_statistics(path: Path) -> Statistics:
    """Read a statistics file.

    Raises:
        DataError: it is missing or broken, or a value is missing or no finite number.
    """
    statistics: Statistics = {}
    for label, values in read_json_object(path).items():
        if not isinstance(values, dict) or any(
            not isinstance(values.get(key), (int, float)) or not isfinite(values[key])
            for key in KEYS
        ):
            raise DataError(
                f"{path}: label '{label}': expected finite numbers for {', '.join(KEYS)}, "
                f"found {values}"
            )
        statistics[label] = {key: float(values[key]) for key in KEYS}
    return statistics
