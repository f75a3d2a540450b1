"""The SBI configuration: documented fields, defaults, and what follows from them."""

import json
from pathlib import Path
from typing import Any

import pytest
from config_documents import GIVEN, SIMULATED, TUTORIAL, changed

from mlpop.config.base import read_json
from mlpop.config.blocks.generator import SURVEY_CHANNELS
from mlpop.config.fields import dataset_root
from mlpop.config.files.facts import ExperimentFacts
from mlpop.config.files.observe import ObserveConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.schema import schema_of
from mlpop.errors import ConfigError

EXPERIMENTS = Path(__file__).parents[3] / "experiments"

DEFAULTS_A12 = {
    "name": "SBI_ConvolutionMDN",
    "n_gpu": 1,
    "enable_dask": False,
    "n_processes": 4,
    "workers_dask": None,
    "set_manual_seed": False,
    "manual_seed": 42,
    "profile_log": "profile.log",
    "profile_json": "profile.json",
    "show_profiling": True,
    "arch.type": "ModelConvSBI",
    "arch.args.input_shape": (3, 32, 32),
    "arch.args.len_output_layer": 32,
    "arch.args.layout": "documented",
    "arch.args.filters": None,
    "arch.args.final_activation": "relu",
    "weights_initializer.type": "InitializerKaiming",
    "weights_initializer.args.include_conv": False,
    "density_estimator.type": "mdn",
    "density_estimator.args.hidden_features": 32,
    "density_estimator.args.num_components": 10,
    "density_estimator.args.num_transforms": 5,
    "density_estimator.args.z_score_theta": "independent",
    "density_estimator.classifier_nre": "resnet",
    "mcmc_sampler.type": "slice_np_vectorized",
    "mcmc_sampler.num_chains": 20,
    "mcmc_sampler.thin": 5,
    "compression_input.use_compression": False,
    "compression_input.rescale": "component",
    "compression_input.allow_pickle": False,
    "training_data_loader.normalize": False,
    "training_data_loader.standardize": True,
    "training_data_loader.num_sim": 1000,
    "test_data_loader.testing": False,
    "test_data_loader.num_sim": 10,
    "trainer.type": "snpe",
    "trainer.num_rounds": 1,
    "trainer.validation_fraction": 0.1,
    "trainer.batch_size": 8,
    "trainer.lr": 5e-4,
    "trainer.stop_after_epochs": 20,
    "trainer.clip_max_norm": 5.0,
    "trainer.ensemble": False,
    "trainer.size_ensemble": 5,
    "trainer.truncated_prior": False,
    "trainer.retrain_from_scratch": False,
    "trainer.sir": True,
    "trainer.truncation_region": "density",
    "trainer.sir_candidates": 1024,
    "trainer.append_simulations": False,
    "trainer.plot_proposal": False,
    "trainer.num_posterior_samples": 50_000,
    "trainer.min_success_fraction": 0.9,
    "resume_training.resume": False,
    "infer.sim_dataset": False,
    "infer.compute_coverage": True,
    "simulator.type": "pulsar",
}


def parse(document: dict[str, Any], **changes: Any) -> SbiConfig:
    return SbiConfig.parse(changed(document, changes))


def at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(("path", "value"), DEFAULTS_A12.items())
def test_documented_defaults_A12(path: str, value: Any) -> None:
    found = at(parse(GIVEN), path)
    assert found == value
    assert type(found) is type(value)


def test_tutorial_D2_parses_to_what_it_says() -> None:
    config = SbiConfig.parse(TUTORIAL)
    for path, value in DEFAULTS_A12.items():
        if path not in ("n_gpu", "workers_dask", "training_data_loader.num_sim"):
            assert at(config, path) == value
    assert config.training_data_loader.filter_labels == (15, 16)
    assert config.prior_ranges.high == (14.0, -0.3)
    assert config.compression_input.cnn_model_path is None
    assert config.resume_training.save_dir is None
    assert config.trainer.save_dir == Path("tutorial/output")


def test_every_documented_field_of_the_tutorial_is_kept() -> None:
    resolved = SbiConfig.parse(TUTORIAL).resolved()

    def leaves(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in block.items():
            inner = isinstance(value, dict)
            flat |= leaves(value, f"{prefix}{key}.") if inner else {prefix + key: value}
        return flat

    kept = leaves(resolved)
    for path, value in leaves(TUTORIAL).items():
        expected = None if value == "" else value
        assert kept[path] == expected, path


@pytest.mark.parametrize(
    "document", [GIVEN, SIMULATED, TUTORIAL], ids=["given", "sim", "tutorial"]
)
def test_resolved_configuration_is_json_and_parses_to_itself(document: dict[str, Any]) -> None:
    resolved = SbiConfig.parse(document).resolved()
    again = SbiConfig.parse(json.loads(json.dumps(resolved)))
    assert json.dumps(again.resolved()) == json.dumps(resolved)


def test_resolved_keeps_a_resolution_that_the_input_shape_asked_for() -> None:
    config = parse(SIMULATED, **{"arch.args.input_shape": [3, 64, 64]})
    assert config.generator.resolution_ppdot == 32
    assert config.map_generator.resolution_ppdot == 64
    again = SbiConfig.parse(json.loads(json.dumps(config.resolved())))
    assert again.map_generator == config.map_generator


def test_sky_maps_take_their_resolution_from_the_generator() -> None:
    config = parse(
        SIMULATED,
        **{
            "training_data_loader.filter_inputs": [0, 1, 2],
            "arch.args.input_shape": [3, 64, 32],
            "generator.resolution_dyn": 64,
        },
    )
    assert config.map_generator.sky_shape == (64, 32)
    assert config.map_generator.resolution_ppdot == 32


def test_configuration_is_immutable() -> None:
    config = parse(GIVEN)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]


def test_n_workers_is_another_name_of_workers_dask_D6() -> None:
    assert parse(GIVEN, n_workers=7).workers_dask == 7
    assert parse(GIVEN, workers_dask=7).workers_dask == 7


def test_input_names_lose_the_prefix_of_the_csv_header() -> None:
    names = [f"input:survey_{s}_ppdot_map" for s in ("PMPS", "SMPS", "HTRU")]
    config = parse(SIMULATED, **{"training_data_loader.filter_inputs": names})
    assert config.training_data_loader.filter_inputs == SURVEY_CHANNELS[9:12]


def test_names_and_positions_of_one_channel_are_the_same_channel() -> None:
    by_name = parse(
        SIMULATED, **{"training_data_loader.filter_inputs": list(SURVEY_CHANNELS[9:12])}
    )
    by_position = parse(SIMULATED)
    assert ExperimentFacts(by_name).selected == ExperimentFacts(by_position).selected


def test_channels_of_a_simulated_population_are_those_of_the_maps() -> None:
    assert ExperimentFacts(parse(SIMULATED)).channels == SURVEY_CHANNELS


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("data/test_dataset/generated_dataset", "data/test_dataset"),
        ("data/training_dataset", "data/training_dataset"),
    ],
)
def test_dataset_root_D7(path: str, root: str) -> None:
    assert dataset_root(Path(path)) == Path(root)


def test_vectors_need_no_embedding_and_no_filter() -> None:
    config = parse(
        {k: v for k, v in SIMULATED.items() if k != "dyn_data_loader"},
        **{
            "arch": None,
            "training_data_loader.filter_inputs": None,
            "simulator": {"type": "gaussian_linear", "args": {"scale": 1.0}},
        },
    )
    assert config.arch is None
    assert config.z_score_x == "independent"


def test_maps_are_not_standardized_again_B2() -> None:
    assert parse(GIVEN).z_score_x == "none"
    explicit = parse(GIVEN, **{"density_estimator.args.z_score_x": "structured"})
    assert explicit.z_score_x == "structured"


def test_snle_with_compression_sees_vectors() -> None:
    config = parse(
        GIVEN,
        **{
            "trainer.type": "snle",
            "compression_input": {"use_compression": True, "cnn_model_path": "cnn.pt"},
        },
    )
    assert config.z_score_x == "independent"


def test_a_class_of_ones_own_takes_its_own_arguments() -> None:
    config = parse(GIVEN, arch={"type": "nets.mine:Net", "args": {"depth": 3}})
    assert config.arch is not None
    assert config.arch.is_custom
    assert config.arch.arguments() == {"depth": 3}


def test_a_documented_network_takes_all_arguments() -> None:
    arch = parse(GIVEN).arch
    assert arch is not None
    assert arch.arguments() == {
        "input_shape": (3, 32, 32),
        "len_output_layer": 32,
        "layout": "documented",
        "filters": None,
        "final_activation": "relu",
    }


@pytest.mark.parametrize(
    ("trainer", "sampler"),
    [
        ({}, "sir"),
        ({"sir": False}, "rejection"),
        ({"truncation_sampler": "box"}, "box"),
        ({"sir": False, "truncation_sampler": "box"}, "box"),
        ({"truncation_sampler": "rejection"}, "rejection"),
    ],
)
def test_sir_names_the_sampler_of_the_truncated_prior_B4(
    trainer: dict[str, Any], sampler: str
) -> None:
    assert parse(GIVEN, trainer=trainer).trainer.sampler == sampler


def test_members_of_a_round() -> None:
    assert parse(GIVEN, trainer={"size_ensemble": 3}).trainer.members == 1
    assert parse(GIVEN, trainer={"size_ensemble": 3, "ensemble": True}).trainer.members == 3


def test_root_seed_is_manual_only_when_asked_for() -> None:
    assert parse(GIVEN).root_seed is None
    assert parse(GIVEN, set_manual_seed=True, manual_seed=7).root_seed == 7


@pytest.mark.parametrize(
    ("loader", "mode"),
    [
        ({}, "standardize"),
        ({"normalize": True, "standardize": False}, "normalize"),
        ({"standardize": False, "statistic_path": None}, "none"),
    ],
)
def test_scaling_mode(loader: dict[str, Any], mode: str) -> None:
    changes = {f"training_data_loader.{key}": value for key, value in loader.items()}
    assert parse(GIVEN, **changes).training_data_loader.scaling == mode


def test_num_components_is_ignored_for_maf() -> None:
    estimator = {"type": "maf", "args": {"num_components": 3}}
    assert parse(GIVEN, density_estimator=estimator).density_estimator.unused == (
        "num_components",
        "num_bins",
    )


def test_appending_is_allowed_with_a_truncated_prior_S22() -> None:
    config = parse(
        GIVEN,
        **{
            "trainer": {"num_rounds": 2, "append_simulations": True, "truncated_prior": True},
            "dyn_data_loader.dataset_path": "dyn",
        },
    )
    assert config.trainer.append_simulations


def test_positions_in_a_given_set_are_not_those_of_simulated_maps_C12() -> None:
    """Later rounds are simulated, but the header that the positions count in is the user's."""
    config = parse(
        GIVEN,
        **{
            "training_data_loader.filter_inputs": [0, 1, 2],
            "training_data_loader.filter_labels": [3, 4],
            "arch.args.input_shape": [3, 64, 64],
            "trainer": {"num_rounds": 2, "truncated_prior": True},
            "dyn_data_loader.dataset_path": "dyn",
        },
    )
    facts = ExperimentFacts(config)
    assert facts.simulates
    assert facts.selects_unseen
    assert facts.selected == ()
    assert config.map_generator.resolution_ppdot == 64


@pytest.mark.parametrize("method", ["snpe", "snle", "snre"])
@pytest.mark.parametrize("compression", ["cnn", "pca"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_methods_go_with_compression_rounds_and_ensembles_S01_S09_S14(
    method: str, compression: str, rounds: int
) -> None:
    config = parse(
        SIMULATED,
        **{
            "trainer": {
                "type": method,
                "num_rounds": rounds,
                "ensemble": True,
                "truncated_prior": True,
                "append_simulations": True,
            },
            "compression_input": {
                "use_compression": True,
                "compression_type": compression,
                "fit": True,
            },
        },
    )
    assert (config.trainer.type, config.trainer.num_rounds) == (method, rounds)
    assert config.trainer.members == 5
    assert config.z_score_x == "independent"


def test_every_experiment_of_the_issue_is_there() -> None:
    files = {path.stem: read_json(path) for path in EXPERIMENTS.glob("*.json")}
    for method in ("snle", "snre"):
        for compression in ("pca", "cnn"):
            config = SbiConfig.parse(files[f"{method}_{compression}"])
            assert config.trainer.type == method
            assert config.compression_input.compression_type == compression
            assert config.compression_input.fit
    assert SbiConfig.parse(files["npe"]).trainer.num_rounds == 1
    tsnpe = SbiConfig.parse(files["tsnpe"]).trainer
    assert (tsnpe.members, tsnpe.num_rounds, tsnpe.truncated_prior) == (5, 3, True)
    snpe_c = SbiConfig.parse(files["snpe_c"]).trainer
    assert (snpe_c.num_rounds, snpe_c.truncated_prior) == (2, False)
    for name in ("gaussian_linear", "two_moons"):
        config = SbiConfig.parse(files[name])
        assert config.simulator.type == name
        assert config.arch is None


def test_schema_describes_every_field_of_the_file() -> None:
    found = schema_of("sbi")
    assert found["$schema"].startswith("https://json-schema.org/")
    assert set(found["properties"]) == set(SbiConfig.model_fields)
    trainer = found["$defs"]["TrainerConfig"]["properties"]
    assert trainer["lr"]["description"] == "Learning rate of Adam."
    assert trainer["type"]["enum"] == ["snpe", "snle", "snre"]
    assert trainer["lr"]["exclusiveMinimum"] == 0
    assert set(found["required"]) == {"prior_ranges", "training_data_loader", "observed_sample"}
    json.dumps(found)


@pytest.mark.parametrize("name", ["main", "atnf", "smoke"])
def test_shipped_experiment_parses(name: str) -> None:
    config = SbiConfig.parse(read_json(EXPERIMENTS / f"{name}.json"))
    assert config.name == name
    assert config.root_seed == 42
    assert config.trainer.members == 2
    assert config.test_data_loader.testing


def test_shipped_experiments_that_simulate_run_on_dask_on_every_core() -> None:
    files = {path.stem: read_json(path) for path in EXPERIMENTS.glob("*.json")}
    simulating = {
        name: SbiConfig.parse(values) for name, values in files.items() if "prior_ranges" in values
    }
    assert {"main", "atnf", "smoke", "tsnpe", "two_moons"} <= simulating.keys()
    for name, config in simulating.items():
        assert (config.enable_dask, config.workers_dask) == (True, None), name
        assert config.compute.cluster == "local", name
    assert files["simulate"]["compute"]["enable_dask"]
    assert files["study"]["enable_dask"]


def test_atnf_differs_from_main_only_in_what_is_simulated_and_observed() -> None:
    main, atnf = (read_json(EXPERIMENTS / f"{name}.json") for name in ("main", "atnf"))
    different = {key for key in atnf if main.get(key) != atnf[key]}
    assert different == {"name", "observed_sample", "simulator", "generator"}
    assert main.keys() <= atnf.keys()


def test_main_has_the_priors_of_simulator_9_2() -> None:
    prior = SbiConfig.parse(read_json(EXPERIMENTS / "main.json")).prior_ranges
    ranges = {
        label: edges for label, *edges in zip(prior.labels, prior.low, prior.high, strict=True)
    }
    assert ranges == {
        "B_initial_log10_mean": [12.0, 14.0],
        "B_initial_log10_sigma": [0.1, 1.0],
        "P_initial_log10_mean": [-1.5, -0.3],
        "P_initial_log10_sigma": [0.1, 1.0],
    }


def test_atnf_reads_what_observe_writes_with_the_same_maps() -> None:
    observe = ObserveConfig.parse(read_json(EXPERIMENTS / "observe.json"))
    config = SbiConfig.parse(read_json(EXPERIMENTS / "atnf.json"))
    assert config.observed_sample.dataset_path == observe.save_dir
    assert config.map_generator.ppdot_shape == observe.generator.ppdot_shape
    assert observe.generator.smoothing_sigma == config.map_generator.smoothing_sigma
    # observe notes the number of its flux maps, and the experiment takes it from observed.json
    assert "flux_subsample" not in observe.generator.model_fields_set
    observed = config.simulator.pulsar.population.observed
    assert observed is not None
    assert config.map_generator.flux_subsample == observed.fluxes


@pytest.mark.parametrize(
    ("num_sim", "fraction", "refused"),
    [(20, 0.1, False), (14, 0.1, True), (10, 0.1, True), (10, 0.2, False), (10, 0.85, False)]
    + [(10, 0.9, True), (3, 0.5, True), (4, 0.5, False)],
)
@pytest.mark.parametrize("method", ["snre", "snpe", "snle"])
def test_too_few_rows_for_a_loss_that_compares_are_refused_before_the_start(
    num_sim: int, fraction: float, refused: bool, method: str
) -> None:
    """One row to validate with is enough for a likelihood, not to tell theta apart."""
    changes = {
        "arch": None,
        "simulator": {"type": "gaussian_linear"},
        "training_data_loader.filter_inputs": None,
        "training_data_loader.num_sim": num_sim,
        "trainer.validation_fraction": fraction,
        "trainer.type": method,
        "trainer.num_rounds": 2,
    }
    values = changed(SIMULATED, changes)
    if refused and method != "snle":
        with pytest.raises(ConfigError, match=r"trainer\.validation_fraction: .*at least 2 of b"):
            SbiConfig.parse(values)
    else:
        SbiConfig.parse(values)
    truncated = changed(values, {"trainer.truncated_prior": True, "trainer.type": "snpe"})
    SbiConfig.parse(truncated)


@pytest.mark.parametrize(
    ("compression", "has_effect"),
    [
        ({"use_compression": False}, True),
        ({"use_compression": True, "compression_type": "cnn", "fit": True}, True),
        ({"use_compression": True, "compression_type": "pca", "fit": True}, False),
        ({"use_compression": True, "cnn_model_path": "member_0"}, False),
    ],
)
def test_decay_of_an_embedding_that_is_not_trained(
    compression: dict[str, Any], has_effect: bool
) -> None:
    changes = {"compression_input": compression, "trainer.embedding_weight_decay": 0.5}
    if has_effect:
        assert parse(GIVEN, **changes).trainer.embedding_weight_decay == 0.5
        return
    with pytest.raises(ConfigError, match=r"trainer\.embedding_weight_decay: means nothing"):
        parse(GIVEN, **changes)
