"""Configuration of `mlpop observe`: which catalogue, which cuts, which maps of the real sky."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlpop.config.base import StrictModel
from mlpop.config.blocks.generator import SURVEYS, GeneratorConfig, Survey
from mlpop.config.fields import Folder, Name, OptionalPath
from mlpop.config.messages import Refused

ONLINE = "psrqpy"
"""The source that downloads the newest catalogue."""

FluxSource = Literal["tpa", "S1400"]


class Region(StrictModel):
    """A survey's tag in the catalogue and the sky where it is complete; all bounds are strict."""

    token: Name
    """Tag of the survey in the catalogue's SURVEY column."""

    l_min: Annotated[float, Field(ge=-180, le=180)]
    """Lower bound of the Galactic longitude in (-180, 180] [deg]."""

    l_max: Annotated[float, Field(ge=-180, le=180)]
    """Upper bound of the Galactic longitude [deg]."""

    b_abs_max: Annotated[float, Field(gt=0)] | None = None
    """Upper bound of the absolute Galactic latitude [deg]; null for none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.l_min >= self.l_max:
            raise Refused(
                ("l_max", f"must be greater than l_min ({self.l_min}), found {self.l_max}")
            )
        return self


REGIONS: dict[Survey, Region] = {
    "PMPS": Region(token="pksmb", l_min=-100.0, l_max=50.0, b_abs_max=5.0),
    "SMPS": Region(token="pkssw", l_min=-100.0, l_max=50.0),
    "HTRU": Region(token="htru_pks", l_min=-120.0, l_max=30.0, b_abs_max=15.0),
}
"""The three surveys of the documented observed sample."""


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

    regions: dict[Survey, Region] = Field(default_factory=lambda: dict(REGIONS))
    """Tag and sky region of each survey of which maps are made."""

    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    """Type, resolution and smoothing of the maps; must equal those of the training set."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.fluxes == "tpa") != (self.tpa_table is not None):
            raise Refused(
                (
                    "tpa_table",
                    "must be given if, and only if, fluxes is 'tpa', "
                    f"but fluxes is {self.fluxes!r} and tpa_table is {str(self.tpa_table)!r}",
                )
            )
        if not self.regions:
            raise Refused(("regions", f"must name at least one of {', '.join(SURVEYS)}"))
        if absent := [name for name in self.generator.surveys if name not in self.regions]:
            raise Refused(
                ("regions", f"lacks {', '.join(absent)}, of which generator.surveys wants maps")
            )
        return self

    @property
    def catalogue_path(self) -> Path | None:
        """Path of the catalogue file; None where it is downloaded."""
        return None if self.source == ONLINE else Path(self.source)
