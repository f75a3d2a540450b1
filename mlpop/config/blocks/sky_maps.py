"""The `generator.sky_maps` block: further planes that pulsars are counted in."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mlpop.config.base import StrictModel
from mlpop.config.messages import Problem, show

PulsarColumn = Literal["l", "b", "b_abs", "DM", "P", "P_dot"]


class ColumnRange(NamedTuple):
    """Where a column is looked at unless the file says otherwise."""

    low: float
    high: float
    log: bool = False


RANGES: Mapping[PulsarColumn, ColumnRange] = {
    "l": ColumnRange(-180.0, 180.0),
    "b": ColumnRange(-30.0, 30.0),
    "b_abs": ColumnRange(0.0, 30.0),
    "DM": ColumnRange(1.0, 3000.0, log=True),
    "P": ColumnRange(1e-3, 1e2, log=True),
    "P_dot": ColumnRange(1e-21, 1e-9, log=True),
}
"""[deg] for l, b and b_abs, [pc cm^-3] for DM, [s] and [s/s]."""


class SkyAxis(StrictModel):
    """One axis of a sky map."""

    column: PulsarColumn
    """Galactic longitude in (-180, 180], latitude and its absolute value [deg], dispersion measure
    [pc cm^-3], period [s], period derivative [s/s]."""
    limits: tuple[float, float] | None = None
    """Lowest and highest value; null: -180 to 180, -30 to 30, 0 to 30 deg; 1 to 3000; 1e-3 to 100;
    1e-21 to 1e-9."""
    log: bool | None = None
    """Bins of equal width in the logarithm; null: of DM, P and P_dot."""
    bins: Annotated[int, Field(ge=2, le=4096)] | None = None
    """Number of bins; null: `resolution_ppdot`, so that the map can lie beside P-Pdot maps."""

    @property
    def is_log(self) -> bool:
        """Whether bins are equal in the logarithm."""
        return RANGES[self.column].log if self.log is None else self.log

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self.limits or RANGES[self.column][:2]

    def __str__(self) -> str:
        low, high = self.range
        bins = "" if self.bins is None else f", {self.bins} bins"
        return (
            f"{self.column} from {low:.12g} to {high:.12g}{' (log)' if self.is_log else ''}{bins}"
        )

    def _contradictions(self) -> Iterator[Problem]:
        low, high = self.range
        if not low < high:
            yield "limits", f"must be [low, high] with low < high, found {show([low, high])}"
        elif self.is_log and low <= 0:
            where = "limits" if self.limits is not None or self.log is None else "log"
            yield where, f"the limits of a log axis must be positive, found {show([low, high])}"


class SkyMap(StrictModel):
    """A plane, of which there is one map a survey: detected pulsars in a cell."""

    first: SkyAxis
    second: SkyAxis

    @property
    def axes(self) -> tuple[SkyAxis, SkyAxis]:
        """Both axes."""
        return self.first, self.second

    def __str__(self) -> str:
        return " and ".join(map(str, self.axes))

    def _contradictions(self) -> Iterator[Problem]:
        if self.first.column == self.second.column:
            yield "second.column", f"must be another than first.column, {show(self.first.column)}"
