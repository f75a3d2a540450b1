"""The configuration of `mlpop compare`: which sky, beside predictions of what."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mlpop.config.base import StrictModel
from mlpop.config.fields import Count, Folder, Name, Natural, OptionalPath
from mlpop.config.files.sbi import FileName
from mlpop.config.files.simulate import SweepComputeConfig
from mlpop.config.messages import Problem


class CompareConfig(StrictModel):
    """An observed sky, and simulations at draws of a posterior or at one theta."""

    name: FileName = "compare"
    """Names the MLflow experiment and the folders."""
    load_dir: OptionalPath = None
    """A finished `mlpop sbi`: its folder below `models/`, or `runs:/<run id>`. Theta are draws of
    the posterior of its last round; simulator, stars and maps are those of its configuration."""
    base: OptionalPath = None
    """In place of `load_dir`, a configuration file of `mlpop sbi`, of which simulator, stars, maps
    and observed sample are taken; needs `theta`."""
    theta: Annotated[dict[Name, float], Field(min_length=1)] | None = None
    """Value of each parameter to set, physical units, in every simulation; null: draws of the
    posterior."""
    observed: OptionalPath = None
    """Folder of `mlpop observe`; null: the observed sample of the experiment."""
    num_predictive: Annotated[Count, Field(ge=2)] = 100
    """Simulations; p-values are multiples of one over this plus 1."""
    seed: Natural | None = None
    """Root seed; null: one is drawn, and logged."""
    save_dir: Folder = Path("output")
    """Root of the output: `logs/<name>/<stamp>/` and the simulations, `data/compare_dataset`."""
    compute: SweepComputeConfig = Field(default_factory=SweepComputeConfig)

    def _contradictions(self) -> Iterator[Problem]:
        if (self.load_dir is None) == (self.base is None):
            found = "none" if self.base is None else "both"
            yield "load_dir", f"give one of load_dir and base, found {found}"
        elif self.base is not None and self.theta is None:
            yield "theta", "must be given with base: there is no posterior to draw from"
