"""What a configuration of point estimates asks for: device, data, network, optimizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.files.regression import LoaderConfig, RegressionConfig
from mlpop.config.reading import missing_file
from mlpop.datasets.remote.mirror import localized
from mlpop.datasets.scaling import LabelScaling, Mode, read_statistics
from mlpop.errors import ConfigError, DataError
from mlpop.networks.device import network_device
from mlpop.networks.initializers import check_initializer, initialize
from mlpop.networks.registry import build, find, output_width
from mlpop.networks.rng import generator_from_seed, lend
from mlpop.regression.checkpoint import PointModel
from mlpop.regression.data import PointSet, Selection, load_set
from mlpop.regression.evaluation import Judge
from mlpop.regression.learner import Epoch, PointLearner
from mlpop.regression.losses import Loss, build_loss
from mlpop.regression.maps import Kind, read_index
from mlpop.regression.metrics import build_metric
from mlpop.regression.optimizers import build_optimizer, build_scheduler
from mlpop.training.loop import Training

KINDS: dict[str, Kind] = {
    "LoaderMultichannelArray": "array",
    "LoaderMultichannelImage": "image",
    "LoaderRGBImage": "rgb",
}

DATA_FILES = ("dataset_path", "statistic_path")

FIRST_WEIGHTS, ORDER = 0, 1
"""Streams of random bits of a trial: seed (trial, stream)."""


@dataclass(frozen=True)
class Problem:
    """What all trials share.

    Attributes:
        config: the launch.
        root_seed: of all trials.
        device: where to compute.
        train: the training set.
        valid: the validation set, None without one.
        scaling: of the labels.
        loss: per label.
        label_std: (D,) standard deviations of the training labels.
    """

    config: RegressionConfig
    root_seed: int
    device: torch.device
    train: PointSet
    valid: PointSet | None
    scaling: LabelScaling
    loss: Loss
    label_std: tuple[float, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.scaling.labels

    @property
    def arch_args(self) -> dict[str, Any]:
        """Arguments of the network: as many outputs as the loss needs."""
        return network_args(self.config, self.loss, len(self.labels))

    def judge(self) -> Judge:
        """Return losses and metric.

        Raises:
            ConfigError: the metric does not fit the task.
        """
        name = self.config.metric.type
        metric = build_metric(name, self.config.metric.args, self.loss.task, self.label_std)
        key = name.rpartition(":")[2]
        return Judge(self.loss, metric, key, self.scaling, self.device)

    def training(self, trial: int) -> Training[Epoch]:
        """Return a fresh training: new network, first weights, optimizer and scheduler.

        Args:
            trial: from 1.

        Raises:
            ConfigError: a part is unknown, or does not fit the others.
        """
        config = self.config
        first, order = (
            torch_seed(seed_sequence(self.root_seed, Purpose.REGRESSION, trial, stream))
            for stream in (FIRST_WEIGHTS, ORDER)
        )
        generator = generator_from_seed(first)
        with lend(generator):
            network = build(config.arch.type, self.arch_args)
        check_outputs(network, self.train.shape, self.loss.output_width(len(self.labels)))
        initialize(
            network,
            config.weights_initializer.type,
            generator,
            include_conv=config.weights_initializer.args.include_conv,
        )
        network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = build_optimizer(
            config.optimizer.type, config.optimizer.args, network.parameters()
        )
        scheduler = None
        if config.lr_scheduler is not None:
            scheduler = build_scheduler(
                config.lr_scheduler.type, config.lr_scheduler.args, optimizer
            )
        assert config.training_data_loader is not None
        loader = config.training_data_loader.args
        learner = PointLearner(
            network,
            self.train,
            self.valid,
            self.judge(),
            optimizer,
            scheduler,
            batch_size=loader.batch_size,
            shuffle=loader.shuffle,
            monitor=config.trainer.monitor,
        )
        return Training(learner, generator_from_seed(order), config.trainer)

    def model(self, weights: dict[str, torch.Tensor], epoch: int, monitor: float) -> PointModel:
        """Return weights with all that is needed to predict with them."""
        loader = self.config.training_data_loader
        assert loader is not None
        return PointModel(
            arch=self.config.arch.type,
            arch_args=self.arch_args,
            loss=self.config.loss.type,
            loss_args=self.config.loss.args,
            labels=self.labels,
            channels=self.train.channels,
            shape=self.train.shape,
            kind=KINDS[loader.type],
            input_scaling=input_scaling(loader),
            scaling=self.scaling,
            config=self.config.model_dump_json(),
            weights=weights,
            epoch=epoch,
            monitor_best=monitor,
        )


def pose(config: RegressionConfig, root_seed: int) -> Problem:
    """Load what the trials share, and refuse at once what could not be trained.

    Raises:
        ConfigError: a part of the configuration is missing, unknown or does not fit the data.
        DataError: a dataset is broken.
    """
    loader = config.training_data_loader
    if loader is None:
        raise ConfigError("training_data_loader: is required by train-nn")
    find(config.arch.type)
    check_initializer(config.weights_initializer.type)
    loss = build_loss(config.loss.type, config.loss.args)
    _check_files(config)
    train = load(loader, label_mode(loader, loss))
    scaling = scaling_for(loader, label_mode(loader, loss))(train.labels)
    valid = None
    if config.validation_data_loader is not None:
        valid = load(config.validation_data_loader, label_mode(loader, loss))
        check_same_columns(valid, train.channels, train.labels, "validation_data_loader")
    for data in (train, valid):
        if data is not None:
            check_data(config, data, loss)
    device = network_device(config.n_gpu)
    for data in (train, valid):
        if data is not None:
            data.to(device)
    std = tuple(float(s) for s in np.std(train.theta, axis=0))
    problem = Problem(config, root_seed, device, train, valid, scaling, loss, std)
    problem.training(1)
    return problem


def _check_files(config: RegressionConfig) -> None:
    """Refuse a dataset that is not there, before anything of it is read.

    Raises:
        DataError: naming the field.
    """
    for block in ("training_data_loader", "validation_data_loader"):
        loader = getattr(config, block)
        if loader is None:
            continue
        fields = ("dataset_path",) if loader.args.scaling == "none" else DATA_FILES
        for field in fields:
            path = getattr(loader.args, field)
            if isinstance(path, Path) and not path.exists():
                raise DataError(
                    f"{block}.args.{field}: {missing_file(path)}; `mlpop simulate` makes datasets "
                    "with their statistics"
                )


def label_mode(loader: LoaderConfig, loss: Loss) -> Mode:
    """Return how labels are scaled: classes are not."""
    return "none" if loss.task == "class" else loader.args.scaling


def input_scaling(loader: LoaderConfig) -> Mode:
    """Return how maps are scaled: pictures are not."""
    return loader.args.scaling if loader.type == "LoaderMultichannelArray" else "none"


def scaling_for(loader: LoaderConfig, mode: Mode) -> Callable[[tuple[str, ...]], LabelScaling]:
    """Return what scales labels, from the statistics of the loader.

    Raises:
        DataError: the statistics are missing or broken.
    """
    if mode == "none":
        return partial(LabelScaling, mode, {})
    assert loader.args.statistic_path is not None
    return partial(LabelScaling, mode, read_statistics(localized(loader.args.statistic_path)))


def load(loader: LoaderConfig, mode: Mode, scaling: LabelScaling | None = None) -> PointSet:
    """Load the dataset of a loader.

    Args:
        loader: which data.
        mode: how its labels are scaled.
        scaling: use this one instead of that of the loader's statistics.

    Raises:
        DataError: the dataset is missing or broken.
    """
    return load_set(
        localized(loader.args.dataset_path),
        selection(loader),
        scaling or scaling_for(loader, mode),
        cache_mb=loader.args.cache_mb,
        num_workers=loader.args.num_workers,
    )


def selection(loader: LoaderConfig) -> Selection:
    """Return what a loader reads."""
    return Selection(
        kind=KINDS[loader.type],
        filter_inputs=loader.filter_inputs,
        filter_labels=loader.filter_labels,
        input_scaling=input_scaling(loader),
        resize=loader.args.resize,
    )


def label_names(config: RegressionConfig) -> tuple[str, ...]:
    """Return the names of the labels of the training set, from its header.

    Raises:
        ConfigError: there is no training set.
        DataError: its index file is broken.
    """
    loader = config.training_data_loader
    if loader is None:
        raise ConfigError("training_data_loader: is required by train-nn")
    index = read_index(localized(loader.args.dataset_path), KINDS[loader.type])
    return index.select_labels(loader.filter_labels)


def check_data(config: RegressionConfig, data: PointSet, loss: Loss) -> None:
    """Refuse data that do not fit network and loss.

    Raises:
        ConfigError: other shape, or another number of labels, than configured.
        DataError: values that the loss does not allow.
    """
    expected = config.arch.arguments().get("input_shape")
    if expected is not None and data.shape != tuple(expected):
        raise ConfigError(
            f"arch.args.input_shape: is {list(expected)}, but {data.source} holds maps of shape "
            f"{list(data.shape)}; set it to that, or choose other filter_inputs"
        )
    count = config.arch.args.num_parameters
    if len(data.labels) != count:
        raise ConfigError(
            f"arch.args.num_parameters: is {count}, but {data.source} has {len(data.labels)} "
            f"labels: {', '.join(data.labels)}"
        )
    loss.check(torch.from_numpy(data.theta), data.labels)


def check_same_columns(
    data: PointSet, channels: Sequence[str], labels: Sequence[str], name: str
) -> None:
    """Refuse data whose columns have other names than those of the training.

    Raises:
        DataError: naming both.
    """
    for field, found, wanted in (
        ("filter_inputs", data.channels, tuple(channels)),
        ("filter_labels", data.labels, tuple(labels)),
    ):
        if found != wanted:
            raise DataError(
                f"{name}.args.{field}: selects {', '.join(found)} of {data.source}, "
                f"the training uses {', '.join(wanted)}"
            )


def network_args(config: RegressionConfig, loss: Loss, num_labels: int) -> dict[str, Any]:
    """Return the arguments of the network, with as many outputs as the loss needs."""
    args = config.arch.arguments()
    if "num_parameters" in args:
        args["num_parameters"] = loss.output_width(num_labels)
    return args


def check_outputs(network: nn.Module, shape: tuple[int, ...], wanted: int) -> None:
    """Refuse a network whose output has another length than the loss needs.

    Raises:
        ConfigError: naming both lengths.
    """
    found = output_width(network, shape)
    if found != wanted:
        raise ConfigError(
            f"arch.type: {type(network).__name__} gives {found} numbers a sample, the loss "
            f"needs {wanted}"
        )


def describe_network(network: nn.Module) -> str:
    """Return the layers of a network and the number of parameters that are trained."""
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return f"{network}\ntrainable parameters: {count}"
