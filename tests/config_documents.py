"""Raw configurations that the tests of this folder start from."""

import copy
from collections.abc import Mapping
from typing import Any

GIVEN: dict[str, Any] = {
    "prior_ranges": {
        "labels": ["B_initial_log10_mean", "P_initial_log10_mean"],
        "low": [12, -1.5],
        "high": [14, -0.3],
    },
    "training_data_loader": {
        "dataset_path_round_0": "data/training_dataset/generated_dataset/round_0",
        "statistic_path": "data/statistics_train.json",
        "filter_inputs": [9, 10, 11],
        "filter_labels": [15, 16],
    },
    "observed_sample": {"dataset_path": "data/observed"},
}
"""A dataset that exists, as in the tutorial; as little as can be said."""

SIMULATED: dict[str, Any] = {
    "prior_ranges": GIVEN["prior_ranges"],
    "training_data_loader": {"simulate": True, "filter_inputs": [9, 10, 11]},
    "observed_sample": {
        "synthetic": {"theta": {"B_initial_log10_mean": 13.1, "P_initial_log10_mean": -0.7}}
    },
    "simulator": {"args": {"population": {"birth_rate_max": 1.0}}},
    "dyn_data_loader": {"database": {"NS_number": 300000}},
}
"""Everything simulated."""

TUTORIAL: dict[str, Any] = {
    "name": "SBI_ConvolutionMDN",
    "n_gpu": 0,
    "enable_dask": False,
    "n_processes": 4,
    "workers_dask": 4,
    "set_manual_seed": False,
    "manual_seed": 42,
    "profile_log": "profile.log",
    "profile_json": "profile.json",
    "show_profiling": True,
    "arch": {
        "type": "ModelConvSBI",
        "args": {"input_shape": [3, 32, 32], "len_output_layer": 32},
    },
    "weights_initializer": {"type": "InitializerKaiming", "args": {}},
    "density_estimator": {
        "type": "mdn",
        "args": {"hidden_features": 32, "num_components": 10, "num_transforms": 5},
        "classifier_nre": "resnet",
    },
    "mcmc_sampler": {"type": "slice_np_vectorized", "num_chains": 20, "thin": 5},
    "compression_input": {
        "use_compression": False,
        "compression_type": "cnn",
        "cnn_model_path": "",
        "pca_model_path": "",
    },
    "prior_ranges": {
        "labels": ["B_initial_log10_mean", "P_initial_log10_mean"],
        "low": [12, -1.5],
        "high": [14, -0.3],
    },
    "training_data_loader": {
        "dataset_path_round_0": "tutorial/data/training_dataset/generated_dataset/round_0",
        "dataset_path": "tutorial/data/training_dataset",
        "statistic_path": "tutorial/data/statistics_train.json",
        "filter_inputs": [9, 10, 11],
        "filter_labels": [15, 16],
        "normalize": False,
        "standardize": True,
        "num_sim": 10,
    },
    "test_data_loader": {
        "testing": False,
        "dataset_path_round_0": "tutorial/data/test_dataset/generated_dataset/round_0",
        "dataset_path": "tutorial/data/test_dataset/generated_dataset",
        "num_sim": 10,
    },
    "observed_sample": {"dataset_path": "tutorial/observed", "filter_inputs": [9, 10, 11]},
    "dyn_data_loader": {"dataset_path": "tutorial/dyn"},
    "trainer": {
        "type": "snpe",
        "num_rounds": 1,
        "save_dir": "tutorial/output",
        "validation_fraction": 0.1,
        "batch_size": 8,
        "lr": 5e-4,
        "ensemble": False,
        "size_ensemble": 5,
        "truncated_prior": False,
        "retrain_from_scratch": False,
        "sir": True,
        "append_simulations": False,
        "plot_proposal": False,
    },
    "resume_training": {"resume": False, "last_round": 0, "save_dir": "", "log_dir": ""},
    "infer": {
        "sim_dataset": False,
        "compute_coverage": True,
        "load_dir": "tutorial/output/models/SBI_ConvolutionMDN/20240101_000000",
        "save_dir": "tutorial/inference",
    },
}
"""Tutorial 08, every documented field."""


def changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `document` with every `dotted.path` of `changes` set."""
    result = copy.deepcopy(dict(document))
    for path, value in changes.items():
        *parents, last = path.split(".")
        block = result
        for name in parents:
            block = block.setdefault(name, {})
        block[last] = value
    return result
