"""Blocks about data: training and test sets, observed sample, stellar database."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mlpop.config.base import StrictModel
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.fields import (
    Columns,
    Count,
    Name,
    Natural,
    OptionalLocation,
    S3Uri,
    bare_names,
)
from mlpop.config.messages import Problem, Refused, show

InputColumns = Annotated[Columns, AfterValidator(bare_names)]


class TrainingDataConfig(StrictModel):
    """What networks are trained on."""

    dataset_path_round_0: OptionalLocation = None
    """Folder of the round-0 set, `dataset_full.csv`; null when `simulate` makes it."""
    dataset_path: OptionalLocation = None
    """Root of the data of simulated rounds; null: under `trainer.save_dir`."""
    statistic_path: OptionalLocation = None
    """Statistics of the training labels (JSON); computed when `simulate` makes the data."""
    filter_inputs: InputColumns | None = None
    """Channels, in order: positions in the CSV header, or names; null: all (vectors only)."""
    filter_counts: InputColumns | None = None
    """Numbers of detected pulsars that networks see beside the maps, likewise; null: none."""
    filter_labels: Columns | None = None
    """Label columns, in the order of `prior_ranges.labels`; null: those names."""
    normalize: bool = False
    """Scale maps and labels to [0, 1]; excludes `standardize`."""
    standardize: bool = True
    """Scale maps and labels to mean 0, standard deviation 1; excludes `normalize`."""
    log_counts: bool = False
    """Networks see log(1 + n) of maps of counts; those of fluxes and velocities as they are."""
    num_sim: Count = 1000
    """Simulations of a round that is simulated."""
    simulate: bool = False
    """Simulate round 0 from the prior instead of reading it."""

    @property
    def scaling(self) -> str:
        """`standardize`, `normalize` or `none`."""
        if self.standardize:
            return "standardize"
        return "normalize" if self.normalize else "none"

    @property
    def columns(self) -> tuple[int | str, ...] | None:
        """Columns of x: those of maps, then those of counts; None: all inputs."""
        if self.filter_inputs is None:
            return None
        return (*self.filter_inputs, *(self.filter_counts or ()))

    @property
    def num_counts(self) -> int:
        """How many of the columns are counts."""
        return len(self.filter_counts or ())

    def maps_of(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the channels of x without those of counts, which come last."""
        return channels[: len(channels) - self.num_counts]

    def _contradictions(self) -> Iterator[Problem]:
        if self.filter_counts is not None and self.filter_inputs is None:
            yield "filter_inputs", "is required with filter_counts: name the maps"
        for count in self.filter_counts or ():
            if count in (self.filter_inputs or ()):
                yield "filter_counts", f"must have no column of filter_inputs, found {show(count)}"
        if self.normalize and self.standardize:
            yield "normalize", "must be false when standardize is true, or set standardize false"


class TestDataConfig(StrictModel):
    """What coverage is measured on."""

    testing: bool = False
    """Measure coverage after each round."""
    dataset_path_round_0: OptionalLocation = None
    """Folder of the round-0 test set, `dataset_full.csv`; null when `simulate` makes it."""
    dataset_path: OptionalLocation = None
    """Root of the test data of simulated rounds; null: under `trainer.save_dir`."""
    num_sim: Count = 10
    """Test simulations of a round that is simulated."""
    simulate: bool = False
    """Simulate the round-0 test set from the prior instead of reading it."""
    num_predictive: Natural = 200
    """Simulations at draws of the last round's posterior, which x_o is compared with where the
    experiment simulates anything; 0 makes none."""


def _array_file(path: Path | S3Uri | None) -> Path | S3Uri | None:
    if path is not None and path.suffix != ".npy":
        raise Refused(("", f"must be a .npy file, found '{path}'"))
    return path


class SyntheticConfig(StrictModel):
    """An observed sample simulated from a known truth."""

    theta: Annotated[dict[Name, float], Field(min_length=1)]
    """Value of each label of `prior_ranges.labels`, physical units."""


class ObservedConfig(StrictModel):
    """x_o: exactly one of a catalogue folder, an array file, or a synthetic population."""

    dataset_path: OptionalLocation = None
    """Folder with `dataset_atnf.csv`."""
    filter_inputs: InputColumns | None = None
    """As in training, which null stands for."""
    path: Annotated[OptionalLocation, AfterValidator(_array_file)] = None
    """A .npy file with one x, channels first."""
    synthetic: SyntheticConfig | None = None
    """Simulate the observation from a theta that is then known."""

    def _contradictions(self) -> Iterator[Problem]:
        names = ("dataset_path", "path", "synthetic")
        sources = [name for name in names if getattr(self, name) is not None]
        if len(sources) != 1:
            yield (
                "",
                "must have exactly one of dataset_path, path, synthetic, found "
                + (" and ".join(sources) or "none"),
            )
        elif self.filter_inputs is not None and self.dataset_path is None:
            yield "filter_inputs", f"selects columns of dataset_path, but {sources[0]} is given"


class DynamicalDataConfig(StrictModel):
    """The stellar database that simulated populations draw from: imported, or built."""

    dataset_path: OptionalLocation = None
    """Folder with `final_pop_dyn.csv`."""
    database: DynamicsConfig | None = None
    """Build this database, or find it in the cache."""

    @property
    def stars(self) -> DynamicsConfig:
        """The stars to build where none are given: `database`, or the defaults."""
        return self.database or DynamicsConfig()

    def _contradictions(self) -> Iterator[Problem]:
        if self.dataset_path is not None and self.database is not None:
            yield "database", "must be null when dataset_path is given"
