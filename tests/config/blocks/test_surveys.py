"""The table of surveys: an entry that lacks something is told here, and not in a simulation."""

import pytest

from mlpop.config.blocks.generator import SURVEY_CHANNELS, GeneratorConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.presets import PRESETS
from mlpop.config.blocks.surveys import MAP_SURVEYS
from mlpop.config.files.observe import ObserveConfig
from mlpop.population.surveys.survey import groups, surveys
from mlpop.simulators.pulsar import PulsarSimulator


@pytest.mark.parametrize("name", MAP_SURVEYS)
def test_every_survey_with_maps_is_whole(name):
    entry = MAP_SURVEYS[name]
    assert entry.catalogue in groups(surveys().values()), (
        f"{name}: no JSON file in mlpop/population/surveys makes the catalogue {entry.catalogue}"
    )
    assert set(entry.detected_real) == set(PRESETS), f"{name}: detected_real lacks a preset"
    for preset in PRESETS:
        targets = PopulationConfig.parse({"preset": preset}).surveys_radio
        assert targets[entry.catalogue].detected_real == entry.detected_real[preset]
    generator = GeneratorConfig()
    assert generator.catalogue_name(name) == entry.catalogue
    assert generator.flux_subsample[name] == entry.census
    observe = ObserveConfig.parse({"source": "psrqpy", "save_dir": "out"})
    assert observe.regions[name] == entry.region


def test_every_survey_is_a_channel_of_the_simulator_five_times():
    assert len(SURVEY_CHANNELS) == 5 * len(MAP_SURVEYS)
    simulator = PulsarSimulator(["a_late"], {"birth_rate_max": 0.01}, dynamics={"NS_number": 3000})
    assert simulator.channels == SURVEY_CHANNELS
