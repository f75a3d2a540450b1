"""What a preset says of the stars reaches the stellar database, and the log says what it fixes."""

import pytest

from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.preset_stars import preset_sentence, preset_stars
from mlpop.config.blocks.presets import PRESET_STARS, PRESETS
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.simulate import SimulateConfig
from mlpop.errors import ConfigError


def sweep(population, **more):
    values = {
        "simulator": {"args": {"population": population}},
        "sampling_size": 4,
        "parameters": {"a_late": [-3.0, -0.5]},
        "save_dir": "out",
    }
    return SimulateConfig.parse(values | more)


def experiment(population, **more):
    values = {
        "prior_ranges": {"labels": ["a_late"], "low": [-3.0], "high": [-0.5]},
        "arch": {"args": {"input_shape": [1, 32, 32]}},
        "training_data_loader": {"simulate": True, "filter_inputs": ["survey_PMPS_ppdot_map"]},
        "observed_sample": {"synthetic": {"theta": {"a_late": -1.0}}},
        "simulator": {"args": {"population": population}},
    }
    return SbiConfig.parse(values | more)


@pytest.mark.parametrize("file", [sweep, experiment])
def test_published_stars_are_a_hundred_million_years_old(file):
    config = file({"preset": "graber2024", "birth_rate_max": 3.3})
    stars = config.dyn_data_loader.stars
    assert (stars.t_age_max, stars.NS_number, stars.sigma_k) == (1e8, 3_300_000, 265.0)
    assert (stars.spiral_arms, stars.radial_model, stars.h_c) == ("saYMW17", "rmYK04", 0.18)
    assert file({"preset": "pardo2025"}).dyn_data_loader.stars.sigma_k == 260.0
    assert sweep({"preset": "current"}).dyn_data_loader.database is None


@pytest.mark.parametrize("file", [sweep, experiment])
def test_the_file_wins_over_the_preset(file):
    young = {"database": {"seed": 3, "t_age_max": 3e7, "NS_number": 1_000_000}}
    stars = file(
        {"preset": "pardo2025", "birth_rate_max": 3.3}, dyn_data_loader=young
    ).dyn_data_loader.stars
    assert (stars.seed, stars.t_age_max, stars.NS_number) == (3, 3e7, 1_000_000)
    fast = {"database": {"kick_model": "km_exp", "sample_edm": True}}
    stars = file({"preset": "pardo2025"}, dyn_data_loader=fast).dyn_data_loader.stars
    assert (stars.kick_model, stars.t_age_max, stars.sigma_k) == ("km_exp", 1e8, 265.0)
    imported = file({"preset": "pardo2025"}, dyn_data_loader={"dataset_path": "stars"})
    assert imported.dyn_data_loader.database is None


def test_too_few_stars_for_the_age_of_a_preset_are_refused_with_the_number():
    few = {"database": {"NS_number": 1_000_000}}
    with pytest.raises(ConfigError, match="NS_number: must be at least 3300000"):
        experiment({"preset": "graber2024", "birth_rate_max": 3.3}, dyn_data_loader=few)


def test_mistakes_beside_a_preset_are_told_as_without_it():
    for population, message in (
        ({"preset": "graber2024", "birth_rate_max": -1.0}, "birth_rate_max: must be greater"),
        ({"preset": "graber2023"}, "preset: must be one of"),
    ):
        with pytest.raises(ConfigError, match=message):
            sweep(population)
    with pytest.raises(ConfigError, match="dyn_data_loader.database: must be an object"):
        sweep({"preset": "graber2024"}, dyn_data_loader={"database": 3})


def test_the_log_says_what_a_preset_fixes_and_what_is_changed():
    graber = {"preset": "graber2024", "a_late": -1.5, "observed_cuts": True}
    stars = DynamicsConfig.parse(preset_stars("graber2024", 3.3, {"t_age_max": 3e7}))
    text = preset_sentence(PopulationConfig.parse(graber), stars)
    fixes, changes = text.split("; the configuration changes ")
    assert fixes.startswith("preset graber2024 fixes NS_mass 2.8e+33, NS_radius 1.1e+06")
    assert "surveys_radio PMPS 1009 SMPS 218 HTRU_low_mid 1023 HTRU_high 20" in fixes
    assert "sigma_k 265" in fixes
    assert changes == "a_late -1.5 (preset: -1.8), t_age_max 3e+07 (preset: 1e+08)"
    free = preset_sentence(PopulationConfig.parse(graber), stars, ["a_late", "sigma_k"])
    assert free == text.replace("a_late -1.5 (preset: -1.8), ", "").replace("sigma_k 265, ", "")
    for preset in PRESETS:
        config = PopulationConfig.parse({"preset": preset})
        stars = DynamicsConfig.parse(preset_stars(preset, 5.0, {}))
        text = preset_sentence(config, stars)
        assert text.endswith("the configuration changes nothing of it")
        for field in (*PRESETS[preset], *PRESET_STARS.get(preset, {})):
            assert f"{field} " in text
