"""Distributions of one label: those of scipy, and of users, by the names of a configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlpop.config.blocks.prior import DistributionConfig
from mlpop.config.foreign_code import foreign_code
from mlpop.config.registry import Registry
from mlpop.errors import ConfigError

Values = NDArray[np.float64]

DISTRIBUTIONS: Registry[Any] = Registry(
    "prior_ranges.distributions.type", "distribution", None, "mlpop.distributions"
)
"""Distributions of users: whatever has scipy's `cdf`, `ppf` and `logpdf` once it is made."""

_SHOWN = 1e-3
"""Probability beyond either end of what figures show of a distribution without an edge."""


@dataclass(frozen=True)
class Marginal:
    """The prior of one label, in physical units.

    Args:
        low, high: where it ends.
        range: what figures show of it.
        cdf: distribution function, to [0, 1].
        ppf: its inverse.
        logpdf: log density; finite from `low` to `high`.
        is_uniform: whether the density is constant.
        bounded: whether `low` and `high` are edges of the distribution, not of what float32
            resolves of its tails.
    """

    low: float
    high: float
    range: tuple[float, float]
    cdf: Callable[[Values], Values]
    ppf: Callable[[Values], Values]
    logpdf: Callable[[Values], Values]
    is_uniform: bool
    bounded: bool

    @property
    def log_height(self) -> float:
        """Log density of a uniform distribution."""
        return -log(self.high - self.low)


def marginal(
    label: str, config: DistributionConfig, low: float, high: float, tail: float
) -> Marginal:
    """Return the prior of a label.

    Args:
        label: for messages.
        config: type and arguments.
        low, high: edges of `uniform`, `log_uniform` and `truncated_normal`; others ignore them.
        tail: probability at which a distribution without an edge ends, on either side.

    Raises:
        ConfigError: an edge is not finite or out of order, or there is no such distribution.
    """
    name = f"prior_ranges.distributions.{label}: '{config.type}'"
    if not config.takes_edges:
        return _without_edges(name, config, tail)
    if not (isfinite(low) and isfinite(high) and low < high):
        raise ConfigError(
            f"prior_ranges of {label}: low must be below high and both finite, but got "
            f"low {low} and high {high}"
        )
    if config.type == "uniform":
        frozen = stats.uniform(low, high - low)
    elif config.type == "log_uniform":
        frozen = stats.loguniform(low, high)
    else:
        loc, scale = config.args["loc"], config.args["scale"]
        frozen = stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale)
    _checked_places(name, frozen, tail)
    return Marginal(
        float(low),
        float(high),
        (float(low), float(high)),
        frozen.cdf,
        frozen.ppf,
        frozen.logpdf,
        is_uniform=config.type == "uniform",
        bounded=True,
    )


def _without_edges(name: str, config: DistributionConfig, tail: float) -> Marginal:
    """Return a distribution that has its own edges, or none."""
    if config.type == "normal":
        frozen: Any = stats.norm(**config.args)
    else:
        make = DISTRIBUTIONS.find(config.type)
        with foreign_code(f"{name} cannot be made with the args {dict(config.args)}"):
            frozen = make(**config.args)
    if missing := [f for f in ("cdf", "ppf", "logpdf") if not callable(getattr(frozen, f, None))]:
        raise ConfigError(
            f"{name} must have cdf, ppf and logpdf, as the distributions of scipy.stats have; it "
            f"lacks {', '.join(missing)}"
        )
    places = _checked_places(name, frozen, tail)
    edges = np.asarray(frozen.ppf(np.array([0.0, 1.0])), dtype=np.float64)
    bounded = bool(np.isfinite(edges).all())
    low, high = edges if bounded else places[[0, -1]]
    shown = (low, high) if bounded else places[[1, -2]]
    return Marginal(
        float(low),
        float(high),
        (float(shown[0]), float(shown[1])),
        frozen.cdf,
        frozen.ppf,
        frozen.logpdf,
        is_uniform=False,
        bounded=bounded,
    )


def _checked_places(name: str, frozen: Any, tail: float) -> Values:
    """Return the quantiles (7,) of what figures show, of the middle, and at both ends.

    Raises:
        ConfigError: the distribution function of these is not where they came from.
    """
    probabilities = np.array([tail, _SHOWN, 0.25, 0.5, 0.75, 1 - _SHOWN, 1 - tail])
    places = np.asarray(frozen.ppf(probabilities), dtype=np.float64)
    back = np.asarray(frozen.cdf(places), dtype=np.float64)
    if not (np.isfinite(places).all() and np.allclose(back, probabilities, atol=1e-9)):
        raise ConfigError(
            f"{name} has a cdf and a ppf that do not undo each other: at the probabilities "
            f"{probabilities.tolist()} ppf gives {places.tolist()}, and cdf of those "
            f"{back.tolist()}; it must be continuous, and its numbers must be told apart in "
            "double precision"
        )
    return places
