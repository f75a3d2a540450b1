"""The table of methods: every entry is whole, and everything that reads it agrees."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from mlpop.config.blocks.network import DensityConfig
from mlpop.config.blocks.training import TrainerConfig
from mlpop.config.methods import (
    COMPRESSOR_METHOD,
    METHODS,
    NETWORKS,
    EstimatorKind,
    NetworkField,
    network_field,
)
from mlpop.inference.estimators.estimator import BUILDERS, build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.networks.rng import generator_from_seed

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", METHODS)
def test_everything_that_a_method_needs_is_there(name):
    """What is forgotten with a new method: its builder, its networks, its row in the docs."""
    method = METHODS[name]
    assert method.estimator in get_args(EstimatorKind)
    assert method.estimator in BUILDERS, "no builder in inference/estimators/estimator.py"
    assert method.network in DensityConfig.model_fields, "no field in config/blocks/network.py"
    assert network_field(method.estimator) == method.network
    assert f"| `{name}` |" in (DOCS / "inference.md").read_text(), "no row in docs/inference.md"
    allowed = (DOCS / "experiments.md").read_text()
    assert f"`{name}`" in allowed.partition("### `trainer`")[2].partition("###")[0]


def test_nothing_is_left_over():
    assert set(BUILDERS) == set(get_args(EstimatorKind))
    assert set(BUILDERS) == {method.estimator for method in METHODS.values()}
    assert set(NETWORKS) == set(get_args(NetworkField))
    assert METHODS[COMPRESSOR_METHOD].estimator == "posterior"


@pytest.mark.parametrize("name", METHODS)
def test_networks_of_a_method_have_the_kind_that_the_method_says(name):
    method = METHODS[name]
    for model in NETWORKS[method.network]:
        spec = EstimatorSpec.parse(
            {
                "kind": method.estimator,
                "model": model,
                "x_shape": (3,),
                "dimension": 2,
            }
        )
        generator = generator_from_seed(0)
        theta, x = (torch.rand(20, width, generator=generator) for width in (2, 3))
        assert build_estimator(spec, theta, x, generator).kind == method.estimator


@pytest.mark.parametrize("network", [name for table in NETWORKS.values() for name in table])
def test_density_estimators_are_in_the_documents(network):
    page = (DOCS / "experiments.md").read_text()
    assert f"`{network}`" in page.partition("### `density_estimator`")[2].partition("###")[0]


@pytest.mark.parametrize(
    ("name", "round_", "truncated", "loss"),
    [
        ("snpe", 0, False, "maximum_likelihood"),
        ("snpe", 1, False, "atomic"),
        ("snpe", 1, True, "maximum_likelihood"),
        ("snle", 1, False, "maximum_likelihood"),
        ("snre", 1, False, "maximum_likelihood"),
    ],
)
def test_only_densities_of_theta_are_corrected_for_the_proposal(name, round_, truncated, loss):
    trainer = TrainerConfig(type=name, num_rounds=2, truncated_prior=truncated)
    assert trainer.loss(round_) == loss


def test_names_of_a_table_are_in_the_schema_like_those_of_a_literal():
    schema = TrainerConfig.model_json_schema()
    assert schema["properties"]["type"]["enum"] == list(METHODS)
