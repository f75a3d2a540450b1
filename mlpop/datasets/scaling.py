"""Statistics of labels, their scaling by them, and that of every map by its own pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpop.datasets.precision import Observations
from mlpop.errors import ConfigError, DataError
from mlpop.io.files import read_json_object

Mode = Literal["standardize", "normalize", "none"]
MODES: tuple[Mode, ...] = ("standardize", "normalize", "none")

_CHUNK = 256
_FAR = 20.0
"""Scaled labels lie within about 5 if the statistics are theirs."""
_NARROW = 1e-4
"""So much of the statistics' spread even a late truncated round keeps."""

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
        if not isinstance(values, dict) or any(not _is_number(values.get(key)) for key in KEYS):
            raise DataError(
                f"{path}: label '{label}': expected finite numbers for {', '.join(KEYS)}, "
                f"found {values}"
            )
        statistics[label] = {key: float(values[key]) for key in KEYS}
        if values["min"] > values["max"] or values["std"] < 0:
            raise DataError(
                f"{path}: label '{label}': min must not be above max, nor std negative, found "
                f"{values}"
            )
    return statistics


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return number and isfinite(value)
    except OverflowError:
        return False


@dataclass(frozen=True)
class LabelScaling:
    """Affine map between physical and scaled labels: `scaled = (theta - shift) / width`.

    With `standardize` shift and width are mean and standard deviation of the statistics, with
    `normalize` minimum and range, with `none` zero and one.

    Attributes:
        mode: which of the three.
        statistics: of the training set, see `label_statistics`; labels that are not scaled may
            be in it. Not needed with `none`.
        labels: D names, in the order of the columns of theta.

    Raises:
        ConfigError: the mode is unknown.
        DataError: a label is missing from the statistics, or does not vary.
    """

    mode: Mode
    statistics: Mapping[str, Mapping[str, float]]
    labels: tuple[str, ...]
    shift: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    width: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"scaling '{self.mode}' is none of {', '.join(MODES)}")
        labels = tuple(self.labels)
        statistics: dict[str, dict[str, float]] = {}
        for label in labels if self.mode != "none" else ():
            if label not in self.statistics:
                names = ", ".join(self.statistics) or "none"
                raise DataError(f"the statistics have no label '{label}'; found {names}")
            statistics[label] = {key: float(self.statistics[label][key]) for key in KEYS}
        shift, width = [0.0] * len(labels), [1.0] * len(labels)
        if self.mode == "standardize":
            shift = [values["mean"] for values in statistics.values()]
            width = [values["std"] for values in statistics.values()]
        elif self.mode == "normalize":
            shift = [values["min"] for values in statistics.values()]
            width = [values["max"] - values["min"] for values in statistics.values()]
        for label, value in zip(labels, width, strict=True):
            if not value > 0:
                word = "std" if self.mode == "standardize" else "max - min"
                raise DataError(f"label '{label}' cannot be scaled: its {word} is {value}")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "statistics", statistics)
        object.__setattr__(self, "shift", np.array(shift, dtype=np.float64))
        object.__setattr__(self, "width", np.array(width, dtype=np.float64))

    def scale(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Scaled labels of physical ones: (..., D) to (..., D) float64.

        Raises:
            DataError: the last axis does not have D entries.
        """
        return (self._checked(theta) - self.shift) / self.width

    def inverse(self, scaled: ArrayLike) -> NDArray[np.float64]:
        """Physical labels of scaled ones: (..., D) to (..., D) float64.

        Raises:
            DataError: the last axis does not have D entries.
        """
        return self._checked(scaled) * self.width + self.shift

    @property
    def log_volume(self) -> float:
        """log |d theta / d scaled|: subtract it from a scaled log density for physical units."""
        return float(np.sum(np.log(self.width)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values from which `from_dict` builds an equal scaling."""
        return {
            "mode": self.mode,
            "statistics": {label: dict(values) for label, values in self.statistics.items()},
            "labels": list(self.labels),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LabelScaling":
        """Undo `to_dict`.

        Raises:
            DataError: a key is missing.
        """
        try:
            return cls(values["mode"], values["statistics"], tuple(values["labels"]))
        except (KeyError, TypeError) as error:
            raise DataError(f"broken label scaling {values}: {error!r}") from None

    def _checked(self, values: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(values, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != len(self.labels):
            raise DataError(
                f"expected {len(self.labels)} labels ({', '.join(self.labels)}) on the last axis, "
                f"found an array of shape {array.shape}"
            )
        return array


def foreign_statistics(scaling: LabelScaling, theta: NDArray[np.float64]) -> list[str]:
    """Return a sentence for every label of a dataset that its statistics do not fit.

    Args:
        scaling: made of the statistics.
        theta: (N, D) labels of the dataset, physical units.
    """
    if scaling.mode == "none" or not len(theta):
        return []
    scaled = scaling.scale(theta)
    far = np.abs(scaled).max(axis=0) > _FAR
    narrow = (scaled.std(axis=0) < _NARROW) & (theta.std(axis=0) > 0)
    found = []
    for d in np.flatnonzero(far | narrow):
        label = scaling.labels[d]
        said = scaling.statistics[label]
        found.append(
            f"the statistics give {label} the mean {said['mean']:g} and the std {said['std']:g}, "
            f"but here they are {theta[:, d].mean():g} and {theta[:, d].std():g}: "
            "they may be those of another set, or of other units"
        )
    return found


def scale_inputs(x: Observations, mode: Mode) -> NDArray[np.float32]:
    """Scale every map by its own pixels; how many stars it holds is removed thereby.

    Args:
        x: (N, C, H, W) maps. An (N, C) table of numbers is returned as it is: one number has no
            spread of its own.
        mode: `standardize` to mean 0 and population standard deviation 1, `normalize` to
            [0, 1], `none`.

    Returns:
        Float32 of the same shape. A constant map becomes -1 (`standardize`) or 0 (`normalize`),
        whatever the other channels are.

    Raises:
        ConfigError: the mode is unknown.
    """
    if mode not in MODES:
        raise ConfigError(f"scaling '{mode}' is none of {', '.join(MODES)}")
    if mode == "none" or x.ndim < 3:
        return np.asarray(x, dtype=np.float32)
    scaled = np.empty(x.shape, dtype=np.float32)
    pixels = tuple(range(2, x.ndim))
    for start in range(0, len(x), _CHUNK):
        maps = x[start : start + _CHUNK].astype(np.float64)
        low = maps.min(axis=pixels, keepdims=True)
        high = maps.max(axis=pixels, keepdims=True)
        constant = high == low
        if mode == "standardize":
            maps -= maps.mean(axis=pixels, keepdims=True)
            width = np.sqrt(np.mean(maps * maps, axis=pixels, keepdims=True))
        else:
            maps -= low
            width = high - low
        maps /= np.where(constant, 1.0, width)
        replacement = -1.0 if mode == "standardize" else 0.0
        scaled[start : start + _CHUNK] = np.where(constant, replacement, maps)
    return scaled
