"""The configuration of `mlpop simulate`: which simulations to run, and what becomes of them."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Literal

from pydantic import Field

from mlpop.config.base import StrictModel
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.blocks.data import DynamicalDataConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.preset_stars import fill_stars
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.config.fields import Count, Few, Folder, Fraction, Name, Natural
from mlpop.config.messages import Problem, show
from mlpop.config.reference import Translation

SamplingType = Literal["grid", "random", "lhs", "sobol", "list"]


class SplitConfig(StrictModel):
    """Fractions of the dataset for testing and validation."""

    test: Fraction | None = 0.2
    """Fraction of all rows; null: no test rows."""
    valid: Fraction | None = None
    """Fraction of the rows that are not for testing; null: no validation rows."""


class SweepComputeConfig(ComputeConfig):
    """Where simulations run, and how they are cut into tasks."""

    n_processes: Few = 4
    """Worker processes on this machine."""
    enable_dask: bool = False
    """Run on Dask (`workers_dask`) instead of processes of this machine (`n_processes`)."""
    workers_dask: Count | None = None
    """Dask workers; null: as many as this machine has cores, 4 of a job queue."""


class SimulateConfig(StrictModel):
    """A set of simulations, and the dataset made of it."""

    name: Name = "simulations"
    """Experiment name in the tracking store."""
    simulator: SimulatorConfig = Field(default_factory=SimulatorConfig)
    dyn_data_loader: DynamicalDataConfig = Field(default_factory=DynamicalDataConfig)
    """The stellar database of the pulsar simulator."""
    sampling_type: SamplingType = "random"
    """`grid`, `random`, `lhs` (Latin hypercube), `sobol`, or `list`: the values that are given."""
    sampling_size: Count | None = None
    """Number of simulations; not for a grid or a list."""
    parameters: dict[Name, tuple[float, ...]] = Field(min_length=1)
    """`[low, high]` of each parameter to vary; `[low, high, steps]` for a grid; for a list the
    value of every simulation, as many of each parameter."""
    seed: Natural | None = None
    """Root seed; null: one is drawn, and logged."""
    save_dir: Folder
    """Folder of the dataset."""
    min_success_fraction: float = Field(default=0.9, gt=0, le=1)
    """Smallest fraction of usable simulations with which a dataset is made."""
    split: SplitConfig | None = None
    """null: no split."""
    catalogues: bool = False
    """Also write the detected pulsars of every simulation, `simulations/<number>/catalogue.csv`,
    with the column names of psrcat; needs `compute.keep_detections`, whatever its default."""
    compute: SweepComputeConfig = Field(default_factory=SweepComputeConfig)
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)

    @classmethod
    def _translate(cls, translation: Translation) -> None:
        fill_stars(translation)

    def _contradictions(self) -> Iterator[Problem]:
        yield from sampling_problems(self.sampling_type, self.parameters, self.sampling_size)
        if self.catalogues and self.compute.keep_detections is False:
            yield "catalogues", "must be false when compute.keep_detections is false"
        if self.catalogues and not (
            self.simulator.draws_stars and self.simulator.pulsar.run_mode == "magrot_det"
        ):
            yield "catalogues", "must be false: this simulator detects no pulsars one by one"
        if self.split is not None and self.split.test is None and self.split.valid is None:
            yield "split", "must give a fraction for test, for valid, or for both"


def sampling_problems(
    sampling_type: SamplingType,
    parameters: Mapping[str, Sequence[float]],
    sampling_size: int | None,
) -> Iterator[Problem]:
    """Yield what is wrong with the ranges and the size of a set of parameters."""
    if not parameters:
        yield "parameters", "must name at least one parameter to vary"
        return
    if sampling_type == "list":
        yield from _list_problems(parameters, sampling_size)
        return
    grid = sampling_type == "grid"
    entries = "[low, high, steps]" if grid else "[low, high]"
    for label, values in parameters.items():
        path, found = f"parameters.{label}", f"found {show(list(values))}"
        if len(values) != (3 if grid else 2):
            yield path, f"must be {entries} for sampling_type '{sampling_type}', {found}"
        elif not all(isfinite(value) for value in values) or values[0] >= values[1]:
            yield path, f"must have finite low < high, {found}"
        elif not isfinite(values[1] - values[0]):
            yield path, f"must be narrower: high - low is beyond the largest number, {found}"
        elif grid and (values[2] != int(values[2]) or values[2] < 2):
            yield path, f"must have a whole number of steps, at least 2, {found}"
    if grid and sampling_size is not None:
        yield "sampling_size", "must be null for a grid: its size is the product of its steps"
    if not grid and (sampling_size is None or sampling_size < 1):
        size = f"at least 1 for sampling_type '{sampling_type}', found {show(sampling_size)}"
        yield "sampling_size", f"must be {size}"


def _list_problems(
    parameters: Mapping[str, Sequence[float]], sampling_size: int | None
) -> Iterator[Problem]:
    number = len(next(iter(parameters.values())))
    for label, values in parameters.items():
        path, found = f"parameters.{label}", f"found {show(list(values))}"
        if not values or len(values) != number:
            yield path, f"must have the value of every simulation, {max(number, 1)} here, {found}"
        elif not all(isfinite(value) for value in values):
            yield path, f"must have finite values, {found}"
    if sampling_size is not None:
        yield "sampling_size", "must be null for a list: its size is the number of values"
