"""Values of the population's configuration that belong to a model, a paper or a survey table."""

import math
from collections.abc import Mapping
from typing import Any

from mlpop.config.blocks.surveys import MAP_SURVEYS


def _targets(preset: str) -> dict[str, Any]:
    targets = {
        survey.catalogue: {"detected_real": survey.detected_real[preset], "in_stop_rule": True}
        for survey in MAP_SURVEYS.values()
    }
    # Over-produced twelvefold by every published model: a report, not a constraint.
    return targets | {"HTRU_high": {"detected_real": 20, "in_stop_rule": False}}


_DIP_TOR = {
    "a1": -0.13,
    "a2": -3.0,
    "A1": 1.0e14,
    "b1": -0.8,
    "A2": 6.0e8,
    "b2": -0.2,
    "tau_late": 2.0e6,
    "a_late": -0.88,
}
_MULTI = {**_DIP_TOR, "a1": -0.15, "a2": -4.0, "A1": 9.0e13}

MODEL_DEFAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "spin_period_model": {
        "log-normal": {"P_initial_log10_mean": -0.67, "P_initial_log10_sigma": 0.55},
        "normal": {"P_initial_mean": 0.3, "P_initial_sigma": 0.2},
        # its peak lies at 40 ms, as that of Du et al. 2024
        "weibull": {"P_initial_weibull_shape": 1.3, "P_initial_weibull_scale": 0.124},
    },
    "magnetic_field_model": {
        "log-normal": {"B_initial_log10_mean": 13.09, "B_initial_log10_sigma": 0.5},
        "double_log-normal": {
            "B_initial_log10_mean_comp1": 13.09,
            "B_initial_log10_sigma_comp1": 0.5,
            "B_initial_log10_mean_comp2": 14.3,
            "B_initial_log10_sigma_comp2": 0.3,
            "B_initial_log10_weight_comp1": 0.5,
            "B_initial_log10_min": 10.0,
            "B_initial_log10_max": 16.0,
        },
        "smooth_tophat": {
            "B_initial_log10_rise_mean": 13.02,
            "B_initial_log10_rise_sigma": 0.49,
            "B_initial_log10_decay_mean": 14.5,
            "B_initial_log10_decay_sigma": 0.2,
            "B_initial_log10_slope": 0.0,
            "B_initial_log10_min": 10.0,
            "B_initial_log10_max": 16.0,
        },
        "log-uniform": {"B_initial_log10_min": 12.0, "B_initial_log10_max": 15.0},
    },
    "magneto_thermal_model": {
        "SLy4_dip-tor_heavy": {"NS_radius": 1.170e6, **_DIP_TOR},
        "BSk24_dip-tor_heavy": {"NS_radius": 1.259e6, **_DIP_TOR},
        "BSk24_dip-tor_light": {"NS_radius": 1.259e6, **_DIP_TOR},
        "BSk24_multi_heavy": {"NS_radius": 1.259e6, **_MULTI},
        "BSk24_multi_light": {"NS_radius": 1.259e6, **_MULTI},
        "analytical": {"NS_radius": 1.2e6, "sigma": 1e24, "L": 1e5, "n_e": 1e35},
    },
    "radio_beam_model": {
        "standard_period_cone": {"r_em": 3.0e7},
        "power-law_period_cone": {"rho_b_0": 2.5, "a_beam": -0.5},
    },
    "radio_luminosity_model": {
        "lum_radio_edot": {
            "L_radio_log10_mean": 26.17,
            "epsilon_L": 0.68,
            "Erot_dot_0": 1e29,
        },
        "lum_radio_ppdot": {"L_radio_log10_mean": 35.5, "epsilon_L": 0.5},
    },
    "radio_death_model": {
        "none": {},
        "line": {"death_BP2_log10": math.log10(0.17e12)},
        # half way at the same line, which is 2e30 erg/s with the default radius
        "valley": {"death_Edot_log10_mean": 30.3, "death_Edot_log10_sigma": 0.5},
    },
    "tsky_model": {"database": {}, "narayan87": {}, "healpix": {"tsky_map": None}},
}
"""Keys that only some choices of a model have, with their defaults there."""

_PUBLISHED: Mapping[str, Any] = {
    "NS_mass": 2.8e33,
    "NS_radius": 1.10e6,
    "spin_period_model": "log-normal",
    "P_initial_min": 0.0,
    "magnetic_field_model": "log-normal",
    "k_coefficients": (1.0, 1.0, 1.0),
    "magneto_thermal_model": "BSk24_dip-tor_heavy",
    **{name: value for name, value in _DIP_TOR.items() if name != "a_late"},
    "B_millisec_mean": 8.5,
    "B_millisec_sigma": 0.5,
    "radio_beam_model": "standard_period_cone",
    "r_em": 3.0e7,
    "L_radio_log10_sigma": 0.8,
    "radio_death_model": "none",
    "std_spectral_index": 0.0,
    "tau_sc_log10_sigma": 0.5,
    "d_max": 35.0,
    "survey_version": "older",
    "batch_persist": True,
}
"""What Graber et al. 2024 and Pardo-Araujo et al. 2025 have in common."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "current": {"surveys_radio": _targets("current")},
    "pardo2025": {
        **_PUBLISHED,
        "P_initial_log10_mean": -0.67,
        "P_initial_log10_sigma": 0.55,
        "B_initial_log10_mean": 13.09,
        "B_initial_log10_sigma": 0.5,
        "a_late": -0.88,
        "radio_luminosity_model": "lum_radio_edot",
        "L_radio_log10_mean": 26.17,
        "epsilon_L": 0.68,
        "Erot_dot_0": 1e29,
        "mean_spectral_index": -1.8,
        "surveys_radio": _targets("pardo2025"),
    },
    "graber2024": {
        **_PUBLISHED,
        "P_initial_log10_mean": -1.00,
        "P_initial_log10_sigma": 0.38,
        "B_initial_log10_mean": 13.10,
        "B_initial_log10_sigma": 0.45,
        "a_late": -1.80,
        "radio_luminosity_model": "lum_radio_ppdot",
        "L_radio_log10_mean": 35.5,
        "epsilon_L": 0.5,
        "mean_spectral_index": -1.6,
        "surveys_radio": _targets("graber2024"),
    },
}
"""Published models at their published fits: Graber et al. 2024, table 3, and Pardo-Araujo et al.
2025, experiment 4; and today's default."""

_STARS: Mapping[str, Any] = {
    "t_age_min": 1.0,
    "t_age_max": 1e8,
    "galactic_model": "gmM19",
    "sample_edm": False,
    "radial_model": "rmYK04",
    "spiral_arms": "saYMW17",
    "arm_number": 5,
    "h_c": 0.18,
    "kick_model": "km_maxwell",
    "sigma_k": 265.0,
    "ed_model": "ymw16",
}

PRESET_STARS: Mapping[str, Mapping[str, Any]] = {
    "pardo2025": {**_STARS, "sigma_k": 260.0},
    "graber2024": _STARS,
}
"""The stellar databases of the published models; `sigma_k` of the second is that of its run."""

MODEL_CHOICES: Mapping[str, str] = {
    "spin_period_model": "log-normal",
    "magnetic_field_model": "log-normal",
    "magneto_thermal_model": "BSk24_dip-tor_heavy",
    "radio_beam_model": "standard_period_cone",
    "radio_luminosity_model": "lum_radio_edot",
    "radio_death_model": "none",
    "tsky_model": "database",
}
"""The default choice of each model."""
