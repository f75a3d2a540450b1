"""The `population` block: birth spins and fields, their evolution, radio emission, surveys."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    model_validator,
)

from mlpop.config.base import StrictModel
from mlpop.config.blocks.labels import DYNAMICS_SWEEPABLE, SWEEPABLE
from mlpop.config.blocks.observed_file import (
    Observed,
    ObservedNumbers,
    as_observed,
    by_catalogue,
    observed_settings,
)
from mlpop.config.blocks.presets import MODEL_CHOICES, MODEL_DEFAULTS, PRESETS
from mlpop.config.blocks.survey_file import Survey, SurveyFile, own_surveys, with_catalogues
from mlpop.config.messages import Problem, Refused, one_of
from mlpop.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
OptionalPositive = Annotated[float | None, Field(gt=0)]
OptionalWeight = Annotated[float | None, Field(ge=0, le=1)]

# Far beyond physics, and near enough for six standard deviations to stay within doubles.
LogField = Annotated[float | None, Field(ge=0, le=25)]
LogPeriod = Annotated[float | None, Field(ge=-10, le=10)]
LogWidth = Annotated[float | None, Field(gt=0, le=5)]


class SurveyTarget(StrictModel):
    """What is asked of one catalogue."""

    detected_real: int | None = Field(default=None, ge=1)
    """Pulsars of the observed sample; null asks for none."""
    in_stop_rule: bool = True
    """Whether the simulation goes on until this number is reached."""


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class PopulationConfig(StrictModel):
    """Everything between a star's place and age and its place in a survey's catalogue.

    Keys that belong to a model (see `presets.MODEL_DEFAULTS`) are null unless that model is
    chosen; giving one for another model is an error. Explicit values win over the preset, the
    preset wins over the model.
    """

    preset: Literal["graber2024", "pardo2025", "current"] = "current"

    NS_mass: Positive = 2.8e33
    """Mass of every neutron star [g]."""
    NS_radius: float | None = Field(default=None, ge=8e5, le=1.6e6)
    """Radius of every neutron star [cm]; by the magneto-thermal model."""

    spin_period_model: Literal["log-normal", "normal", "weibull"] = "log-normal"
    P_initial_log10_mean: LogPeriod = None
    P_initial_log10_sigma: LogWidth = None
    P_initial_mean: float | None = Field(default=None, ge=-1e4, le=1e4)
    P_initial_sigma: float | None = Field(default=None, gt=0, le=1e4)
    P_initial_weibull_shape: float | None = Field(default=None, ge=0.05, le=100)
    P_initial_weibull_scale: float | None = Field(default=None, gt=0, le=1e4)
    """Period that a share 1/e of the stars exceed at birth [s]."""
    P_initial_min: float = Field(default=0.0, ge=0)
    """Shortest period at birth [s]; 0 is no limit, break-up is near 5e-4 s."""

    magnetic_field_model: Literal[
        "log-normal", "double_log-normal", "smooth_tophat", "log-uniform"
    ] = "log-normal"
    B_initial_log10_mean: LogField = None
    B_initial_log10_sigma: LogWidth = None
    B_initial_log10_min: LogField = None
    B_initial_log10_max: LogField = None
    B_initial_log10_mean_comp1: LogField = None
    B_initial_log10_sigma_comp1: LogWidth = None
    B_initial_log10_mean_comp2: LogField = None
    B_initial_log10_sigma_comp2: LogWidth = None
    B_initial_log10_weight_comp1: OptionalWeight = None
    B_initial_log10_rise_mean: LogField = None
    B_initial_log10_rise_sigma: LogWidth = None
    B_initial_log10_decay_mean: LogField = None
    B_initial_log10_decay_sigma: LogWidth = None
    B_initial_log10_slope: float | None = None

    k_coefficients: Annotated[tuple[float, float, float], BeforeValidator(_as_tuple)] = (
        1.0,
        1.0,
        1.0,
    )
    """k0, k1, k2 of the magnetospheric torque; (1, 1, 1) is force-free, (0, 2/3, 2/3) vacuum."""

    magneto_thermal_model: Literal[
        "SLy4_dip-tor_heavy",
        "BSk24_dip-tor_heavy",
        "BSk24_dip-tor_light",
        "BSk24_multi_heavy",
        "BSk24_multi_light",
        "analytical",
    ] = "BSk24_dip-tor_heavy"
    """The documented key `magneto-thermal_model` is read as this one."""
    a1: float | None = Field(default=None, le=0)
    a2: float | None = Field(default=None, le=0)
    A1: OptionalPositive = None
    b1: float | None = None
    A2: OptionalPositive = None
    b2: float | None = None
    tau_late: OptionalPositive = None
    a_late: float | None = Field(default=None, ge=-100, lt=0)
    sigma: OptionalPositive = None
    """Electrical conductivity of the analytical model [1/s]."""
    L: OptionalPositive = None
    """Length scale of the analytical model [cm]."""
    n_e: OptionalPositive = None
    """Electron density of the analytical model [cm^-3]."""
    B_millisec_mean: float = Field(default=8.5, ge=0, le=25)
    """Mean log10 of the residual field [G]."""
    B_millisec_sigma: float = Field(default=0.5, ge=0, le=5)

    radio_beam_model: Literal["standard_period_cone", "power-law_period_cone"] = (
        "standard_period_cone"
    )
    r_em: OptionalPositive = None
    """Emission height [cm]."""
    rho_b_0: OptionalPositive = None
    """Opening angle of the beam at P = 1 s [deg]."""
    a_beam: float | None = Field(default=None, ge=-5, le=5)

    radio_luminosity_model: Literal["lum_radio_edot", "lum_radio_ppdot"] = "lum_radio_edot"
    L_radio_log10_mean: float | None = Field(default=None, ge=-100, le=100)
    """Mean log10 of the luminosity scale [erg/s]."""
    L_radio_log10_sigma: float = Field(default=0.8, ge=0, le=10)
    epsilon_L: float | None = Field(default=None, ge=-10, le=10)
    Erot_dot_0: OptionalPositive = None
    """Spin-down power of the luminosity scale [erg/s]."""
    radio_death_model: Literal["none", "line", "valley"] = "none"
    """Where radio emission ends: nowhere, at one B / P^2, or at another Edot for each star."""
    death_BP2_log10: float | None = Field(default=None, ge=0, le=25)
    """Of `line`: log10 of B / P^2 [G s^-2] below which stars are silent; B is 3.2e19 sqrt(P Pdot),
    what observers derive [G]."""
    death_Edot_log10_mean: float | None = Field(default=None, ge=0, le=60)
    """Of `valley`: log10 of the spin-down power [erg/s] at which half of the stars are silent."""
    death_Edot_log10_sigma: float | None = Field(default=None, ge=0, le=10)
    """Of `valley`: standard deviation of log10 of the power at which a star falls silent."""
    mean_spectral_index: float = Field(default=-1.8, ge=-10, le=10)
    std_spectral_index: float = Field(default=0.0, ge=0, le=5)

    tsky_model: Literal["database", "narayan87", "healpix"] = "database"
    """Sky temperature; `database` takes the column of the stellar database as it was built."""
    tsky_map: str | None = None
    """HEALPix FITS file of the 408-MHz sky, for `healpix`."""
    tau_sc_log10_sigma: float = Field(default=0.5, ge=0)
    """Scatter of log10 of the scattering time about its law [dex]."""
    d_max: Positive = 35.0
    """Stars from this distance on are dropped [kpc]."""

    surveys_radio: dict[str, SurveyTarget] = Field(default_factory=dict)
    """Catalogues to make, see `catalogue` of the surveys' JSON files; `HTRU`, its name in the
    maps, is `HTRU_low_mid`."""
    observed: Observed | None = None
    """The `observed.json` of `mlpop observe`, its path or its content: sets targets, `thin_to`,
    `observed_cuts` and the flux subsamples of the maps, where the file does not set them."""
    surveys: tuple[Survey, ...] = ()
    """Surveys of one's own, each the path of its JSON file or its content; their catalogues are
    made beside those of `surveys_radio`."""
    survey_version: Literal["current", "older", "all_beams"] = "current"
    """Of the Parkes surveys. `older`: degradation 1.5 and no FFT factor, as in the papers;
    `all_beams`: the mean gain of the thirteen beams instead of that of the central one."""
    birth_rate_max: Positive = 5.0
    """The simulation stops at this birth rate [neutron stars per century]."""
    batch_rule: Literal["exact", "reference"] = "exact"
    """Stop at the star that completes the last target, or at the end of its batch."""
    batch_persist: bool = False
    """Reference rule only: whether a reduced batch size stays."""
    truncate_at_match: bool = False
    """Cut each catalogue at the star that completes its own target."""
    observed_cuts: bool = False
    """Detect only P > 0.01 s and P_dot > 1e-19, the cuts of the observed sample."""
    thin_to: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Largest catalogue size by group; more stars are thinned at random."""
    detected_meerkat_PMPS: int = Field(default=640, ge=1)
    detected_meerkat_SMPS: int = Field(default=170, ge=1)
    detected_meerkat_HTRU: int = Field(default=668, ge=1)

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "configuration") -> Self:
        """Validate `values`; see `StrictModel.parse`."""
        return super().parse(_by_field_name(values), source)

    @model_validator(mode="wrap")
    @classmethod
    def _resolve(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict):
            return handler(values)
        named = _by_field_name(values)
        if "surveys" in named:
            named["surveys"] = own_surveys(named["surveys"])
        for field in {"surveys_radio", "thin_to"} & set(named):
            named[field] = by_catalogue(named[field], field)
        if named.get("observed") is not None:
            try:
                named["observed"] = as_observed(named["observed"])
            except Refused as error:
                path = "observed"
                problems = [(f"{path}.{p}" if p else path, m) for p, m in error.problems]
                raise Refused(*problems) from None
        _refuse_foreign_keys(named)
        config = handler(_resolved(named))
        # What the user gave stays known, so that an override resolves the rest anew.
        object.__setattr__(config, "__pydantic_fields_set__", set(named))
        return config

    def _contradictions(self) -> Iterator[Problem]:
        k0, k1, k2 = self.k_coefficients
        low, high = self.B_initial_log10_min, self.B_initial_log10_max
        tophat = list(_tophat_problems(self))
        if min(k0, k1) < 0 or k2 <= 0 or k0 + k1 <= 0:
            bounds = "k0, k1 >= 0, k0 + k1 > 0 and k2 > 0"
            yield "k_coefficients", f"must have {bounds}, found {[k0, k1, k2]}"
        elif low is not None and high is not None and not low < high:
            yield "B_initial_log10_min", f"must be less than its _max ({high}), found {low}"
        elif tophat:
            yield tophat[0]
        elif self.tsky_model == "healpix" and self.tsky_map is None:
            yield "tsky_map", "must name a file when tsky_model is 'healpix'"
        elif not self.surveys_radio:
            yield "surveys_radio", "must name at least one catalogue, found none"
        elif foreign := sorted(set(self.thin_to) - set(self.surveys_radio)):
            yield "thin_to", f"names catalogues not in surveys_radio: {foreign}"

    def with_override(self, theta: Mapping[str, Any]) -> "PopulationConfig":
        """Return this configuration with other values, defaults of models resolved anew.

        Args:
            theta: value by key; any key of this block.

        Raises:
            ConfigError: a key is unknown or belongs to a model not chosen, or a value is out of
                its range.
        """
        changed = self.model_dump(exclude_unset=True)
        for key, value in theta.items():
            if not isinstance(value, bool | str | Mapping | list | tuple) and value is not None:
                value = float(value)
                if value != value or abs(value) == float("inf"):
                    raise ConfigError(f"population: {key}: must be a finite number, got {value}")
            changed[key] = value
        return PopulationConfig.parse(changed, source="population")

    def with_theta(self, theta: Mapping[str, float]) -> Self:
        """Return this configuration with swept numbers replaced; nothing else is checked again.

        Args:
            theta: finite value by label, each of which `require_sweepable` accepts.

        Raises:
            ConfigError: a value is out of its range.
        """
        try:
            for label, value in theta.items():
                _range_of(label).validate_python(value)
            changed = self.model_copy(update=dict(theta))
            if problems := list(changed._contradictions()):
                raise Refused(*problems)
        except ValueError:
            self.with_override(theta)  # says what is wrong
            raise
        return changed

    def require_sweepable(self, labels: Sequence[str]) -> None:
        """Check that labels of theta are numbers of the models chosen.

        Raises:
            ConfigError: naming the label and what it needs.
        """
        choices = self.model_dump(include=set(MODEL_DEFAULTS))
        for label in labels:
            if label not in SWEEPABLE:
                raise ConfigError(f"labels: {one_of(label, SWEEPABLE + DYNAMICS_SWEEPABLE)}")
            if reason := _foreign(label, choices):
                raise ConfigError(f"labels: {label}: {reason}")


@cache
def _range_of(label: str) -> TypeAdapter[Any]:
    field = PopulationConfig.model_fields[label]
    kind: Any = Annotated[field.annotation, field]
    return TypeAdapter(kind)


def given(value: float | None) -> float:
    """Return a number that belongs to the chosen model.

    Raises:
        ConfigError: it is null; the caller read a key of a model that was not chosen.
    """
    if value is None:
        raise ConfigError("population: a parameter of a model that is not chosen was read")
    return value


def _by_field_name(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("magneto-thermal", "magneto_thermal"): v for key, v in values.items()}


def _choices(values: Mapping[str, Any]) -> dict[str, Any]:
    preset = PRESETS.get(str(values.get("preset", "current")), {})
    return {
        model: values.get(model, preset.get(model, default))
        for model, default in MODEL_CHOICES.items()
    }


def _of_preset(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the preset sets: of the parameters of a model only if it chooses that model."""
    preset = PRESETS.get(str(entries.get("preset", "current")), {})
    choices = _choices(entries)
    foreign = {
        key
        for model, defaults in MODEL_DEFAULTS.items()
        if choices[model] != preset.get(model, choices[model])
        for keys in (defaults.get(str(preset.get(model)), {}), {model: None})
        for key in keys
    }
    # whatever the field's decay, the published stars have one radius
    return {key: value for key, value in preset.items() if key not in foreign - {"NS_radius"}}


def _resolved(entries: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for model, choice in _choices(entries).items():
        values[model] = choice
        values |= MODEL_DEFAULTS[model].get(str(choice), {})
    values |= _of_preset(entries)
    if isinstance(observed := entries.get("observed"), ObservedNumbers):
        chosen = entries.get("surveys_radio")
        values |= observed_settings(observed, values["surveys_radio"], chosen)
    own = [survey for survey in entries.get("surveys") or () if isinstance(survey, SurveyFile)]
    if own:
        chosen = entries.get("surveys_radio") or values["surveys_radio"]
        entries = {**entries, "surveys_radio": with_catalogues(chosen, own)}
    # Null means the default where there is one: a resolved file can be read again.
    return values | {k: v for k, v in entries.items() if v is not None or k not in values}


def _refuse_foreign_keys(entries: Mapping[str, Any]) -> None:
    choices = _choices(entries)
    problems = [
        (key, reason)
        for key, value in entries.items()
        if value is not None and (reason := _foreign(key, choices))
    ]
    if problems:
        raise Refused(*problems)


def _foreign(key: str, choices: Mapping[str, Any]) -> str:
    """Say why `key` has no meaning under the chosen models; empty if it has."""
    for model, defaults in MODEL_DEFAULTS.items():
        owners = [choice for choice, keys in defaults.items() if key in keys]
        if owners and choices[model] in defaults and choices[model] not in owners:
            return f"belongs to {model} {' or '.join(owners)}, but {model} is {choices[model]!r}"
    return ""


def _tophat_problems(config: PopulationConfig) -> Iterator[Problem]:
    if config.magnetic_field_model != "smooth_tophat":
        return
    rise, decay = config.B_initial_log10_rise_mean, config.B_initial_log10_decay_mean
    slope = config.B_initial_log10_slope
    if rise is None or decay is None or slope is None:
        yield "", "smooth_tophat needs its rise_mean, decay_mean and slope"
    elif not rise < decay:
        yield (
            "B_initial_log10_rise_mean",
            f"must be less than B_initial_log10_decay_mean ({decay}), found {rise}",
        )
    # The line 1 + slope (x - centre) is a density on [rise, decay]: it must not go below zero.
    elif abs(slope) > (limit := 2.0 / (decay - rise)):
        yield "B_initial_log10_slope", f"must be within +-{limit:.4g}, found {slope}"
