"""The uniform prior: a box in physical units, and the same box where the networks see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sbi.utils import BoxUniform
from torch import Generator, Tensor

from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import ConfigError, DataError


@dataclass(frozen=True)
class Prior:
    """Independent uniform priors of all labels.

    Args:
        labels: names of the d parameters, in the order of theta.
        low: (d,) lower edges, inclusive, physical units.
        high: (d,) upper edges, exclusive, physical units.
        scaling: maps physical theta to the space of the networks; None leaves it as it is.

    Raises:
        ConfigError: lengths differ, an edge is not finite, or a lower edge is not below its upper.
    """

    labels: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    scaling: LabelScaling | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "low", tuple(float(value) for value in self.low))
        object.__setattr__(self, "high", tuple(float(value) for value in self.high))
        lengths = len(self.labels), len(self.low), len(self.high)
        if len(set(lengths)) > 1 or not self.labels:
            raise ConfigError(
                "prior_ranges: labels, low and high must have the same length, at least 1, but "
                f"got {lengths[0]}, {lengths[1]} and {lengths[2]}"
            )
        for label, low, high in zip(self.labels, self.low, self.high, strict=True):
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise ConfigError(
                    f"prior_ranges of {label}: low must be below high and both finite, but got "
                    f"low {low} and high {high}"
                )
        if self.scaling is not None and self.scaling.labels != self.labels:
            raise ConfigError(
                f"prior_ranges.labels {list(self.labels)} are not the labels of the scaling, "
                f"{list(self.scaling.labels)}"
            )
        if not bool((self.scaled_low < self.scaled_high).all()):
            raise ConfigError(
                f"prior_ranges: the box is empty after scaling to float32: {self.scaled_low} to "
                f"{self.scaled_high}; check the ranges against the statistics file"
            )

    @property
    def dimension(self) -> int:
        return len(self.labels)

    @cached_property
    def scaled_low(self) -> Tensor:
        """(d,) float32 lower edges of the scaled box, rounded inward."""
        exact = self._scale(np.array(self.low))
        edge = exact.astype(np.float32)
        inward = np.nextafter(edge, np.float32(np.inf))
        return torch.from_numpy(np.where(edge < exact, inward, edge))

    @cached_property
    def scaled_high(self) -> Tensor:
        """(d,) float32 upper edges of the scaled box, rounded inward."""
        exact = self._scale(np.array(self.high))
        edge = exact.astype(np.float32)
        inward = np.nextafter(edge, np.float32(-np.inf))
        return torch.from_numpy(np.where(edge > exact, inward, edge))

    @cached_property
    def box(self) -> BoxUniform:
        """sbi's prior over the scaled box."""
        return BoxUniform(low=self.scaled_low, high=self.scaled_high)

    @cached_property
    def log_volume_ratio(self) -> float:
        """Log of scaled volume over physical volume: physical log density minus scaled."""
        low, high = self._scale(np.array(self.low)), self._scale(np.array(self.high))
        return float(np.log((high - low) / (np.array(self.high) - np.array(self.low))).sum())

    @cached_property
    def log_density(self) -> float:
        """Log density inside the scaled box."""
        return -float(torch.log(self.scaled_high.double() - self.scaled_low.double()).sum())

    def sample(self, num_samples: int, generator: Generator) -> NDArray[np.float64]:
        """Draw theta (num_samples, d) in physical units."""
        unit = torch.rand(
            num_samples, self.dimension, generator=generator, dtype=torch.float64
        ).numpy()
        low, high = np.array(self.low), np.array(self.high)
        return np.clip(low + unit * (high - low), low, np.nextafter(high, -np.inf))

    def contains(self, theta: Tensor) -> Tensor:
        """Tell for scaled theta (..., d) whether it lies inside the box: (...,) booleans."""
        low, high = self.scaled_low.to(theta.device), self.scaled_high.to(theta.device)
        return ((theta >= low) & (theta < high)).all(-1)

    def to_scaled(self, theta: ArrayLike) -> Tensor:
        """Return physical theta (..., d) as a float32 tensor in the space of the networks."""
        values = self._scale(np.asarray(theta, dtype=np.float64))
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    def to_physical(self, theta: Tensor) -> NDArray[np.float64]:
        """Return scaled theta (..., d) of the box in physical units, never outside the ranges."""
        values = theta.detach().cpu().numpy().astype(np.float64)
        if self.scaling is not None:
            values = np.asarray(self.scaling.inverse(values), dtype=np.float64)
        low, high = np.array(self.low), np.array(self.high)
        return np.clip(values, low, np.nextafter(high, -np.inf))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values from which `from_dict` builds an equal prior."""
        return {
            "labels": list(self.labels),
            "low": list(self.low),
            "high": list(self.high),
            "scaling": None if self.scaling is None else self.scaling.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Prior":
        """Undo `to_dict`.

        Raises:
            DataError: a key is missing or of the wrong kind.
        """
        try:
            scaling = values["scaling"]
            return cls(
                tuple(values["labels"]),
                tuple(values["low"]),
                tuple(values["high"]),
                None if scaling is None else LabelScaling.from_dict(scaling),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"broken prior {dict(values)}: {error!r}") from None

    def _scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.scaling is None:
            return values
        return np.asarray(self.scaling.scale(values), dtype=np.float64)
