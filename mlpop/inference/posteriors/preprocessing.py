"""What happens to x before the networks see it: scaling of maps, then compression."""

from collections.abc import Mapping
from dataclasses import dataclass
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

    Raises:
        ConfigError: the scaling is unknown, or not the one that the compressor was made for.
    """

    input_scaling: Mode = "none"
    compressor: Compressor | None = None
    units: InputUnits | None = None

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
            DataError: float32 cannot hold it.
        """
        values = x if self.units is None else self.units(x)
        if is_beyond(values):
            raise DataError(f"x has, as the networks see it, {BEYOND}")
        if self.units is None:
            values = values.astype(np.float32, copy=False)
        return scale_inputs(values, self.input_scaling)

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
            if described is None:
                return cls(scaling, units=units)
            name, digest = described["folder"], described["digest"]
        except (KeyError, TypeError) as error:
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
        return cls(scaling, compressor, units)
