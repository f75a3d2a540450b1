"""The numbers of the observed sample, taken by an experiment instead of copied by hand."""

import json

import pytest

from mlpop.config.blocks.flux_subsample import with_census
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.errors import ConfigError

NUMBERS = {
    "detected_real": {"PMPS": 988, "SMPS": 201, "HTRU": 1019},
    "thin_to": {"PMPS": 968, "SMPS": 193, "HTRU": 977},
    "fluxes": {"PMPS": 967, "SMPS": 166, "HTRU": 937},
    "catalogue": {"version": "1.67", "sha256": None, "pulsars": 3320},
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "observed.json"
    file.write_text(json.dumps(NUMBERS), encoding="utf-8")
    return str(file)


def targets(config):
    return {name: target.detected_real for name, target in config.surveys_radio.items()}


def test_one_line_sets_all_numbers(path):
    config = PopulationConfig.parse({"preset": "pardo2025", "observed": path})
    assert targets(config) == {"PMPS": 988, "SMPS": 201, "HTRU_low_mid": 1019, "HTRU_high": 20}
    assert not config.surveys_radio["HTRU_high"].in_stop_rule
    assert config.thin_to == {"PMPS": 968, "SMPS": 193, "HTRU_low_mid": 977}
    assert config.observed_cuts
    maps = with_census(GeneratorConfig(), config)
    assert maps.flux_subsample == NUMBERS["fluxes"]


def test_what_the_file_sets_wins(path):
    own = {"HTRU": {"detected_real": 7}, "PMPS": {"detected_real": 5}}
    config = PopulationConfig.parse(
        {"observed": path, "surveys_radio": own, "observed_cuts": False}
    )
    assert targets(config) == {"HTRU_low_mid": 7, "PMPS": 5}
    assert config.thin_to == {"HTRU_low_mid": 977, "PMPS": 968}
    assert not config.observed_cuts
    thinned = PopulationConfig.parse({"observed": path, "thin_to": {"HTRU": 3}})
    assert thinned.thin_to == {"HTRU_low_mid": 3}
    census = PopulationConfig.parse({"observed": path, "detected_meerkat_PMPS": 9})
    assert with_census(GeneratorConfig(), census).flux_subsample["PMPS"] == 9
    with pytest.raises(ConfigError, match=r"observed.fluxes.SMPS is 166, but generator.flux_sub"):
        with_census(GeneratorConfig(flux_subsample={"PMPS": 967, "SMPS": 1}), config)


def test_without_fluxes_the_subsample_is_left_as_it_is(tmp_path):
    numbers = {key: NUMBERS[key] for key in ("detected_real", "thin_to")}
    config = PopulationConfig.parse({"observed": numbers})
    assert with_census(GeneratorConfig(), config) == GeneratorConfig()


def test_a_stored_configuration_holds_the_numbers(path, tmp_path):
    simulator = SimulatorConfig.parse({"args": {"population": {"observed": path}}})
    config = simulator.pulsar.population
    (tmp_path / "observed.json").unlink()
    again = SimulatorConfig.parse(simulator.model_dump(mode="json"))
    assert again.pulsar.population == config
    assert PopulationConfig.parse(config.model_dump(mode="json")) == config
    swept = config.with_override({"a_late": -1.0})
    assert (swept.surveys_radio, swept.thin_to) == (config.surveys_radio, config.thin_to)


@pytest.mark.parametrize("field", ["surveys_radio", "thin_to"])
def test_a_catalogue_has_one_name_at_a_time(field):
    value = {"surveys_radio": {}, "thin_to": 5}[field]
    assert "HTRU_low_mid" in getattr(PopulationConfig.parse({field: {"HTRU": value}}), field)
    both = {"HTRU": value, "HTRU_low_mid": value}
    with pytest.raises(ConfigError, match=rf"{field}.HTRU: is another name of HTRU_low_mid"):
        PopulationConfig.parse({field: both})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"detected_real": {}}, "detected_real: must have at least 1 entry"),
        ({"detected_real": {"PMPS": 0}}, "detected_real.PMPS: must be at least 1"),
        ({}, "detected_real: is required"),
        ({"detected_real": {"PMPS": 1}, "thinto": {}}, "thinto: unknown field"),
    ],
)
def test_wrong_numbers_are_refused_by_field(tmp_path, values, message):
    file = tmp_path / "observed.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=f"population: observed: must be .*observed.json: {message}"
    ):
        PopulationConfig.parse({"observed": str(file)}, "population")
    with pytest.raises(ConfigError, match=f"args.population.observed: .*{message}"):
        SimulatorConfig.parse({"args": {"population": {"observed": str(file)}}})
    with pytest.raises(ConfigError, match=f"observed.{message}"):
        PopulationConfig.parse({"observed": values})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="must be the observed.json of `mlpop observe`.*no such"):
        PopulationConfig.parse({"observed": str(tmp_path / "none.json")})
