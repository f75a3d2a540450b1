"""The generator block: documented defaults and refusals."""

import json

import pytest

from mlpop.config.blocks.generator import GeneratorConfig
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
    }


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
