"""The generator block: documented defaults and refusals."""

import json

import pytest

from mlpop.config.blocks.generator import SURVEY_CHANNELS, GeneratorConfig, is_count
from mlpop.errors import ConfigError


def test_defaults_are_the_documented_ones() -> None:
    assert GeneratorConfig.parse({}).model_dump(mode="json") == {
        "data_type": "array",
        "resolution_dyn": 32,
        "resolution_ppdot": 32,
        "p_limits": [1e-3, 1e2],
        "pdot_limits": [1e-21, 1e-9],
        "xyz_limit_kpc": 20.0,
        "smoothing_sigma": 1.0,
        "boundary": "reflect",
        "empty_flux": -7.0,
        "flux_subsample": {"PMPS": 640, "SMPS": 170, "HTRU": 668},
        "surveys": {
            "PMPS": "survey_PMPS_results",
            "SMPS": "survey_SMPS_results",
            "HTRU": "survey_HTRU_low_mid_results",
        },
        "dtype": "float64",
        "sky_maps": {},
        "counts": False,
    }


def test_settings_that_add_nothing_leave_digests_alone() -> None:
    plane = {"first": {"column": "l"}, "second": {"column": "DM"}}
    assert "sky_maps" not in GeneratorConfig().settings()
    assert "sky_maps" in GeneratorConfig.parse({"sky_maps": {"sky": plane}}).settings()
    assert GeneratorConfig().settings() | {"sky_maps": {}, "counts": False} == (
        GeneratorConfig().model_dump(mode="json")
    )
    assert GeneratorConfig(counts=True).settings()["counts"] is True


def test_sky_maps_are_channels_behind_the_others() -> None:
    plane = {"first": {"column": "l", "bins": 8}, "second": {"column": "DM"}}
    generator = GeneratorConfig.parse({"sky_maps": {"sky": plane}, "resolution_ppdot": 16})
    assert generator.survey_channels == (
        *SURVEY_CHANNELS,
        *("survey_PMPS_sky", "survey_SMPS_sky", "survey_HTRU_sky"),
    )
    assert generator.sky_map_shape("sky") == (8, 16)
    assert generator.sky_map_of("survey_HTRU_sky") == "sky"
    assert generator.sky_map_of("survey_HTRU_ppdot_map") is None
    first, second = generator.sky_maps["sky"].axes
    assert (first.range, first.is_log) == ((-180.0, 180.0), False)
    assert (second.range, second.is_log) == ((1.0, 3000.0), True)
    assert str(generator.sky_maps["sky"]) == (
        "l from -180 to 180, 8 bins and DM from 1 to 3000 (log)"
    )


@pytest.mark.parametrize(
    ("name", "axis", "match"),
    [
        ("sky", {"column": "dist"}, r"first\.column: must be one of 'l', 'b', 'b_abs', 'DM'"),
        ("sky", {"column": "DM"}, r"second\.column: must be another than first\.column"),
        ("sky", {"column": "l", "limits": [3.0, 3.0]}, r"first\.limits: must be \[low, high\]"),
        ("sky", {"column": "b_abs", "log": True}, r"first\.log: the limits of a log axis"),
        ("sky", {"column": "P", "limits": [0.0, 1.0]}, r"first\.limits: the limits of a log"),
        ("sky", {"column": "l", "bins": 1}, r"first\.bins"),
        ("my_ppdot_map", {"column": "l"}, r"sky_maps\.my_ppdot_map: must be made of letters"),
        ("a b", {"column": "l"}, r"sky_maps\.a b: must be made of letters"),
    ],
)
def test_sky_maps_that_cannot_be_made(name: str, axis: dict[str, object], match: str) -> None:
    planes = {name: {"first": axis, "second": {"column": "DM"}}}
    with pytest.raises(ConfigError, match=match):
        GeneratorConfig.parse({"sky_maps": planes})


def test_counts_are_the_last_channels() -> None:
    plane = {"first": {"column": "l"}, "second": {"column": "DM"}}
    generator = GeneratorConfig.parse({"sky_maps": {"sky": plane}, "counts": True})
    assert generator.survey_channels[15:] == (
        *("survey_PMPS_sky", "survey_SMPS_sky", "survey_HTRU_sky"),
        *("survey_PMPS_count", "survey_SMPS_count", "survey_HTRU_count"),
    )
    assert [is_count(name) for name in generator.survey_channels].count(True) == 3
    with pytest.raises(ConfigError, match="counts: must be false with data_type 'image'"):
        GeneratorConfig.parse({"counts": True, "data_type": "image"})


def test_shapes_and_catalogue_names() -> None:
    generator = GeneratorConfig(resolution_dyn=64, resolution_ppdot=48)
    assert (generator.sky_shape, generator.ppdot_shape) == ((64, 32), (48, 48))
    names = [generator.catalogue_name(s) for s in ("PMPS", "SMPS", "HTRU")]
    assert names == ["PMPS", "SMPS", "HTRU_low_mid"]


def test_json_round_trip() -> None:
    generator = GeneratorConfig(flux_subsample={"PMPS": None}, p_limits=(1e-2, 10.0))
    dumped = json.loads(json.dumps(generator.model_dump(mode="json")))
    assert GeneratorConfig.parse(dumped) == generator


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"data_type": "picture"}, "data_type"),
        ({"resolution_dyn": 33}, "resolution_dyn"),
        ({"resolution_dyn": 0}, "resolution_dyn"),
        ({"resolution_ppdot": 1}, "resolution_ppdot"),
        ({"p_limits": [1.0, 1.0]}, "p_limits"),
        ({"pdot_limits": [0.0, 1.0]}, "pdot_limits"),
        ({"p_limits": [1.0]}, "p_limits"),
        ({"xyz_limit_kpc": 0}, "xyz_limit_kpc"),
        ({"smoothing_sigma": -1}, "smoothing_sigma"),
        ({"boundary": "wrap"}, "boundary"),
        ({"flux_subsample": {"PMPS": 0}}, "flux_subsample.PMPS"),
        ({"flux_subsample": {"PKS": 3}}, "flux_subsample.PKS: must be one of"),
        ({"surveys": {"PKS": "PKS"}}, "surveys.PKS: must be one of"),
        ({"surveys": {"a/b": "survey_a_results"}}, "surveys"),
        ({"surveys": {}}, "surveys"),
        ({"dtype": "float16"}, "dtype"),
        ({"resolution": 32}, "resolution"),
    ],
)
def test_wrong_values_are_refused_by_field(values: dict, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"generator.json: {field}"):
        GeneratorConfig.parse(values, "generator.json")
