"""The configuration of `mlpop observe`."""

from pathlib import Path

import pytest

from mlpop.config.blocks.surveys import MAP_SURVEYS
from mlpop.config.files.observe import ObserveConfig
from mlpop.errors import ConfigError

LEAST = {"source": "psrcat.db", "save_dir": "output/gen_atnf"}


def test_defaults():
    config = ObserveConfig.parse(LEAST)
    assert config.catalogue_path == Path("psrcat.db")
    assert config.fluxes is None
    assert config.regions == {name: survey.region for name, survey in MAP_SURVEYS.items()}
    assert config.generator.resolution_dyn == 32


def test_online_source_has_no_path():
    assert ObserveConfig.parse({**LEAST, "source": "psrqpy"}).catalogue_path is None


def test_own_region():
    region = {"token": "meertrap", "l_min": -10.0, "l_max": 10.0, "b_abs_max": 2.0}
    only = {"regions": {"PMPS": region}, "generator": {"surveys": {"PMPS": "x"}}}
    config = ObserveConfig.parse({**LEAST, **only})
    assert config.regions["PMPS"].token == "meertrap"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fluxes": "tpa"}, "tpa_table: must be given if, and only if, fluxes is 'tpa'"),
        ({"tpa_table": "t.csv"}, "tpa_table: must be given if, and only if"),
        ({"fluxes": "S1400", "tpa_table": "t.csv"}, "but fluxes is 'S1400'"),
        ({"fluxes": "S400"}, "fluxes: must be one of 'tpa', 'S1400', found 'S400'"),
        ({"sourc": "x"}, "sourc: unknown field; did you mean 'source'?"),
        ({"source": ""}, "source: must not be empty"),
        ({"regions": {}}, "regions: must name at least one of PMPS, SMPS, HTRU"),
        (
            {"regions": {"PMPS": {"token": "a", "l_min": 5.0, "l_max": 5.0}}},
            r"regions.PMPS.l_max: must be greater than l_min \(5.0\), found 5.0",
        ),
        (
            {"regions": {"PMPS": {"token": "a", "l_min": 0.0, "l_max": 5.0}}},
            "regions: lacks SMPS, HTRU, of which generator.surveys wants maps",
        ),
        ({"regions": {"PMPS": {"token": "a", "l_min": -200.0, "l_max": 5.0}}}, "at least -180"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        ObserveConfig.parse({**LEAST, **values})
