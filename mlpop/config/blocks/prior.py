"""The block of the prior: an independent distribution of every label."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from mlpop.config.base import StrictModel
from mlpop.config.blocks.network import IMPORTABLE
from mlpop.config.fields import Name
from mlpop.config.messages import Problem, Refused, one_of, show, unknown
from mlpop.config.names import faults_of_names

Names = Annotated[tuple[Name, ...], Field(min_length=1)]
Edges = Annotated[tuple[float | None, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Distribution:
    """What a distribution of mlpop's own takes.

    Attributes:
        arguments: names of its numbers.
        edges: whether it lies between `low` and `high` of its label.
        positive: whether those must be above 0.
    """

    arguments: tuple[str, ...] = ()
    edges: bool = True
    positive: bool = False


DISTRIBUTIONS: Mapping[str, Distribution] = {
    "uniform": Distribution(),
    "log_uniform": Distribution(positive=True),
    "truncated_normal": Distribution(arguments=("loc", "scale")),
    "normal": Distribution(arguments=("loc", "scale"), edges=False),
}
"""`prior_ranges.distributions.<label>.type` -> what it takes."""


NORMAL_REACH = 5.3
"""Standard deviations within which all draws of a normal prior lie: networks see its probability
in float32, which ends there."""


def _distribution(value: str) -> str:
    if value not in DISTRIBUTIONS and not IMPORTABLE.fullmatch(value):
        raise Refused(("", one_of(value, list(DISTRIBUTIONS), "'package.module:name'")))
    return value


class DistributionConfig(StrictModel):
    """The prior of one label."""

    type: Annotated[str, AfterValidator(_distribution)] = "uniform"
    """`uniform`, `log_uniform`, `truncated_normal`, `normal`, or `package.module:name` of what
    has scipy's `cdf`, `ppf` and `logpdf` once it is called, such as `scipy.stats:beta`."""
    args: dict[Name, Any] = Field(default_factory=dict)
    """`loc` and `scale` of both normals, in physical units; of your own whatever it takes."""

    @property
    def takes_edges(self) -> bool:
        """Whether it lies between the label's `low` and `high`; others have their own edges."""
        return self.type in DISTRIBUTIONS and DISTRIBUTIONS[self.type].edges

    def _contradictions(self) -> Iterator[Problem]:
        if self.type not in DISTRIBUTIONS:
            return
        allowed = DISTRIBUTIONS[self.type].arguments
        for name in self.args:
            if name not in allowed:
                yield f"args.{name}", unknown(name, list(allowed))
        for name in allowed:
            value = self.args.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                found = f", found {show(value)}" if name in self.args else ""
                yield f"args.{name}", f"is required and must be a number{found}"
            elif not isfinite(value):
                yield f"args.{name}", f"must be a finite number, found {value}"
            elif name == "scale" and value <= 0:
                yield "args.scale", f"must be greater than 0, found {value}"


class PriorConfig(StrictModel):
    """The prior: an independent distribution of every label, in physical units."""

    labels: Names
    """Parameters to infer, in the order of the data's label columns."""
    low: Edges
    """Lower edge of every label; null where its distribution has none."""
    high: Edges
    """Upper edge of every label, likewise."""
    distributions: dict[Name, DistributionConfig] = Field(default_factory=dict)
    """Label -> its distribution, where it is not uniform from `low` to `high`."""

    def distribution(self, label: str) -> DistributionConfig:
        """Return the distribution of a label."""
        return self.distributions.get(label) or DistributionConfig()

    def reach(self, i: int) -> tuple[float, float] | None:
        """Return from where to where theta of a label may lie; None if only its class knows."""
        distribution = self.distribution(self.labels[i])
        low, high = self.low[i], self.high[i]
        if low is not None and high is not None:
            return low, high
        if distribution.type != "normal":
            return None
        loc, scale = distribution.args["loc"], distribution.args["scale"]
        return loc - NORMAL_REACH * scale, loc + NORMAL_REACH * scale

    def _contradictions(self) -> Iterator[Problem]:
        count = len(self.labels)
        for name, values in (("low", self.low), ("high", self.high)):
            if len(values) != count:
                yield name, f"must have one entry a label ({count}), found {len(values)}"
        yield from faults_of_names(self.labels, "labels")
        for i, label in enumerate(self.labels):
            if label in self.labels[:i]:
                yield f"labels[{i}]", f"must be unique, found {show(label)} again"
        for label in self.distributions:
            if label not in self.labels:
                yield f"distributions.{label}", unknown(label, list(self.labels))
        if len(self.low) == len(self.high) == len(set(self.labels)) == count:
            for i, label in enumerate(self.labels):
                yield from self._edges_of(i, self.distribution(label))

    def _edges_of(self, i: int, distribution: DistributionConfig) -> Iterator[Problem]:
        low, high, label = self.low[i], self.high[i], self.labels[i]
        kind = distribution.type
        if not distribution.takes_edges:
            for name, edge in (("low", low), ("high", high)):
                if edge is not None:
                    advice = "; 'truncated_normal' has edges" if kind == "normal" else ""
                    yield (
                        f"{name}[{i}]",
                        f"must be null for {label}, whose distribution '{kind}' has no edges to "
                        f"set{advice}, found {edge}",
                    )
        elif low is None or high is None:
            name = "low" if low is None else "high"
            yield f"{name}[{i}]", f"is required for {label}, whose distribution is '{kind}'"
        elif low >= high:
            yield f"low[{i}]", f"must be less than high[{i}] = {high} for {label}, found {low}"
        elif not isfinite(high - low):
            yield (
                f"high[{i}]",
                f"must be nearer to low[{i}] = {low} for {label}: the range is beyond the largest "
                f"number, found {high}",
            )
        elif DISTRIBUTIONS[kind].positive and low <= 0:
            yield f"low[{i}]", f"must be greater than 0 for {label}, a '{kind}' one, found {low}"
