"""The configuration of point estimates: documented defaults, aliases, and what it refuses."""

import json

import pytest

from mlpop.cli.options import PACKAGED
from mlpop.config.base import read_json
from mlpop.config.files.regression import RegressionConfig, from_json
from mlpop.errors import ConfigError


def loader(**args):
    return {"args": {"dataset_path": "train.csv"} | args}


def parse(**values):
    return RegressionConfig.parse({"training_data_loader": loader()} | values, "file")


def refused(**values):
    with pytest.raises(ConfigError) as caught:
        parse(**values)
    return str(caught.value)


def test_documented_defaults_N02_N03_N04_N07_N11_N12_N14():
    config = parse()
    assert (config.name, config.n_gpu, config.trials) == ("Convolution", 0, 8)
    assert config.arch.type == "ModelConv"
    assert config.arch.args.input_shape == (3, 32, 32)
    assert config.arch.args.num_parameters == 2
    assert config.weights_initializer.type == "InitializerKaiming"
    training = config.training_data_loader
    assert training.type == "LoaderMultichannelArray"
    assert training.filter_inputs == (9, 10, 11)
    assert training.filter_labels == (15, 16)
    assert (training.args.batch_size, training.args.num_workers) == (8, 1)
    assert training.args.shuffle
    assert training.args.scaling == "none"
    assert config.optimizer.type == "Adam"
    assert config.optimizer.args == {"lr": 1e-5, "weight_decay": 0.0}
    assert (config.loss.type, config.metric.type) == ("LossMSE", "MetricAccuracyMSE")
    assert config.lr_scheduler is None
    trainer = config.trainer
    assert (trainer.epochs, trainer.save_period, trainer.verbosity) == (1024, 1000, 1)
    assert trainer.early_stop is None
    assert trainer.tensorboard
    assert trainer.monitor == "metric"


@pytest.mark.parametrize("name", ["convolution", "linear"])
def test_packaged_files_A11_N01(name):
    config = RegressionConfig.parse(read_json(PACKAGED / f"{name}.json"), name)
    linear = name == "linear"
    assert config.name == ("Linear" if linear else "Convolution")
    assert (config.trials, config.n_gpu) == (8, 0 if linear else 1)
    assert config.arch.type == ("ModelLinear" if linear else "ModelConv")
    assert config.arch.args.input_shape == (3, 32, 32)
    batches = []
    for block, csv in (("training", "train"), ("validation", "test"), ("test", "test")):
        data = getattr(config, f"{block}_data_loader")
        assert data.args.dataset_path.name == f"dataset_{csv}.csv"
        assert (data.filter_inputs, data.filter_labels) == ((9, 10, 11), (15, 16))
        assert data.args.scaling == "standardize"
        batches.append(data.args.batch_size)
    assert batches == [8, 8, 1]
    assert config.optimizer.args == {"lr": 1e-4 if linear else 1e-5, "weight_decay": 0.0}
    assert (config.loss.type, config.metric.type) == ("LossMSE", "MetricAccuracyMSE")
    assert config.lr_scheduler.type == "StepLR"
    assert config.lr_scheduler.args == {"step_size": 1024, "gamma": 0.1}
    trainer = config.trainer
    assert (trainer.epochs, trainer.save_period, trainer.early_stop) == (1024, 1000, 128)
    assert (trainer.verbosity, trainer.tensorboard) == (1, True)


def test_resolved_configuration_is_the_same_launch():
    config = RegressionConfig.parse(read_json(PACKAGED / "convolution.json"), "packaged")
    assert from_json(json.dumps(config.resolved()), "again") == config


def test_unknown_key_names_the_nearest_N01():
    assert "file: trails: unknown field; did you mean 'trials'?" in refused(trails=3)
    assert "trainer.epoch: unknown field; did you mean 'epochs'?" in refused(trainer={"epoch": 3})
    arch = {"type": "ModelConv", "args": {"hidden": [3]}}
    assert "arch.args.hidden: unknown field" in refused(arch=arch)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials": 0}, "trials: must be at least 1"),
        ({"n_gpu": -1}, "n_gpu: must be at least 0"),
        ({"name": "a/b"}, "name: must be a single file or folder name"),
        ({"trainer": {"verbosity": 3}}, "trainer.verbosity: must be one of 0, 1, 2"),
        ({"trainer": {"early_stop": 0}}, "trainer.early_stop: must be at least 1"),
        ({"trainer": {"monitor": "val"}}, "trainer.monitor: must be one of 'metric', 'loss'"),
        ({"arch": {"args": {"input_shape": [3, 32]}}}, "arch.args.input_shape: must have 3"),
    ],
)
def test_ranges_N02_N03_N14(values, message):
    assert message in refused(**values)


def test_loader_types_N07():
    wrong = loader() | {"type": "LoaderArray"}
    assert "must be one of 'LoaderMultichannelArray'" in refused(training_data_loader=wrong)


def test_both_scalings_are_refused_N09():
    both = loader(normalize=True, standardize=True, statistic_path="s.json")
    assert "normalize: must be false when standardize is true" in refused(
        training_data_loader=both
    )
    assert "statistic_path: is required when standardize" in refused(
        training_data_loader=loader(standardize=True)
    )


def test_filters_must_fit_the_network_N08():
    message = refused(training_data_loader=loader(filter_inputs=[1, 2], filter_labels=[15]))
    assert "filter_inputs: must have one entry a channel of arch.args.input_shape (3)" in message
    assert "filter_labels: must have arch.args.num_parameters (2) entries, found 1" in message
    assert "must not have a column twice" in refused(
        training_data_loader=loader(filter_inputs=[1, 2, 2])
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "LoaderMultichannelImage"}, "type"),
        ({"filter_inputs": [9, 11, 10]}, "args.filter_inputs"),
        ({"filter_labels": [16, 15]}, "args.filter_labels"),
        ({"normalize": True, "standardize": False}, "args.normalize"),
        ({"standardize": False}, "args.standardize"),
    ],
)
def test_validation_loader_must_fit_training_N10_F8(change, field):
    common = {"statistic_path": "s.json", "standardize": True}
    kind = {"type": change.pop("type")} if "type" in change else {}
    validation = kind | loader(**(common | change))
    message = refused(training_data_loader=loader(**common), validation_data_loader=validation)
    assert f"validation_data_loader.{field}: must be as in training_data_loader" in message


def test_validation_loader_may_differ_in_how_it_serves_N10():
    other = loader(batch_size=64, num_workers=3, shuffle=False)
    assert parse(validation_data_loader=other).validation_data_loader.args.batch_size == 64


def test_colour_pictures_A6():
    rgb = {"type": "LoaderRGBImage", "args": {"data_path": "rgb.csv", "ignored_inputs": [3]}}
    found = parse(training_data_loader=rgb).training_data_loader
    assert str(found.args.dataset_path) == "rgb.csv"
    assert (found.filter_inputs, found.filter_labels, found.channels) == ((0,), None, 3)
    rgb["args"]["filter_inputs"] = [0]
    assert "LoaderRGBImage reads column 0 only" in refused(training_data_loader=rgb)
    assert "belongs to LoaderRGBImage only" in refused(
        training_data_loader=loader(ignored_inputs=[3])
    )


def test_own_architecture_gets_only_what_is_given_N05():
    config = parse(arch={"type": "package.module:Net", "args": {"depth": 3}})
    assert config.arch.arguments() == {"depth": 3}
    with_channels = {"type": "package.module:Net", "args": {"input_shape": [2, 8, 8]}}
    assert "input_shape (2), found 3" in refused(arch=with_channels)
