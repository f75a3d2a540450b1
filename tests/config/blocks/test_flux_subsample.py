import json
from typing import Any

import pytest

from mlpop.config.blocks.flux_subsample import with_census
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError

SIMULATED: dict[str, Any] = {
    "prior_ranges": {"labels": ["B_initial_log10_mean"], "low": [12], "high": [14]},
    "training_data_loader": {"simulate": True, "filter_inputs": [9, 10, 11]},
    "observed_sample": {"synthetic": {"theta": {"B_initial_log10_mean": 13.1}}},
    "simulator": {"args": {"population": {"birth_rate_max": 1.0, "detected_meerkat_SMPS": 3}}},
    "dyn_data_loader": {"database": {"NS_number": 300000}},
}


def test_population_says_how_many_have_a_flux() -> None:
    population = PopulationConfig.parse({"detected_meerkat_SMPS": 3})
    default = GeneratorConfig()
    assert with_census(default, population).flux_subsample == default.flux_subsample | {"SMPS": 3}
    assert with_census(default, PopulationConfig()) is default


def test_both_may_say_it_if_they_agree() -> None:
    population = PopulationConfig.parse({"detected_meerkat_SMPS": 3})
    same = GeneratorConfig.parse({"flux_subsample": {"SMPS": 3}})
    assert with_census(same, population).flux_subsample == {"SMPS": 3}
    with pytest.raises(ConfigError, match="SMPS is 3, but generator.flux_subsample.SMPS is 4"):
        with_census(GeneratorConfig.parse({"flux_subsample": {"SMPS": 4}}), population)


def test_experiment_resolves_it_into_a_file_that_starts_it_again() -> None:
    config = SbiConfig.parse(SIMULATED)
    assert config.map_generator.flux_subsample["SMPS"] == 3
    again = SbiConfig.parse(json.loads(json.dumps(config.resolved())))
    assert again.resolved() == config.resolved()


def test_contradiction_is_a_wrong_field_of_the_experiment() -> None:
    values = SIMULATED | {"generator": {"flux_subsample": {"SMPS": 4}}}
    with pytest.raises(ConfigError, match="generator.flux_subsample: population.detected_meerkat"):
        SbiConfig.parse(values)
