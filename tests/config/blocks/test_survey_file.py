"""A survey's file: what it must say, what is refused and how, versions, and where it may stand."""

import json
from pathlib import Path

import pytest

import mlpop.population.surveys
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.survey_file import SurveyFile
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.errors import ConfigError

FOLDER = Path(mlpop.population.surveys.__file__).parent
MINE = {
    "name": "my survey",
    "reference": "this test",
    "G0": 1.2,
    "t_obs": 600.0,
    "t_samp": 64.0,
    "T_sys": 22.0,
    "f_central": 1400.0,
    "BW": 300.0,
    "channel_width": 0.5,
    "FWHM": 8.0,
    "SNR_th": 8.0,
}
"""All that has no default."""


def write(folder, name="my_survey", **changes):
    path = folder / f"{name}.json"
    values = {k: v for k, v in (MINE | changes).items() if v is not None}
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_the_least_survey_sees_the_whole_sky(tmp_path):
    survey = SurveyFile.read(write(tmp_path))
    assert (survey.key, survey.catalogue, survey.n_pol) == ("my_survey", None, 2)
    assert (survey.DEC_range, survey.b_range_abs) == ((-90.0, 90.0), (0.0, 90.0))
    assert SurveyFile.parse(survey.model_dump(mode="json", exclude_unset=True)) == survey


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"G0": 0.0}, "G0: must be greater than 0, found 0.0"),
        ({"G0": None}, "G0: must be given, or beams instead of it, found neither"),
        ({"beams": [{"G0": 1.0}]}, "G0: must be given, or beams instead of it, found both"),
        ({"G0": None, "beams": [{"G0": -1.0}]}, r"beams\[0\].G0: must be greater than 0"),
        ({"G0": None, "beams": [{"gain": 1.0}]}, r"beams\[0\]"),
        ({"t_obs": None}, "t_obs: is required"),
        ({"gain": 1.0}, "gain: unknown field"),
        ({"n_pol": 3}, "n_pol: must be at most 2"),
        ({"deg_factor": 0.8}, "deg_factor: must be at least 1"),
        (
            {"b_range_abs": [5, 5]},
            r"b_range_abs: must be \[low, high\] with 0 <= low < high <= 90",
        ),
        ({"b_range_abs": [-5, 5]}, r"b_range_abs: must be .* found \[-5.0, 5.0\]"),
        ({"l_ranges": [[0, 50], [200, 300]]}, r"l_ranges\[1\]: must be .* -180 <= low"),
        ({"l_ranges": []}, "l_ranges: must have at least 1 entry"),
        ({"coverage_mode": "or"}, "coverage_mode: must be one of 'and', 'l_or_b'"),
        ({"channel_width": 400.0}, r"channel_width: must be at most BW \(300\)"),
        ({"t_samp": 1e9}, r"t_samp: must be less than t_obs"),
        ({"BW": 3000.0, "channel_width": 1.0}, "BW: must be less than twice f_central"),
        ({"catalogue": "a/b"}, "catalogue: must be made of letters"),
        ({"versions": {"older": {"gain": 1.0}}}, "versions.older.gain: is no field of a survey"),
    ],
)
def test_wrong_files_are_refused_by_field(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=f"my_survey.json: {message}"):
        SurveyFile.read(path)
    with pytest.raises(ConfigError, match=rf"population: surveys\[0\].*{message}"):
        PopulationConfig.parse({"surveys": [str(path)]}, "population")
    with pytest.raises(ConfigError, match=r"args.population.surveys\[0\].*my_survey.json"):
        SimulatorConfig.parse({"args": {"population": {"surveys": [str(path)]}}})


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    for name, message in (("absent.json", "no such file"), ("broken.json", "not valid JSON")):
        with pytest.raises(ConfigError, match=rf"surveys\[0\]: .*{name}.*{message}"):
            PopulationConfig.parse({"surveys": [str(tmp_path / name)]})
    with pytest.raises(ConfigError, match=r"surveys\[0\]: must be the path of a survey's .json"):
        PopulationConfig.parse({"surveys": ["PMPS"]})
    with pytest.raises(ConfigError, match="surveys: must be a list"):
        PopulationConfig.parse({"surveys": "my_survey.json"})


def test_its_catalogue_is_made_beside_those_of_the_preset(tmp_path):
    path = write(tmp_path, detected_real=40)
    config = PopulationConfig.parse({"preset": "pardo2025", "surveys": [str(path)]})
    assert list(config.surveys_radio) == [
        *("PMPS", "SMPS", "HTRU_low_mid", "HTRU_high"),
        "my_survey",
    ]
    assert config.surveys_radio["my_survey"].detected_real == 40
    assert config.surveys_radio["PMPS"].detected_real == 1045
    own = {"my_survey": {"detected_real": 7}, "PMPS": {}}
    chosen = PopulationConfig.parse({"surveys_radio": own, "surveys": [str(path)]})
    assert list(chosen.surveys_radio) == ["my_survey", "PMPS"]
    assert chosen.surveys_radio["my_survey"].detected_real == 7


def test_a_stored_configuration_holds_the_survey_itself(tmp_path):
    path = write(tmp_path, detected_real=40)
    simulator = SimulatorConfig.parse({"args": {"population": {"surveys": [str(path)]}}})
    config = simulator.pulsar.population
    path.unlink()
    again = SimulatorConfig.parse(simulator.model_dump(mode="json"))
    assert again.pulsar.population == config
    assert PopulationConfig.parse(config.model_dump(mode="json")) == config
    swept = config.with_override({"a_late": -1.0})
    assert swept.surveys == config.surveys
    assert swept.surveys_radio == config.surveys_radio


def test_versions_change_fields(tmp_path):
    survey = SurveyFile.read(write(tmp_path, versions={"older": {"deg_factor": 1.5}}))
    assert survey.at("older").deg_factor == 1.5
    assert survey.at("current") == survey
    wrong = SurveyFile.read(write(tmp_path, versions={"older": {"G0": -1.0}}))
    with pytest.raises(ConfigError, match="versions.older: G0: must be greater than 0"):
        wrong.at("older")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_file_is_a_survey_with_its_source(path):
    survey = SurveyFile.read(path)
    assert survey.key == path.stem
    assert any(year in survey.reference for year in map(str, range(1990, 2030)))
    assert survey.detected_real is None
