"""The population block: presets, models, overrides, what is refused."""

import pickle

import pytest

from mlpop.config.blocks.labels import DYNAMICS_SWEEPABLE, SWEEPABLE
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.presets import MODEL_CHOICES, MODEL_DEFAULTS, PRESETS
from mlpop.errors import ConfigError

DEFAULT = PopulationConfig.parse({})

SWEPT_BY_THE_REFERENCE = [
    "sigma_k",
    "vk_c",
    "h_c",
    "P_initial_mean",
    "P_initial_sigma",
    "P_initial_log10_mean",
    "P_initial_log10_sigma",
    "B_initial_log10_mean",
    "B_initial_log10_sigma",
    "B_initial_log10_mean_comp1",
    "B_initial_log10_sigma_comp1",
    "B_initial_log10_mean_comp2",
    "B_initial_log10_sigma_comp2",
    "B_initial_log10_weight_comp1",
    "B_initial_log10_rise_mean",
    "B_initial_log10_rise_sigma",
    "B_initial_log10_decay_mean",
    "B_initial_log10_decay_sigma",
    "B_initial_log10_slope",
    "a_late",
    "L_radio_log10_mean",
    "epsilon_L",
]


def detected(config):
    return [entry.detected_real for entry in config.surveys_radio.values()]


def test_defaults_of_appendix_A():
    assert (DEFAULT.NS_mass, DEFAULT.NS_radius) == (2.8e33, 1.259e6)
    assert (DEFAULT.B_initial_log10_mean, DEFAULT.B_initial_log10_sigma) == (13.09, 0.5)
    assert (DEFAULT.P_initial_log10_mean, DEFAULT.P_initial_log10_sigma) == (-0.67, 0.55)
    assert (DEFAULT.a_late, DEFAULT.tau_late, DEFAULT.a1, DEFAULT.a2) == (-0.88, 2e6, -0.13, -3.0)
    assert (DEFAULT.A1, DEFAULT.b1, DEFAULT.A2, DEFAULT.b2) == (1e14, -0.8, 6e8, -0.2)
    assert (DEFAULT.L_radio_log10_mean, DEFAULT.epsilon_L, DEFAULT.Erot_dot_0) == (
        26.17,
        0.68,
        1e29,
    )
    assert (DEFAULT.mean_spectral_index, DEFAULT.std_spectral_index) == (-1.8, 0.0)
    assert (DEFAULT.birth_rate_max, DEFAULT.k_coefficients) == (5.0, (1.0, 1.0, 1.0))
    assert list(DEFAULT.surveys_radio) == ["PMPS", "SMPS", "HTRU_low_mid", "HTRU_high"]
    assert detected(DEFAULT) == [1045, 218, 1095, 20]
    census = [getattr(DEFAULT, f"detected_meerkat_{s}") for s in ("PMPS", "SMPS", "HTRU")]
    assert census == [640, 170, 668]


def test_htru_high_is_not_in_the_stop_rule():
    assert [g for g, t in DEFAULT.surveys_radio.items() if not t.in_stop_rule] == ["HTRU_high"]


def test_presets_of_appendix_B():
    graber = PopulationConfig.parse({"preset": "graber2024"})
    assert graber.NS_radius == 1.10e6
    assert graber.radio_luminosity_model == "lum_radio_ppdot"
    assert (graber.L_radio_log10_mean, graber.L_radio_log10_sigma) == (35.5, 0.8)
    assert graber.epsilon_L == 0.5
    assert graber.mean_spectral_index == -1.6
    assert graber.Erot_dot_0 is None
    assert detected(graber) == [1009, 218, 1023, 20]
    assert (graber.survey_version, graber.batch_persist) == ("older", True)
    pardo = PopulationConfig.parse({"preset": "pardo2025"})
    assert (pardo.NS_radius, pardo.mean_spectral_index) == (1.10e6, -1.8)
    assert (pardo.L_radio_log10_mean, pardo.epsilon_L) == (26.17, 0.68)
    assert detected(pardo) == [1045, 218, 1037, 20]
    assert PopulationConfig.parse({"preset": "current"}) == DEFAULT


def test_published_presets_are_whole():
    """At their published fits, whatever today's defaults are: specification 9.3, appendix B."""
    births = ("B_initial_log10_mean", "B_initial_log10_sigma", "P_initial_log10_mean")
    births += ("P_initial_log10_sigma", "a_late")
    for preset, published in (
        ("graber2024", (13.10, 0.45, -1.00, 0.38, -1.80)),
        ("pardo2025", (13.09, 0.50, -0.67, 0.55, -0.88)),
    ):
        config = PopulationConfig.parse({"preset": preset})
        assert tuple(getattr(config, name) for name in births) == published
        models = [name for name in MODEL_CHOICES if name != "tsky_model"]
        assert set(models) <= set(PRESETS[preset])
        for model in models:
            parameters = MODEL_DEFAULTS[model][PRESETS[preset][model]]
            assert set(parameters) <= set(PRESETS[preset])


def test_a_preset_s_parameters_go_with_its_models():
    graber = {"preset": "graber2024"}
    multi = PopulationConfig.parse({**graber, "magneto-thermal_model": "BSk24_multi_heavy"})
    assert (multi.a1, multi.A1, multi.a_late, multi.NS_radius) == (-0.15, 9.0e13, -0.88, 1.10e6)
    edot = PopulationConfig.parse({**graber, "radio_luminosity_model": "lum_radio_edot"})
    assert (edot.L_radio_log10_mean, edot.epsilon_L) == (26.17, 0.68)
    weibull = PopulationConfig.parse({**graber, "spin_period_model": "weibull"})
    assert (weibull.P_initial_log10_mean, weibull.P_initial_weibull_shape) == (None, 1.3)
    same = {"magneto-thermal_model": "BSk24_dip-tor_heavy"}
    assert PopulationConfig.parse({**graber, **same}).a_late == -1.80


def test_explicit_values_win_over_the_preset_and_the_preset_over_the_model():
    config = PopulationConfig.parse({"preset": "pardo2025", "NS_radius": 1.3e6})
    assert config.NS_radius == 1.3e6
    sly = PopulationConfig.parse({"magneto-thermal_model": "SLy4_dip-tor_heavy"})
    assert sly.NS_radius == 1.17e6
    both = PopulationConfig.parse(
        {"preset": "pardo2025", "magneto-thermal_model": "SLy4_dip-tor_heavy"}
    )
    assert both.NS_radius == 1.10e6


@pytest.mark.parametrize("model", MODEL_CHOICES)
def test_every_choice_of_a_model_brings_its_defaults(model):
    for choice, defaults in MODEL_DEFAULTS[model].items():
        given = {model: choice} | ({"tsky_map": "sky.fits"} if choice == "healpix" else {})
        config = PopulationConfig.parse(given)
        for key, value in defaults.items():
            if key != "tsky_map":
                assert getattr(config, key) == value
        others = {k for keys in MODEL_DEFAULTS[model].values() for k in keys} - set(defaults)
        assert [getattr(config, key) for key in others] == [None] * len(others)


def test_no_preset_has_a_death_line_and_a_chosen_one_brings_its_labels():
    for preset in PRESETS:
        config = PopulationConfig.parse({"preset": preset})
        assert config.radio_death_model == "none"
        with pytest.raises(ConfigError, match="death_BP2_log10: belongs to radio_death_model"):
            config.require_sweepable(["death_BP2_log10"])
    line = PopulationConfig.parse({"radio_death_model": "line"})
    assert 10**line.death_BP2_log10 == pytest.approx(0.17e12, rel=1e-12)
    line.require_sweepable(["death_BP2_log10"])
    assert line.with_theta({"death_BP2_log10": 11.0}).death_BP2_log10 == 11.0
    valley = PopulationConfig.parse({"radio_death_model": "valley"})
    valley.require_sweepable(["death_Edot_log10_mean", "death_Edot_log10_sigma"])
    with pytest.raises(ConfigError, match="death_Edot_log10_sigma: must be at least 0"):
        valley.with_theta({"death_Edot_log10_sigma": -0.1})


def test_override_resolves_model_defaults_anew():
    graber = PopulationConfig.parse({"preset": "graber2024"})
    edot = graber.with_override({"radio_luminosity_model": "lum_radio_edot"})
    assert (edot.L_radio_log10_mean, edot.epsilon_L, edot.Erot_dot_0) == (26.17, 0.68, 1e29)
    assert edot.mean_spectral_index == -1.6
    analytical = DEFAULT.with_override({"magneto-thermal_model": "analytical"})
    assert (analytical.NS_radius, analytical.a_late, analytical.sigma) == (1.2e6, None, 1e24)
    assert analytical.with_override({"sigma": 1e23}).magneto_thermal_model == "analytical"


def test_override_keeps_earlier_overrides_and_does_not_touch_its_origin():
    first = DEFAULT.with_override({"a_late": -1.5})
    second = first.with_override({"epsilon_L": 0.3})
    assert (second.a_late, second.epsilon_L) == (-1.5, 0.3)
    assert (DEFAULT.a_late, DEFAULT.epsilon_L) == (-0.88, 0.68)


def test_a_resolved_configuration_can_be_read_again():
    for preset in PRESETS:
        config = PopulationConfig.parse({"preset": preset, "a_late": -2.0})
        assert PopulationConfig.parse(config.model_dump(mode="json")) == config
        assert PopulationConfig.parse(config.model_dump(mode="json", exclude_unset=True)) == config


def test_pickling_keeps_what_was_given():
    config = DEFAULT.with_override({"a_late": -1.0})
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.model_fields_set == {"a_late"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a_latte": -1.0}, "a_latte: unknown field; did you mean 'a_late'"),
        ({"a_late": 0.5}, "a_late: must be less than 0.*found 0.5"),
        ({"P_initial_mean": 0.3}, "P_initial_mean: belongs to spin_period_model normal"),
        ({"sigma": 1e24}, "sigma: belongs to magneto_thermal_model analytical"),
        ({"B_initial_log10_slope": 0.1}, "belongs to magnetic_field_model smooth_tophat"),
        ({"Erot_dot_0": 1e29, "preset": "graber2024"}, "belongs to radio_luminosity_model"),
        ({"magneto-thermal_model": "BSk25"}, "magneto_thermal_model: must be one of"),
        ({"preset": "graber2023"}, "preset: must be one of.*did you mean 'graber2024'"),
        ({"k_coefficients": [1.0, 1.0, 0.0]}, "k_coefficients: must have k0, k1 >= 0"),
        ({"k_coefficients": [1.0, 1.0]}, "k_coefficients: must have 3 entries"),
        ({"NS_radius": 1.2}, "NS_radius: must be at least 800000"),
        ({"birth_rate_max": 0}, "birth_rate_max: must be greater than 0"),
        ({"birth_rate_max": "5"}, "birth_rate_max: must be a number, found '5'"),
        ({"surveys_radio": {}}, "surveys_radio: must name at least one"),
        ({"surveys_radio": {"PMPS": {"detected": 3}}}, "surveys_radio.PMPS.detected: unknown"),
        ({"thin_to": {"PMSP": 3}}, "thin_to: names catalogues not in surveys_radio"),
        ({"tsky_model": "healpix"}, "tsky_map: must name a file"),
        ({"death_BP2_log10": 11.0}, "death_BP2_log10: belongs to radio_death_model line"),
        (
            {"radio_death_model": "line", "death_Edot_log10_mean": 30.0},
            "death_Edot_log10_mean: belongs to radio_death_model valley",
        ),
        ({"radio_death_model": "lines"}, "radio_death_model: must be one of.*mean 'line'"),
        (
            {"magnetic_field_model": "smooth_tophat", "B_initial_log10_slope": 2.0},
            "B_initial_log10_slope: must be within",
        ),
        (
            {"magnetic_field_model": "smooth_tophat", "B_initial_log10_rise_mean": 15.0},
            "B_initial_log10_rise_mean: must be less than",
        ),
        (
            {"magnetic_field_model": "double_log-normal", "B_initial_log10_weight_comp1": 1.1},
            "weight_comp1: must be at most 1",
        ),
        (
            {"magnetic_field_model": "double_log-normal", "B_initial_log10_min": 17.0},
            "B_initial_log10_min: must be less than its _max",
        ),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        PopulationConfig.parse(values)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_override_refuses_what_is_not_a_number(value):
    with pytest.raises(ConfigError, match="a_late: must be a finite number"):
        DEFAULT.with_override({"a_late": value})


TOPHAT = PopulationConfig.parse({"magnetic_field_model": "smooth_tophat"})


@pytest.mark.parametrize(
    ("config", "theta"),
    [
        (DEFAULT, {"a_late": -1.5, "epsilon_L": 0.3}),
        (TOPHAT, {"B_initial_log10_rise_mean": 13.1, "B_initial_log10_slope": 0.2}),
    ],
)
def test_theta_gives_what_an_override_gives_without_a_second_validation(
    config, theta, monkeypatch
):
    expected = config.with_override(theta)
    monkeypatch.setattr(PopulationConfig, "parse", None)
    found = config.with_theta(theta)
    assert found == expected
    assert found.model_fields_set == expected.model_fields_set


@pytest.mark.parametrize(
    ("config", "theta"),
    [
        (DEFAULT, {"a_late": 0.1}),
        (DEFAULT, {"B_initial_log10_mean": 99.0}),
        (TOPHAT, {"B_initial_log10_rise_mean": 15.0}),
        (TOPHAT, {"B_initial_log10_slope": 3.0}),
    ],
)
def test_theta_out_of_range_is_refused_like_an_override(config, theta):
    with pytest.raises(ConfigError) as expected:
        config.with_override(theta)
    with pytest.raises(ConfigError) as found:
        config.with_theta(theta)
    assert str(found.value) == str(expected.value)


def test_labels_of_the_reference_are_all_known():
    assert set(SWEPT_BY_THE_REFERENCE) <= set(SWEEPABLE) | set(DYNAMICS_SWEEPABLE)
    assert not set(SWEEPABLE) & set(DYNAMICS_SWEEPABLE)


def test_sweepable_labels_must_fit_the_models():
    DEFAULT.require_sweepable(["B_initial_log10_mean", "a_late", "epsilon_L"])
    with pytest.raises(ConfigError, match="labels: P_initial_mean: belongs to spin_period_model"):
        DEFAULT.require_sweepable(["a_late", "P_initial_mean"])
    with pytest.raises(ConfigError, match="labels: B_initial_log10_rise_mean: belongs to"):
        DEFAULT.require_sweepable(["B_initial_log10_rise_mean"])
    with pytest.raises(ConfigError, match="labels: must be one of.*found 'NS_mass'"):
        DEFAULT.require_sweepable(["NS_mass"])
    normal = DEFAULT.with_override({"spin_period_model": "normal"})
    normal.require_sweepable(["P_initial_mean", "P_initial_sigma"])
    with pytest.raises(ConfigError, match="P_initial_log10_mean: belongs to"):
        normal.require_sweepable(["P_initial_log10_mean"])
    analytical = DEFAULT.with_override({"magneto-thermal_model": "analytical"})
    with pytest.raises(ConfigError, match="a_late: belongs to magneto_thermal_model"):
        analytical.require_sweepable(["a_late"])
