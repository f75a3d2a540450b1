"""The prior: independent distributions of all labels, and the unit cube that networks see."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sbi.utils import BoxUniform
from torch import Generator, Tensor

from mlpop.config.blocks.prior import DistributionConfig, PriorConfig
from mlpop.datasets.scaling import LabelScaling
from mlpop.errors import ConfigError, DataError
from mlpop.inference.distributions import Marginal, marginal

RESOLUTION = 2.0**-24
"""Half the distance of float32 numbers below 1. No label comes nearer to a face of the cube, so
that a distribution without an edge ends where less than this part of it is left."""

_STEP = 1e-3
"""For the slope of a log density across the cube: of the distance to the nearest face."""


def in_cube(theta: Tensor) -> Tensor:
    """Tell for theta (..., d) whether it lies in the unit cube: (...,)."""
    return ((theta >= 0) & (theta <= 1)).all(-1)


@dataclass(frozen=True)
class Prior:
    """Independent priors of all labels.

    Networks see u = F(theta), each label through its own distribution function: whatever the
    distributions are, the prior is uniform there and ends at the faces of the unit cube.

    Args:
        labels: names of the d parameters, in the order of theta.
        low: (d,) lower edges, inclusive, physical units; ignored for distributions that have
            their own.
        high: (d,) upper edges, exclusive, likewise.
        scaling: of the labels in files that users read; None leaves them as they are.
        distributions: of labels that are not uniform.

    Raises:
        ConfigError: lengths differ, an edge is not finite, a lower edge is not below its upper,
            or a distribution is not one.
    """

    labels: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    scaling: LabelScaling | None = None
    distributions: Mapping[str, DistributionConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = len(self.labels), len(self.low), len(self.high)
        if len(set(lengths)) > 1 or not self.labels:
            raise ConfigError(
                "prior_ranges: labels, low and high must have the same length, at least 1, but "
                f"got {lengths[0]}, {lengths[1]} and {lengths[2]}"
            )
        if self.scaling is not None and self.scaling.labels != tuple(self.labels):
            raise ConfigError(
                f"prior_ranges.labels {list(self.labels)} are not the labels of the scaling, "
                f"{list(self.scaling.labels)}"
            )
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "low", tuple(m.low for m in self.marginals))
        object.__setattr__(self, "high", tuple(m.high for m in self.marginals))

    @classmethod
    def configured(cls, config: PriorConfig, scaling: LabelScaling | None = None) -> "Prior":
        """Return the prior of a configuration.

        Raises:
            ConfigError: a distribution of the user's own is not one.
        """
        low, high = (
            tuple(nan if edge is None else edge for edge in edges)
            for edges in (config.low, config.high)
        )
        return cls(config.labels, low, high, scaling, config.distributions)

    @cached_property
    def marginals(self) -> tuple[Marginal, ...]:
        """The distributions of the labels."""
        uniform = DistributionConfig()
        edges = zip(self.labels, self.low, self.high, strict=True)
        return tuple(
            marginal(label, self.distributions.get(label, uniform), low, high, RESOLUTION)
            for label, low, high in edges
        )

    @property
    def dimension(self) -> int:
        return len(self.labels)

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """What figures show of every label: all, or 99.8 % of what has no edge."""
        return [marginal.range for marginal in self.marginals]

    @property
    def box(self) -> BoxUniform:
        """sbi's prior over the unit cube."""
        return BoxUniform(low=torch.zeros(self.dimension), high=torch.ones(self.dimension))

    def sample(self, num_samples: int, generator: Generator) -> NDArray[np.float64]:
        """Draw theta (num_samples, d) in physical units."""
        unit = torch.rand(num_samples, self.dimension, generator=generator, dtype=torch.float64)
        return self.quantiles(unit.numpy())

    def quantiles(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return theta (..., d), physical units, of the probabilities `unit` (..., d)."""
        values = [m.ppf(unit[..., k]) for k, m in enumerate(self.marginals)]
        low, high = np.array(self.low), np.array(self.high)
        return np.clip(np.stack(values, -1), low, np.nextafter(high, -np.inf))

    def to_unit(self, theta: ArrayLike) -> Tensor:
        """Return physical theta (..., d) as float32 points of the unit cube.

        What lies outside the prior comes out at the face next to it.
        """
        values = np.asarray(theta, dtype=np.float64)
        unit = np.stack([m.cdf(values[..., k]) for k, m in enumerate(self.marginals)], -1)
        return torch.from_numpy(unit).clamp(RESOLUTION, 1 - RESOLUTION).float()

    def to_physical(self, unit: Tensor) -> NDArray[np.float64]:
        """Return points (..., d) of the unit cube in physical units, never outside the prior."""
        return self.quantiles(unit.detach().cpu().double().numpy())

    def to_files(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return physical theta (..., d) as users' files hold them: scaled like the labels."""
        return theta if self.scaling is None else self.scaling.scale(theta)

    def from_files(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Undo `to_files`."""
        theta = np.asarray(values, dtype=np.float64)
        return theta if self.scaling is None else self.scaling.inverse(theta)

    def contains(self, theta: ArrayLike) -> NDArray[np.bool_]:
        """Tell for physical theta (..., d) whether it lies inside the prior: (...,)."""
        values = np.asarray(theta, dtype=np.float64)
        return np.all((values >= np.array(self.low)) & (values <= np.array(self.high)), axis=-1)

    def log_prob(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Return log densities (...,) of physical theta (..., d); -inf outside."""
        values = np.asarray(theta, dtype=np.float64)
        inside = self.contains(values)
        within = np.clip(values, self.low, self.high)
        total = sum(m.logpdf(within[..., k]) for k, m in enumerate(self.marginals))
        return np.where(inside, total, -np.inf)

    def log_prob_at(self, unit: Tensor) -> Tensor:
        """Return physical log densities (n,) of points (n, d) of the cube; differentiable."""
        if all(m.is_uniform for m in self.marginals):
            return unit.new_full(unit.shape[:-1], sum(m.log_height for m in self.marginals))
        values = unit.detach().cpu().double().numpy().clip(RESOLUTION, 1 - RESOLUTION)
        steps = _STEP * np.minimum(values, 1 - values)
        slope, height = np.zeros_like(values), np.zeros(values.shape[:-1])
        for k, m in enumerate(self.marginals):
            below, above = values[..., k] - steps[..., k], values[..., k] + steps[..., k]
            height += m.logpdf(m.ppf(values[..., k]))
            slope[..., k] = (m.logpdf(m.ppf(above)) - m.logpdf(m.ppf(below))) / (above - below)
        # the value, and a straight line through it that has its slope
        line = (torch.from_numpy(slope).to(unit) * (unit - unit.detach())).sum(-1)
        return torch.from_numpy(height).to(unit) + line

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values from which `from_dict` builds an equal prior."""
        return {
            "labels": list(self.labels),
            "low": list(self.low),
            "high": list(self.high),
            "distributions": {
                label: self.distributions[label].model_dump(mode="json")
                for label in self.labels
                if label in self.distributions
            },
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
                {
                    label: DistributionConfig.parse(entry, f"prior of {label}")
                    for label, entry in values.get("distributions", {}).items()
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"broken prior {dict(values)}: {error!r}") from None
