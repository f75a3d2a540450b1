"""The configuration of `mlpop simulate`."""

import json

import pytest

from mlpop.config.files.simulate import SimulateConfig
from mlpop.errors import ConfigError

MINIMAL = {
    "parameters": {"B_initial_log10_mean": [12.0, 14.0]},
    "sampling_size": 20,
    "save_dir": "output/simulations",
}
GRID = MINIMAL | {
    "sampling_type": "grid",
    "sampling_size": None,
    "parameters": {"h_c": [0.1, 1.0, 5]},
}


def test_minimal_file_and_its_defaults() -> None:
    config = SimulateConfig.parse(MINIMAL)
    assert (config.sampling_type, config.sampling_size, config.seed) == ("random", 20, None)
    assert config.parameters == {"B_initial_log10_mean": (12.0, 14.0)}
    assert config.simulator.type == "pulsar"
    assert config.split is None
    assert (config.compute.n_processes, config.compute.enable_dask) == (4, False)
    assert config.min_success_fraction == 0.9
    assert SimulateConfig.parse(GRID).parameters == {"h_c": (0.1, 1.0, 5.0)}


def test_json_round_trip() -> None:
    config = SimulateConfig.parse(GRID | {"split": {"test": 0.1, "valid": 0.2}, "seed": 3})
    dumped = json.loads(json.dumps(config.model_dump(mode="json")))
    assert SimulateConfig.parse(dumped) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling_size": None}, "sampling_size: must be at least 1 for sampling_type 'random'"),
        ({"parameters": {}}, "parameters: must have at least 1 entry"),
        (
            {"parameters": {"h_c": [1.0, 0.1]}},
            "parameters.h_c: must have finite low < high, found",
        ),
        ({"parameters": {"h_c": [0.1, 1.0, 5]}}, r"parameters.h_c: must be \[low, high\] for"),
        ({"sampling_type": "grid"}, "sampling_size: must be null for a grid"),
        ({"sampling_type": "halton"}, "sampling_type: .*'sobol'"),
        ({"split": {"test": 0.0}}, "split.test"),
        ({"split": {"test": None}}, "split: must give a fraction"),
        ({"save_dir": ""}, "save_dir: must be a path"),
        ({"seed": -1}, "seed"),
        ({"compute": {"n_processes": 0}}, "compute.n_processes"),
        ({"generator": {"resolution_ppdto": 16}}, "did you mean .*resolution_ppdot"),
        ({"sampling": "grid"}, "sampling: unknown field"),
    ],
)
def test_wrong_values_are_refused_by_field(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimulateConfig.parse(MINIMAL | change)
