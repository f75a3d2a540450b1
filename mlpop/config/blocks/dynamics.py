"""Configuration of the stellar database: births, kicks, orbits and the sky they are seen on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from mlpop.config.base import StrictModel
from mlpop.config.electrons import ne2025_source
from mlpop.config.messages import Problem
from mlpop.errors import ConfigError

SCHEMA_VERSION = 1
"""Part of every content key: raise it when the same settings would give other stars."""

Positive = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0, le=1.0)]

KickModel = Literal["km_maxwell", "km_exp", "km_double_maxwell", "km_log-normal"]
RadialModel = Literal["rmYK04", "rmVV21"]
SpiralModel = Literal["saYMW17", "saFK06"]
GalacticModel = Literal["gmM19", "gmFK06"]

KICK_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "km_maxwell": ("sigma_k",),
    "km_exp": ("vk_c", "vk_extent"),
    "km_double_maxwell": ("sigma_k_comp1", "sigma_k_comp2", "kick_weight_comp1", "vk_extent"),
    "km_log-normal": ("vk_ln_mean", "vk_ln_sigma"),
}
"""The parameters that each kick model reads; those of the other models must stay untouched."""

DYNAMICS_LABELS = frozenset({"h_c"}).union(*KICK_PARAMETERS.values()) - {"vk_extent"}
"""Every label of theta that changes the stars themselves, with one kick model or another."""

_ARM_FIELDS = ("spiral_arms", "arm_number", "radial_model", "resolution")
_HEIGHT_MIN = 1e-4


class DynamicsConfig(StrictModel):
    """Everything that decides which stars a stellar database holds.

    Lengths are in kpc, times in yr and speeds in km/s. A parameter of a model that is not
    chosen has no effect, so setting one to anything but its default is refused.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    """Of all births and kicks."""
    NS_number: Annotated[int, Field(ge=1, le=10**9)] = 300_000
    """Stars."""
    t_age_min: Annotated[float, Field(ge=1.0)] = 1.0
    """Youngest age [yr]."""
    t_age_max: Annotated[float, Field(le=1e10)] = 3e7
    """Oldest age [yr]; birth rates are numbers over this time."""

    galactic_model: GalacticModel = "gmM19"
    """Potential: Marchetti et al. 2019, or Faucher-Giguere & Kaspi 2006."""
    dyn_time_step: Positive | None = None
    """Step of a plain leapfrog [yr]; null takes a fourth-order scheme with energy control."""

    sample_edm: bool = False
    """Births follow the electron density of the plane instead of spiral arms."""
    radial_model: RadialModel = "rmYK04"
    """Surface density of births: Yusifov & Kucuk 2004, or Verberne & Vink 2021."""
    spiral_arms: SpiralModel = "saYMW17"
    """Shape of the arms: Yao et al. 2017, or Faucher-Giguere & Kaspi 2006."""
    arm_number: Literal[4, 5] = 5
    """5 includes the Local arm."""
    resolution: Annotated[int, Field(ge=100, le=10**6)] = 10_000
    """Grid points of the radial cumulative distribution."""
    r_extent: Positive = 20.0
    """Largest radius at birth [kpc]."""
    h_c: Positive = 0.18
    """Scale height at birth [kpc]."""
    z_extent: Positive = 5.0
    """Largest height at birth [kpc]."""

    kick_model: KickModel = "km_maxwell"
    """Distribution of kick speeds."""
    sigma_k: Positive = 265.0
    """Of `km_maxwell` [km/s]."""
    vk_c: Positive = 180.0
    """Of `km_exp`, whose mean speed is twice it [km/s]."""
    sigma_k_comp1: Positive = 55.0
    """Of the slower part of `km_double_maxwell` [km/s]."""
    sigma_k_comp2: Positive = 334.0
    """Of the faster part of `km_double_maxwell` [km/s]."""
    kick_weight_comp1: Weight = 0.19
    """Weight of the slower part of `km_double_maxwell`."""
    vk_ln_mean: float = 5.6
    """Mean of the natural logarithm of the speed [km/s], of `km_log-normal`."""
    vk_ln_sigma: Positive = 0.68
    """Standard deviation of the natural logarithm, of `km_log-normal`."""
    vk_extent: Positive = 2500.0
    """Largest speed of `km_exp` and `km_double_maxwell` [km/s]."""

    R_sun: Positive = 8.3
    """Distance of the Sun from the Galactic centre [kpc]."""
    z_sun: Positive = 0.02
    """Height of the Sun above the plane [kpc]."""
    ed_model: Literal["ymw16", "ne2025"] = "ymw16"
    """Free electrons, of dispersion measures: Yao et al. 2017, or Ocker & Cordes 2026."""
    tsky_model: Literal["narayan87", "healpix"] = "narayan87"
    """Sky temperature at 408 MHz: Narayan's law, or a map."""
    tsky_map: str | None = None
    """Path of the 408 MHz HEALPix map; needed by, and only by, tsky_model healpix."""

    def _contradictions(self) -> Iterator[Problem]:
        least = 10.0 if not self.sample_edm and self.arm_number == 5 else 0.01
        ignored = [
            name
            for name in sorted(set(self._without_effect()) & self.model_fields_set)
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.t_age_min >= self.t_age_max:
            ages = f"{self.t_age_min:g} and {self.t_age_max:g} yr"
            yield "", f"t_age_min must be below t_age_max, found {ages}"
        elif self.z_sun >= self.R_sun:
            yield "", f"z_sun must be below R_sun, found {self.z_sun:g} and {self.R_sun:g} kpc"
        elif self.z_extent <= _HEIGHT_MIN:
            yield "", f"z_extent must be above {_HEIGHT_MIN:g} kpc, found {self.z_extent:g}"
        elif self.r_extent < least:
            bound = f"at least {least:g} kpc with these births"
            yield "", f"r_extent must be {bound}, found {self.r_extent:g}"
        elif (self.tsky_model == "healpix") != (self.tsky_map is not None):
            rule = "if tsky_model is 'healpix', and be null if not"
            yield "", f"tsky_map must name the map file {rule}"
        elif ignored:
            yield "", f"{ignored[0]} has no effect with {self._reason(ignored[0])}: remove it"

    def sweepable(self) -> frozenset[str]:
        """Names of the fields that theta may override and that change the stars."""
        kick = set(KICK_PARAMETERS[self.kick_model]) - {"vk_extent"}
        return frozenset(kick | {"h_c"})

    def with_override(self, theta: Mapping[str, float]) -> Self:
        """Return this configuration with the fields of `theta` replaced, validated anew.

        Raises:
            ConfigError: a name is not sweepable with these models, or a value is out of range.
        """
        unknown = sorted(set(theta) - self.sweepable())
        if unknown:
            allowed = ", ".join(sorted(self.sweepable()))
            raise ConfigError(
                f"theta: {', '.join(unknown)} cannot be overridden in the dynamics; "
                f"with kick_model '{self.kick_model}' allowed: {allowed}"
            )
        changes = {name: float(value) for name, value in theta.items()}
        return self.parse({**self.model_dump(exclude_unset=True), **changes}, source="theta")

    def settings(self) -> dict[str, Any]:
        """The fields that have an effect, as JSON values, without any path of this machine."""
        unused = {*self._without_effect(), "tsky_map"}
        return self.model_dump(mode="json", exclude=unused)

    def content_key(self) -> str:
        """SHA-256 [hex] of all that decides the stars; equal keys mean equal databases.

        Fields without effect do not count, of a sky map the content counts, not the path, and of
        NE2025 the package and its parameters.

        Raises:
            ConfigError: the sky map cannot be read, or the package of NE2025 is not installed.
        """
        content: dict[str, Any] = {"schema": SCHEMA_VERSION, "settings": self.settings()}
        if self.tsky_map is not None:
            content["tsky_map"] = _file_digest(Path(self.tsky_map))
        content |= self.electrons()
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def electrons(self) -> dict[str, Any]:
        """Which package gives the electrons, for keys and headers; nothing for our own YMW16.

        Raises:
            ConfigError: the package of NE2025 is not installed.
        """
        return {"ne2025": ne2025_source()} if self.ed_model == "ne2025" else {}

    def _without_effect(self) -> list[str]:
        used = KICK_PARAMETERS[self.kick_model]
        every = {name for names in KICK_PARAMETERS.values() for name in names}
        unused = [name for name in sorted(every) if name not in used]
        return [*unused, *_ARM_FIELDS] if self.sample_edm else unused

    def _reason(self, name: str) -> str:
        return "sample_edm = true" if name in _ARM_FIELDS else f"kick_model '{self.kick_model}'"


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"tsky_map: {path}: cannot be read: {error}") from None
