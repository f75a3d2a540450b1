"""Configuration of `mlpop observe`: which catalogue, which cuts, which maps of the real sky."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from mlpop.config.base import StrictModel
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.surveys import MAP_SURVEYS, SURVEYS, Region, Survey
from mlpop.config.fields import Folder, Name, OptionalPath, expanded
from mlpop.config.messages import Problem, Refused, one_of

ONLINE = "psrqpy"
"""The source that downloads the newest catalogue."""

FluxSource = Literal["tpa", "S1400"]


def _regions() -> dict[Survey, Region]:
    return {name: survey.region for name, survey in MAP_SURVEYS.items()}


class ObserveConfig(StrictModel):
    """What `mlpop observe` reads, keeps and writes."""

    source: Name
    """The catalogue: path of a `psrcat.db`, path of a CSV, or `psrqpy` to download the newest."""

    save_dir: Folder
    """Folder for `dataset_atnf.csv` and its maps."""

    fluxes: FluxSource | None = None
    """Where the fluxes of the flux maps come from: `tpa`, the MeerKAT census in `tpa_table`;
    `S1400`, the catalogue's inhomogeneous compilation at 1400 MHz, with which simulated census
    fluxes are not strictly comparable; null makes no flux maps."""

    tpa_table: OptionalPath = None
    """CSV of the Thousand-Pulsar-Array census, columns PSRJ and ch6flux [mJy at 1429 MHz]."""

    corrections: OptionalPath = None
    """CSV of periods that the catalogue lists as harmonics (Song et al. 2023, table 1): columns
    PSRJ and either `factor`, true period over listed period, or `P0`, the true period [s]."""

    regions: dict[Survey, Region] = Field(default_factory=_regions)
    """Tag and sky region of each survey of which maps are made."""

    types_excluded: tuple[Name, ...] = ("RRAT", "AXP")
    """Types of psrcat that are left out of the samples: by default rotating radio transients and
    magnetars, which no periodicity search finds or no simulated pulsar is."""

    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    """Type, resolution and smoothing of the maps; must equal those of the training set."""

    def _contradictions(self) -> Iterator[Problem]:
        try:
            _ = self.catalogue_path
        except Refused as error:
            yield "source", error.problems[0][1]
        if (self.fluxes == "tpa") != (self.tpa_table is not None):
            yield (
                "tpa_table",
                "must be given if, and only if, fluxes is 'tpa', "
                f"but fluxes is {self.fluxes!r} and tpa_table is {str(self.tpa_table)!r}",
            )
        elif not self.regions:
            yield "regions", f"must name at least one of {', '.join(SURVEYS)}"
        elif absent := [name for name in self.generator.surveys if name not in self.regions]:
            yield "regions", f"lacks {', '.join(absent)}, of which generator.surveys wants maps"
        known = list(dict.fromkeys([*SURVEYS, *self.generator.surveys]))
        for name in self.regions:
            if name not in known:
                yield f"regions.{name}", one_of(name, known)

    @property
    def catalogue_path(self) -> Path | None:
        """Path of the catalogue file; None where it is downloaded."""
        return None if self.source == ONLINE else expanded(Path(self.source))
