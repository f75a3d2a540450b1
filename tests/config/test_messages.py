"""Wrong configurations: the field, what was found, what is allowed, nothing else."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from config_documents import GIVEN, SIMULATED, changed

from mlpop.commands.configuration import of_command, parsed, raw_values
from mlpop.config.base import apply_overrides, read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.messages import nearest, one_of, show
from mlpop.errors import ConfigError

ROOT = Path(__file__).parents[2]

SIX = [9, 10, 11, 12, 13, 14]

UNKNOWN = [
    ({"trainr": {}}, "trainr", ["unknown field", "did you mean 'trainer'?"]),
    ({"foo": 1}, "foo", ["unknown field", "allowed: arch, ", "workers_dask"]),
    ({"trainer.learning_rte": 1e-3}, "trainer.learning_rte", ["unknown field", "allowed:", "lr"]),
    ({"trainer.batchsize": 8}, "trainer.batchsize", ["did you mean 'batch_size'?"]),
    ({"trainer.Num_Rounds": 2}, "trainer.Num_Rounds", ["did you mean 'num_rounds'?"]),
    (
        {"training_data_loader.batch_size": 8},
        "training_data_loader.batch_size",
        ["unknown field", "did you mean 'trainer.batch_size'?"],
    ),
    ({"arch.args.inputshape": [3, 32, 32]}, "arch.args.inputshape", ["'input_shape'?"]),
    (
        {"density_estimator.args.hidden_feature": 3},
        "density_estimator.args.hidden_feature",
        ["did you mean 'hidden_features'?"],
    ),
    ({"dyn_data_loader.database": {"NS_numbr": 5}}, "dyn_data_loader.database.NS_numbr", ["'NS_"]),
    ({"generator.resolution": 32}, "generator.resolution", ["did you mean 'resolution_dyn'?"]),
    (
        {"simulator.args": {"population": {"birth_rate": 3}}},
        "simulator.args.population.birth_rate",
        ["did you mean 'birth_rate_max'?"],
    ),
]

CHOICES = [
    (
        {"arch.type": "ModelConvSBi"},
        "arch.type",
        [
            "must be one of 'ModelConvSBI', ",
            "found 'ModelConvSBi'",
            "did you mean 'ModelConvSBI'?",
        ],
    ),
    ({"arch.type": "my.module"}, "arch.type", ["'package.module:Class'", "found 'my.module'"]),
    ({"arch.args.layout": "refrence"}, "arch.args.layout", ["did you mean 'reference'?"]),
    (
        {"weights_initializer.type": "Kaiming"},
        "weights_initializer.type",
        ["one of 'InitializerKaiming', ", "did you mean 'InitializerKaiming'?"],
    ),
    (
        {"density_estimator.type": "naf"},
        "density_estimator.type",
        ["must be one of 'mdn', 'maf', 'nsf', ", "found 'naf'", "did you mean 'nsf'?"],
    ),
    (
        {"density_estimator.args.z_score_x": "indep"},
        "density_estimator.args.z_score_x",
        ["'none', 'independent', 'structured'", "found 'indep'"],
    ),
    ({"density_estimator.classifier_nre": "cnn"}, "density_estimator.classifier_nre", ["'mlp'"]),
    ({"mcmc_sampler.type": "slices"}, "mcmc_sampler.type", ["did you mean 'slice'?"]),
    ({"compression_input.rescale": 1}, "compression_input.rescale", ["'sample'", "found 1"]),
    ({"trainer.type": "npe"}, "trainer.type", ["must be one of 'snpe', 'snle', 'snre'"]),
    ({"trainer.truncation_sampler": "boxes"}, "trainer.truncation_sampler", ["mean 'box'?"]),
    ({"generator.surveys": {"PMPX": "a"}}, "generator.surveys.PMPX", ["'PMPS'", "'HTRU'"]),
    ({"simulator.type": "a b"}, "simulator.type", ["'package.module:Class'", "found 'a b'"]),
]

TYPES = [
    ({"trainer.embedding_weight_decay": -1}, "trainer.embedding_weight_decay", ["at least 0"]),
    (
        {"arch": None, "trainer.embedding_weight_decay": 0.1},
        "trainer.embedding_weight_decay",
        ["without an embedding network", "found 0.1"],
    ),
    ({"trainer.lr": "fast"}, "trainer.lr", ["must be a number, found 'fast'"]),
    ({"trainer.batch_size": 8.5}, "trainer.batch_size", ["must be an integer, found 8.5"]),
    ({"trainer.batch_size": None}, "trainer.batch_size", ["must be an integer, found null"]),
    ({"trainer.batch_size": "8"}, "trainer.batch_size", ["must be an integer, found '8'"]),
    ({"trainer.ensemble": "yes"}, "trainer.ensemble", ["must be true or false, found 'yes'"]),
    ({"trainer.ensemble": 1}, "trainer.ensemble", ["must be true or false, found 1"]),
    ({"manual_seed": True}, "manual_seed", ["must be an integer, found true"]),
    ({"trainer": [1]}, "trainer", ["must be an object, found [1]"]),
    ({"arch": "ModelConvSBI"}, "arch", ["must be an object, found 'ModelConvSBI'"]),
    ({"trainer.save_dir": 3}, "trainer.save_dir", ["must be a path, found 3"]),
    ({"trainer.save_dir": ""}, "trainer.save_dir", ["must be a path, found ''"]),
    ({"arch.args.input_shape": "3,32,32"}, "arch.args.input_shape", ["must be a list"]),
    ({"arch.args.input_shape": [3]}, "arch.args.input_shape", ["must have 3 entries, found [3]"]),
    ({"arch.args.input_shape": [3, 32, 32, 1]}, "arch.args.input_shape", ["at most 3 entries"]),
    ({"arch.args.input_shape": [3, 32, "a"]}, "arch.args.input_shape[2]", ["must be an integer"]),
    (
        {"training_data_loader.filter_inputs": [9, 10, 1.5]},
        "training_data_loader.filter_inputs[2]",
        ["must be an integer or a string, found 1.5"],
    ),
    (
        {"training_data_loader.filter_inputs": 9},
        "training_data_loader.filter_inputs",
        ["must be a list, found 9"],
    ),
    ({"prior_ranges.labels": "B"}, "prior_ranges.labels", ["must be a list, found 'B'"]),
    ({"prior_ranges.low": [12, "x"]}, "prior_ranges.low[1]", ["must be a number, found 'x'"]),
    ({"prior_ranges": {"labels": ["a"], "low": [1]}}, "prior_ranges.high", ["is required"]),
    ({"name": "a/b"}, "name", ["single file or folder name, found 'a/b'"]),
    ({"name": ".."}, "name", ["single file or folder name"]),
]

RANGES = [
    ({"trainer.lr": -1.0}, "trainer.lr", ["must be greater than 0, found -1.0"]),
    ({"trainer.lr": float("nan")}, "trainer.lr", ["must be a finite number, found NaN"]),
    ({"trainer.lr": float("inf")}, "trainer.lr", ["must be a finite number"]),
    ({"trainer.num_rounds": 0}, "trainer.num_rounds", ["must be at least 1, found 0"]),
    ({"trainer.validation_fraction": 1}, "trainer.validation_fraction", ["less than 1, found 1"]),
    ({"trainer.validation_fraction": 0}, "trainer.validation_fraction", ["greater than 0"]),
    ({"trainer.size_ensemble": 0}, "trainer.size_ensemble", ["at least 1"]),
    ({"trainer.min_success_fraction": 1.5}, "trainer.min_success_fraction", ["at most 1"]),
    ({"trainer.sir_candidates": 1}, "trainer.sir_candidates", ["at least 2"]),
    ({"n_gpu": -1}, "n_gpu", ["must be at least 0, found -1"]),
    ({"n_processes": 0}, "n_processes", ["must be at least 1"]),
    ({"n_workers": 0}, "n_workers", ["must be at least 1"]),
    ({"mcmc_sampler.thin": -2}, "mcmc_sampler.thin", ["at least 1", "found -2"]),
    ({"mcmc_sampler.thin": 0}, "mcmc_sampler.thin", ["at least 1", "found 0"]),
    ({"arch.args.input_shape": [3, 0, 32]}, "arch.args.input_shape[1]", ["at least 1, found 0"]),
    (
        {"arch.type": "ModelConvSBIdeep", "arch.args.input_shape": [3, 15, 32]},
        "arch.args.input_shape",
        ["15 x 32", "4 poolings", "at least 16"],
    ),
    (
        {"training_data_loader.filter_inputs": [9, 10, -1]},
        "training_data_loader.filter_inputs[2]",
        ["must be at least 0, found -1"],
    ),
    ({"generator.resolution_dyn": 31}, "generator.resolution_dyn", ["multiple of 2, found 31"]),
    ({"compute.max_attempts": 0}, "compute.max_attempts", ["at least 1"]),
]

CONTRADICTIONS = [
    ({"prior_ranges.low": [12]}, "prior_ranges.low", ["one entry a label (2), found 1"]),
    ({"prior_ranges.high": [14, 0, 1]}, "prior_ranges.high", ["one entry a label (2), found 3"]),
    (
        {"prior_ranges.low": [15, -1.5]},
        "prior_ranges.low[0]",
        ["less than high[0] = 14.0", "B_initial_log10_mean", "found 15.0"],
    ),
    ({"prior_ranges.low": [14, -1.5]}, "prior_ranges.low[0]", ["less than high[0]"]),
    (
        {"prior_ranges.labels": ["a", "a"]},
        "prior_ranges.labels[1]",
        ["must be unique, found 'a' again"],
    ),
    (
        {"training_data_loader.normalize": True},
        "training_data_loader.normalize",
        ["must be false when standardize is true"],
    ),
    (
        {"training_data_loader.filter_inputs": SIX},
        "training_data_loader.filter_inputs",
        ["arch.args.input_shape (3), found 6"],
    ),
    (
        {"training_data_loader.filter_inputs": None},
        "training_data_loader.filter_inputs",
        ["is required", "3 channels"],
    ),
    (
        {"training_data_loader.filter_inputs": [9, 10, "survey_HTRU_ppdot_map"]},
        "training_data_loader.filter_inputs",
        ["all positions or all names"],
    ),
    (
        {"training_data_loader.filter_inputs": [9, 9, 10]},
        "training_data_loader.filter_inputs",
        ["a column twice, found 9 again"],
    ),
    (
        {"training_data_loader.filter_labels": [15]},
        "training_data_loader.filter_labels",
        ["prior_ranges.labels (2), found 1"],
    ),
    (
        {
            "training_data_loader.filter_labels": [
                "P_initial_log10_mean",
                "B_initial_log10_mean",
            ]
        },
        "training_data_loader.filter_labels",
        ["must be prior_ranges.labels ['B_initial_log10_mean', 'P_initial_log10_mean']"],
    ),
    (
        {"training_data_loader.filter_labels": [9, 16]},
        "training_data_loader.filter_labels[0]",
        ["must not be an input column too, found 9"],
    ),
    (
        {"training_data_loader.dataset_path_round_0": None},
        "training_data_loader.dataset_path_round_0",
        ["is required unless simulate is true"],
    ),
    (
        {"training_data_loader.statistic_path": ""},
        "training_data_loader.statistic_path",
        ["is required when standardize is true"],
    ),
    (
        {"test_data_loader.testing": True},
        "test_data_loader.dataset_path_round_0",
        ["is required when testing is true"],
    ),
    (
        {"observed_sample.filter_inputs": [9, 10, 12]},
        "observed_sample.filter_inputs",
        ["must be training_data_loader.filter_inputs [9, 10, 11], found [9, 10, 12]"],
    ),
    (
        {"observed_sample.filter_inputs": ["survey_PMPS_ppdot_map"]},
        "observed_sample.filter_inputs",
        ["as many entries", "(3), found 1"],
    ),
    (
        {"observed_sample": {}},
        "observed_sample",
        ["exactly one of dataset_path, path, synthetic, found none"],
    ),
    (
        {"observed_sample.path": "x.npy"},
        "observed_sample",
        ["exactly one of", "found dataset_path and path"],
    ),
    ({"observed_sample": {"path": "x.npz"}}, "observed_sample.path", ["must be a .npy file"]),
    (
        {"trainer.type": "snle"},
        "compression_input.use_compression",
        ["must be true when trainer.type is 'snle'"],
    ),
    (
        {"trainer.type": "snre"},
        "compression_input.use_compression",
        ["must be true when trainer.type is 'snre'"],
    ),
    (
        {"compression_input.use_compression": True, "compression_input.compression_type": "pca"},
        "compression_input.pca_model_path",
        ["is required when compression_type is 'pca'"],
    ),
    (
        {
            "trainer.num_rounds": 2,
            "trainer.append_simulations": True,
            "dyn_data_loader.dataset_path": "dyn",
        },
        "trainer.append_simulations",
        ["must be false for snpe", "truncated_prior"],
    ),
    (
        {"trainer.num_rounds": 2},
        "dyn_data_loader",
        ["must have dataset_path or database"],
    ),
    (
        {"trainer.sir": False, "trainer.truncation_sampler": "sir"},
        "trainer.truncation_sampler",
        ["is 'sir', but sir is false"],
    ),
    (
        {
            "resume_training": {
                "resume": True,
                "last_round": 1,
                "save_dir": "models",
                "log_dir": "logs",
            }
        },
        "resume_training.last_round",
        ["at most 0", "nothing to resume", "found 1"],
    ),
    (
        {"resume_training": {"resume": True, "last_round": 0, "save_dir": "a", "log_dir": ""}},
        "resume_training.log_dir",
        ["is required when resume is true"],
    ),
    (
        {"n_workers": 2, "workers_dask": 2},
        "n_workers",
        ["another name of workers_dask"],
    ),
    (
        {"arch.type": "mine.nets:Net", "arch.args": {"depth": 3, "len_output_layer": 0}},
        "arch.args.len_output_layer",
        ["at least 1"],
    ),
]

SNLE = {
    "trainer.type": "snle",
    "compression_input": {"use_compression": True, "compression_type": "pca", "fit": True},
}

METHODS = [
    ({"trainer.type": "nle"}, "trainer.type", ["'snpe', 'snle', 'snre', found 'nle'"]),
    (
        {"density_estimator.classifier_nre": "resnt"},
        "density_estimator.classifier_nre",
        ["'linear', 'mlp', 'resnet'", "did you mean 'resnet'?"],
    ),
    (
        {"density_estimator.args.num_bins": 1},
        "density_estimator.args.num_bins",
        ["must be at least 2, found 1"],
    ),
    ({"trainer.num_atoms": 1}, "trainer.num_atoms", ["must be at least 2, found 1"]),
    ({"mcmc_sampler.type": "slice_np_vectorised"}, "mcmc_sampler.type", ["'slice_np_vect"]),
    ({"mcmc_sampler.num_chains": 0}, "mcmc_sampler.num_chains", ["at least 1, found 0"]),
    (
        SNLE | {"trainer.type": "snre", "trainer.batch_size": 1},
        "trainer.batch_size",
        ["must be at least 2 when trainer.type is 'snre'", "found 1"],
    ),
    (
        {"trainer.batch_size": 1, "trainer.num_rounds": 2, "dyn_data_loader.dataset_path": "d"},
        "trainer.batch_size",
        ["must be at least 2 when the posterior proposes theta", "found 1"],
    ),
    (
        {
            "trainer.num_rounds": 2,
            "trainer.truncated_prior": True,
            "training_data_loader.num_sim": 1,
            "dyn_data_loader.dataset_path": "d",
        },
        "training_data_loader.num_sim",
        ["must be at least 2", "found 1"],
    ),
    (
        {"compression_input": {"use_compression": True, "fit": True, "cnn_model_path": "a.pt"}},
        "compression_input.cnn_model_path",
        ["must be null with fit"],
    ),
    (
        {"compression_input": {"use_compression": True, "fit": True, "sha256": "0" * 64}},
        "compression_input.sha256",
        ["must be null with fit"],
    ),
    (
        {"compression_input": {"sha256": "0" * 63}},
        "compression_input.sha256",
        ["64 hexadecimal digits", "found '000"],
    ),
    (
        {"compression_input": {"num_components": 1.5}},
        "compression_input.num_components",
        ["an integer of at least 1, or a fraction between 0 and 1, found 1.5"],
    ),
    (
        {"compression_input": {"num_components": 0}},
        "compression_input.num_components",
        ["at least 1", "found 0"],
    ),
    (
        {"compression_input": {"compression_type": "autoencoder"}},
        "compression_input.compression_type",
        ["must be one of 'cnn', 'pca', found 'autoencoder'"],
    ),
    (
        {
            "arch": None,
            "training_data_loader.filter_inputs": None,
            "compression_input": {"use_compression": True, "fit": True},
        },
        "compression_input.compression_type",
        ["must be 'pca' with fit when arch is null"],
    ),
    ({"infer.num_posterior_samples": 0}, "infer.num_posterior_samples", ["at least 1, found 0"]),
    (
        {"infer.load_folder": "a"},
        "infer.load_folder",
        ["unknown field", "did you mean 'load_dir'"],
    ),
    ({"infer.compute_coverage": "no"}, "infer.compute_coverage", ["true or false, found 'no'"]),
    ({"trainer.checkpoint_seconds": -1}, "trainer.checkpoint_seconds", ["at least 0, found -1"]),
    (
        {"training_data_loader.dataset_path": "s3:/bucket"},
        "training_data_loader.dataset_path",
        ["s3://"],
    ),
    (
        {"training_data_loader.dataset_path": "s3://"},
        "training_data_loader.dataset_path",
        ["must be s3://bucket/folder, found 's3://'"],
    ),
    (
        {"compute.scheduler_address": "a", "compute.scheduler_file": "b"},
        "compute.scheduler_file",
        ["must be null if scheduler_address is given"],
    ),
    ({"compute.worker_memory": "2"}, "compute.worker_memory", ["such as '2GB', found '2'"]),
    (
        {"compute.adaptive": {"minimum": 3, "maximum": 2}},
        "compute.adaptive.maximum",
        ["must be at least minimum (3), found 2"],
    ),
    ({"compute.cluster": "htcondor"}, "compute.cluster", ["needs enable_dask true"]),
    ({"compute.cluster": "slurm"}, "compute.cluster", ["'slurm', which needs enable_dask true"]),
]

SIMULATION = [
    ({"dyn_data_loader": {}}, "dyn_data_loader", ["must have dataset_path or database"]),
    (
        {"dyn_data_loader.dataset_path": "dyn"},
        "dyn_data_loader.database",
        ["must be null when dataset_path is given"],
    ),
    (
        {"dyn_data_loader.database.NS_number": 299_999},
        "dyn_data_loader.database.NS_number",
        ["must be at least 300000", "birth_rate_max", "found 299999"],
    ),
    (
        {"training_data_loader.dataset_path_round_0": "data"},
        "training_data_loader.dataset_path_round_0",
        ["must be null when simulate is true"],
    ),
    (
        {"training_data_loader.statistic_path": "s.json"},
        "training_data_loader.statistic_path",
        ["must be null when simulate is true"],
    ),
    (
        {"test_data_loader": {"simulate": True, "dataset_path_round_0": "data"}},
        "test_data_loader.dataset_path_round_0",
        ["must be null when simulate is true"],
    ),
    (
        {"training_data_loader.num_sim": 1},
        "training_data_loader.num_sim",
        ["at least 2", "found 1"],
    ),
    (
        {"training_data_loader.filter_inputs": [9, 10, 15]},
        "training_data_loader.filter_inputs[2]",
        ["must be below 15", "found 15"],
    ),
    (
        {
            "training_data_loader.filter_inputs": [
                "survey_PMPS_ppdot_map",
                "survey_SMPS_ppdot_map",
                "survey_HTRU_ppdot_mp",
            ]
        },
        "training_data_loader.filter_inputs[2]",
        ["is no map that is simulated", "did you mean 'survey_HTRU_ppdot_map'?"],
    ),
    (
        {"training_data_loader.filter_inputs": [0, 9, 10]},
        "training_data_loader.filter_inputs",
        ["must select maps of one shape"],
    ),
    (
        {"training_data_loader.filter_inputs": [0, 1, 2]},
        "arch.args.input_shape",
        ["must be [3, 32, 16]", "resolution_dyn", "found [3, 32, 32]"],
    ),
    (
        {"generator.resolution_ppdot": 64},
        "arch.args.input_shape",
        ["must be [3, 64, 64]", "resolution_ppdot", "found [3, 32, 32]"],
    ),
    (
        {"arch.args.input_shape": [3, 32, 16]},
        "arch.args.input_shape",
        ["must be [3, 32, 32]", "square"],
    ),
    (
        {"observed_sample.synthetic.theta": {"B_initial_log10_mean": 13}},
        "observed_sample.synthetic.theta.P_initial_log10_mean",
        ["is required", "prior_ranges.labels"],
    ),
    (
        {"observed_sample.synthetic.theta.B_initial_log10_mean": 14.5},
        "observed_sample.synthetic.theta.B_initial_log10_mean",
        ["prior range [12.0, 14.0), found 14.5"],
    ),
    (
        {"observed_sample.synthetic.theta.B_initial_log10_meen": 13},
        "observed_sample.synthetic.theta.B_initial_log10_meen",
        ["did you mean 'B_initial_log10_mean'?"],
    ),
    (
        {"observed_sample.synthetic.theta.B_initial_log10_mean": "13"},
        "observed_sample.synthetic.theta.B_initial_log10_mean",
        ["must be a number, found '13'"],
    ),
    (
        {"observed_sample": {"synthetic": {"theta": {}}}},
        "observed_sample.synthetic.theta",
        ["at least 1 entry"],
    ),
    (
        {
            "prior_ranges.labels": ["h_c", "P_initial_log10_mean"],
            "observed_sample": {"dataset_path": "data"},
            "dyn_data_loader": {"dataset_path": "stars"},
        },
        "dyn_data_loader.dataset_path",
        ["'h_c'", "changes the stars"],
    ),
    (
        {
            "prior_ranges.labels": ["vk_c", "P_initial_log10_mean"],
            "observed_sample": {"dataset_path": "data"},
        },
        "prior_ranges.labels[0]",
        ["'vk_c' has no effect with", "km_maxwell", "h_c, sigma_k"],
    ),
    (
        {
            "prior_ranges.labels": ["B_initial_log10_maen", "P_initial_log10_mean"],
            "observed_sample": {"dataset_path": "data"},
        },
        "prior_ranges.labels[0]",
        ["did you mean 'B_initial_log10_mean'?"],
    ),
    (
        {
            "prior_ranges.labels": ["B_initial_log10_mean", "B_initial_log10_sigma"],
            "prior_ranges.high": [14, 1],
            "observed_sample": {"dataset_path": "data"},
        },
        "prior_ranges.low[1]",
        ["B_initial_log10_sigma must be greater than 0", "found -1.5"],
    ),
    (
        {
            "prior_ranges": {
                "labels": ["B_initial_log10_sigma"],
                "low": [None],
                "high": [None],
                "distributions": {
                    "B_initial_log10_sigma": {"type": "normal", "args": {"loc": 0.5, "scale": 0.1}}
                },
            },
            "observed_sample": {"dataset_path": "data"},
        },
        "prior_ranges.distributions.B_initial_log10_sigma",
        ["reaches -0.03, but", "must be greater than 0; 'truncated_normal' has edges"],
    ),
]

CASES = [
    (document, *case)
    for document, cases in (
        (GIVEN, UNKNOWN + CHOICES + TYPES + RANGES + CONTRADICTIONS + METHODS),
        (SIMULATED, SIMULATION),
    )
    for case in cases
]


@pytest.mark.parametrize(
    ("document", "changes", "path", "words"),
    CASES,
    ids=[f"{path}:{'+'.join(map(str, changes.values()))[:40]}" for _, changes, path, _ in CASES],
)
def test_one_mistake_is_one_line_with_its_path(
    document: Mapping[str, Any], changes: Mapping[str, Any], path: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        SbiConfig.parse(changed(document, changes), source="file.json")
    lines = str(error.value).splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"file.json: {path}: ")
    message = lines[0].removeprefix(f"file.json: {path}: ")
    for word in words:
        assert word in message
    assert not re.search(r"[Ii]nput should|type=|pydantic|Value error", message)


def test_there_are_enough_wrong_configurations() -> None:
    assert len(CASES) >= 140


def test_every_mistake_is_reported_at_once() -> None:
    wrong = changed(GIVEN, {"trainer.lr": -1, "arch.type": "x", "nme": "a", "prior_ranges.low": 3})
    with pytest.raises(ConfigError) as error:
        SbiConfig.parse(wrong)
    paths = {line.split(": ")[1] for line in str(error.value).splitlines()}
    assert paths == {"trainer.lr", "arch.type", "nme", "prior_ranges.low"}


def test_contradictions_of_several_blocks_are_reported_at_once() -> None:
    wrong = changed(
        GIVEN,
        {
            "training_data_loader.filter_inputs": SIX,
            "training_data_loader.statistic_path": None,
            "trainer.type": "snle",
        },
    )
    with pytest.raises(ConfigError) as error:
        SbiConfig.parse(wrong)
    assert [line.split(": ")[1] for line in str(error.value).splitlines()] == [
        "training_data_loader.filter_inputs",
        "training_data_loader.statistic_path",
        "compression_input.use_compression",
    ]


def test_required_blocks_are_named() -> None:
    with pytest.raises(ConfigError) as error:
        SbiConfig.parse({})
    assert str(error.value).splitlines() == [
        f"configuration: {name}: is required"
        for name in ("prior_ranges", "training_data_loader", "observed_sample")
    ]


def test_found_values_are_cut() -> None:
    assert len(show(list(range(1000)))) == 80
    assert show("a'b") == '"a\'b"'
    assert show(None) == "null"


def test_nearest_name_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("LR", ["lr", "name"]) == "lr"
    assert nearest("zzz", ["lr", "name"]) is None
    assert nearest(3, ["lr"]) is None


def test_one_of_a_single_choice() -> None:
    assert one_of("b", ["a"]) == "must be 'a', found 'b'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "field 'a' is given twice"),
        ('{"a": {"b": 1, "b": 1}}', "field 'b' is given twice"),
        ('{"a": 1,', "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        read_json(path)
    assert str(path) in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("given", ["two_moons", "two_mons.json", "experiments/two_mons.json"])
def test_a_shipped_file_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "two_moons.json").touch()
    with pytest.raises(ConfigError, match=r"did you mean 'experiments/two_moons\.json'\?$"):
        read_json(Path(given))


@pytest.mark.parametrize("given", ["experiments/nothere.json", "observ.json", "x.json"])
def test_a_file_of_another_command_or_name_is_not_suggested(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"no such file in [^;]+$"):
        raw_values(given, model=SbiConfig)


def test_a_file_of_another_command_is_told_by_its_command() -> None:
    file = ROOT / "experiments" / "observe.json"
    for read in (partial(of_command, SbiConfig, file, []), partial(parsed, SbiConfig, file)):
        with pytest.raises(ConfigError) as caught:
            read()
        assert str(caught.value) == f"{file}: is a configuration of `mlpop observe`"
    with pytest.raises(ConfigError, match="num_rounds: unknown field"):
        of_command(SbiConfig, ROOT / "experiments" / "main.json", ["num_rounds=3"])


def test_a_file_elsewhere_is_not_sought_among_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("experiments", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "experiments" / "two_moons.json").touch()
    with pytest.raises(ConfigError, match="no such file") as caught:
        read_json(Path("mine/two_mons.json"))
    assert "did you mean" not in str(caught.value)


def test_overrides_are_typed_by_the_schema() -> None:
    values = apply_overrides(
        GIVEN, ["trainer.lr=1e-3", "name=night", "arch.args.layout=reference"]
    )
    config = SbiConfig.parse(values)
    assert (config.trainer.lr, config.name) == (1e-3, "night")
    assert config.arch is not None
    assert config.arch.args.layout == "reference"
    assert "name" not in GIVEN
    with pytest.raises(ConfigError, match="trainer.lr: must be a number, found 'fast'"):
        SbiConfig.parse(apply_overrides(GIVEN, ["trainer.lr=fast"]))
