"""What happens to x before the networks see it: logs, scaling of maps, then compression."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlpop.datasets.precision import BEYOND, InputUnits, Observations, as_numbers, is_beyond
from mlpop.datasets.scaling import MODES, Mode, scale_inputs
from mlpop.errors import ConfigError, DataError
from mlpop.inference.compression.compressor import Compressor, load_compressor

COMPRESSOR_FOLDER = "compressor"

COMPRESSED_AT_A_TIME = 512
"""x that a compressor sees together; other numbers of them may give other last bits."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """From x as stored to x as the networks see it.

    Args:
        input_scaling: how every map is scaled by its own pixels.
        compressor: what makes a vector of scaled maps; None for no compression.
        units: in which float32 holds x; None where it holds them as they are.
        logged: places of the channels of counts n of which the networks see log(1 + n); before
            everything else.
        counts: units of log(1 + n) of numbers n, one of which fills each of the last channels;
            everything else is about the maps before them.

    Raises:
        ConfigError: the scaling is unknown, or not the one that the compressor was made for.
    """

    input_scaling: Mode = "none"
    compressor: Compressor | None = None
    units: InputUnits | None = None
    logged: tuple[int, ...] = ()
    counts: InputUnits | None = None

    def __post_init__(self) -> None:
        if self.input_scaling not in MODES:
            raise ConfigError(f"scaling '{self.input_scaling}' is none of {', '.join(MODES)}")
        if self.compressor is None or self.compressor.input_scaling is None:
            return
        if (
            len(self.compressor.x_shape) > 1
            and self.compressor.input_scaling != self.input_scaling
        ):
            raise ConfigError(
                f"the compressor was made for maps with the scaling "
                f"'{self.compressor.input_scaling}', but here they have '{self.input_scaling}'"
            )

    def __call__(self, x: ArrayLike) -> Tensor:
        """Return `x` (b, ...) as the networks see it, float32.

        Raises:
            DataError: `x` has not the shape that the compressor takes, or float32 cannot hold it.
        """
        values = as_numbers(x)
        if self.compressor is None:
            return torch.tensor(self.scaled(values))
        parts = [
            self.compressor(torch.tensor(self.scaled(chunk)))
            for chunk in (
                values[i : i + COMPRESSED_AT_A_TIME]
                for i in range(0, max(1, len(values)), COMPRESSED_AT_A_TIME)
            )
        ]
        return torch.cat(parts)

    def scaled(self, x: Observations) -> NDArray[np.float32]:
        """Return `x` (b, ...) scaled, as a compressor sees it.

        Raises:
            DataError: float32 cannot hold it, or counts are below 0.
        """
        if self.counts is not None:
            maps, numbers = split_counts(x, self.num_counts)
            planes = np.empty((len(x), self.num_counts, *x.shape[2:]), np.float32)
            planes[...] = self.counts(_logs(numbers))[:, :, None, None]
            only_maps = replace(self, counts=None, compressor=None)
            return np.concatenate([only_maps.scaled(maps), planes], axis=1)
        values = self.log_of(x)
        if self.units is not None:
            values = self.units(values)
        if is_beyond(values):
            raise DataError(f"x has, as the networks see it, {BEYOND}")
        if self.units is None:
            values = values.astype(np.float32, copy=False)
        return scale_inputs(values, self.input_scaling)

    @property
    def num_counts(self) -> int:
        """How many of the last channels are numbers."""
        return 0 if self.counts is None else len(self.counts.shift)

    def log_of(self, x: Observations) -> Observations:
        """Return `x` (b, C, ...) with the log of its counts.

        Raises:
            DataError: counts are below 0.
        """
        if not self.logged:
            return x
        if x.ndim < 2 or x.shape[1] <= max(self.logged):
            raise DataError(
                f"expected x of at least {max(self.logged) + 1} channels, found shape {x.shape}"
            )
        values = x.copy()
        for place in self.logged:
            values[:, place] = _logs(x[:, place], place)
        return values

    def stored_shape(self, network_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one x as stored, of networks that take `network_shape`.

        Raises:
            DataError: the networks do not take what the compressor makes.
        """
        if self.compressor is None:
            return network_shape
        if network_shape != (self.compressor.width,):
            raise DataError(
                f"the compressor makes vectors of {self.compressor.width} components, but a "
                f"member was trained for x of shape {network_shape}"
            )
        return self.compressor.x_shape

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the compressor, if there is one, into a folder of its own inside `folder`.

        Returns:
            JSON values from which `load` builds the same again.

        Raises:
            DataError: a file cannot be written.
        """
        values: dict[str, Any] = {"input_scaling": self.input_scaling, "compressor": None}
        if self.units is not None:
            values["units"] = self.units.to_dict()
        if self.logged:
            values["logged"] = list(self.logged)
        if self.counts is not None:
            values["counts"] = self.counts.to_dict()
        if self.compressor is not None:
            self.compressor.save(folder / COMPRESSOR_FOLDER)
            values["compressor"] = {"folder": COMPRESSOR_FOLDER, "digest": self.compressor.digest}
        return values

    @classmethod
    def load(cls, folder: Path, values: Mapping[str, Any]) -> "Preprocessing":
        """Undo `save`.

        Raises:
            DataError: a value or a file is missing, or the compressor is another one.
        """
        try:
            scaling, described = values["input_scaling"], values["compressor"]
            units = InputUnits.from_dict(values["units"]) if "units" in values else None
            logged = tuple(int(place) for place in values.get("logged", ()))
            counts = InputUnits.from_dict(values["counts"]) if "counts" in values else None
            if described is None:
                return cls(scaling, units=units, logged=logged, counts=counts)
            name, digest = described["folder"], described["digest"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: broken preprocessing {values!r}: {error!r}") from None
        # a posterior may come from a server: its JSON must not point out of its folder
        if name != COMPRESSOR_FOLDER:
            raise DataError(
                f"{folder}: the folder of the compressor must be '{COMPRESSOR_FOLDER}', "
                f"found {name!r}"
            )
        compressor = load_compressor(folder / name)
        if compressor.digest != digest:
            raise DataError(
                f"{folder / name}: is the compressor {compressor.digest}, the posterior was saved "
                f"with {digest}"
            )
        return cls(scaling, compressor, units, logged, counts)


def count_units(x: Observations, number: int) -> InputUnits | None:
    """Measure the units of log(1 + n) of the counts in the last channels of x (N, C, H, W).

    Raises:
        DataError: counts are below 0.
    """
    return InputUnits.fit(_logs(split_counts(x, number)[1])) if number else None


def split_counts(x: Observations, number: int) -> tuple[Observations, Observations]:
    """Return the maps (b, C - number, H, W) of x (b, C, H, W), and its counts (b, number).

    Raises:
        DataError: there are no maps before the counts.
    """
    if x.ndim != 4 or x.shape[1] <= number:
        raise DataError(
            f"expected x of maps and {number} counts, (b, C, height, width) with C above "
            f"{number}, found shape {x.shape}"
        )
    return x[:, :-number], x[:, -number:, 0, 0]


def _logs(counts: Observations, place: int | None = None) -> NDArray[np.float64]:
    """Return log(1 + n); messages call the counts those of channel `place`."""
    if (low := counts.min(initial=0.0)) < 0:
        name = "a number beside the maps" if place is None else f"channel {place} of x"
        raise DataError(
            f"{name}, of which log(1 + n) is taken, has the value {low:.6g}: counts are 0 or more"
        )
    return np.asarray(np.log1p(counts.astype(np.float64)))
