"""The configuration of `mlpop train-nn` and `mlpop infer-nn`: neural point estimates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, ConfigDict, Field

from mlpop.config.base import StrictModel
from mlpop.config.blocks.data import InputColumns
from mlpop.config.fields import (
    Columns,
    Count,
    Few,
    Folder,
    Location,
    Name,
    Natural,
    OptionalLocation,
    OptionalPath,
)
from mlpop.config.files.sbi import FileName
from mlpop.config.messages import Problem, show, unknown
from mlpop.config.reference import Translation, point_fields

LoaderType = Literal["LoaderMultichannelArray", "LoaderMultichannelImage", "LoaderRGBImage"]

BUILT_IN: dict[str, tuple[str, ...]] = {
    "ModelConv": ("input_shape", "num_parameters"),
    "ModelLinear": ("input_shape", "num_parameters", "hidden"),
}
"""Architectures of mlpop with the names of their arguments."""


class PointArchArgs(StrictModel):
    """Arguments of the network. A class of your own may take further ones."""

    model_config = ConfigDict(extra="allow")

    input_shape: tuple[Count, Count, Count] = (3, 32, 32)
    """Channels, height, width of the maps."""
    num_parameters: Count = 2
    """Labels to predict; the loss decides how many outputs that takes."""


class PointArchConfig(StrictModel):
    """The network."""

    type: Name = "ModelConv"
    """`ModelConv`, `ModelLinear`, another registered name, or `package.module:Class`."""
    args: PointArchArgs = PointArchArgs()

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments: of a class of your own, the given ones."""
        return self.args.model_dump(exclude_unset=self.type not in BUILT_IN)

    def _contradictions(self) -> Iterator[Problem]:
        arguments = BUILT_IN.get(self.type)
        if arguments is not None:
            for name in sorted(set(self.args.model_extra or {}) - set(arguments)):
                yield f"args.{name}", unknown(name, arguments)


class PointInitializerArgs(StrictModel):
    """Arguments of the initializer."""

    include_conv: bool = False
    """Initialize convolutions too; the reference touches linear layers only."""


class PointInitializerConfig(StrictModel):
    """First weights of the network."""

    type: Name = "InitializerKaiming"
    """`InitializerKaiming`, `-Normal`, `-Uniform`, `-UniformRule`, `-Xavier`, or your own."""
    args: PointInitializerArgs = PointInitializerArgs()


class LoaderArgs(StrictModel):
    """Which data, and how they are served."""

    dataset_path: Location = Field(validation_alias=AliasChoices("dataset_path", "data_path"))
    """Index CSV file; `data_path` is accepted too."""
    statistic_path: OptionalLocation = None
    """Statistics of the training labels (JSON); needed to normalize or standardize."""
    batch_size: Count = 8
    """Rows of one step."""
    num_workers: Natural = 1
    """Processes that read maps ahead, for sets that do not fit into `cache_mb`."""
    filter_inputs: InputColumns | None = None
    """Channels, in order: positions in the CSV header, or names; null: [9, 10, 11]."""
    filter_labels: Columns | None = None
    """Labels, in order, likewise; null: [15, 16], or all labels of LoaderRGBImage."""
    ignored_inputs: tuple[Natural | Name, ...] | None = None
    """A documented field of LoaderRGBImage without a meaning."""
    shuffle: bool = True
    """New random order of the training set in every epoch."""
    normalize: bool = False
    """Scale labels and array maps to [0, 1]; excludes `standardize`."""
    standardize: bool = False
    """Scale labels and array maps to mean 0, standard deviation 1; excludes `normalize`."""
    cache_mb: Natural = 2048
    """Decoded maps are kept in memory up to this size [MiB]; above it they are read as needed."""
    resize: Literal["none", "pad"] = "none"
    """`pad` fills smaller maps up; `none` refuses maps of unequal shape."""

    @property
    def scaling(self) -> Literal["standardize", "normalize", "none"]:
        """How labels, and maps of arrays, are scaled."""
        if self.standardize:
            return "standardize"
        return "normalize" if self.normalize else "none"

    def _contradictions(self) -> Iterator[Problem]:
        if self.normalize and self.standardize:
            yield "normalize", "must be false when standardize is true, or set standardize false"
        elif self.scaling != "none" and self.statistic_path is None:
            yield "statistic_path", f"is required when {self.scaling} is true"


class LoaderConfig(StrictModel):
    """A dataset."""

    type: LoaderType = "LoaderMultichannelArray"
    """Maps as arrays, as pictures of one channel each, or as one picture of three colours."""
    args: LoaderArgs

    @property
    def filter_inputs(self) -> tuple[int | str, ...]:
        """Columns of the maps: column 0 for a colour picture."""
        if self.type == "LoaderRGBImage":
            return (0,)
        return self.args.filter_inputs or (9, 10, 11)

    @property
    def filter_labels(self) -> tuple[int | str, ...] | None:
        """Columns of the labels; None: all."""
        if self.type == "LoaderRGBImage":
            return self.args.filter_labels
        return self.args.filter_labels or (15, 16)

    @property
    def channels(self) -> int:
        """Channels of one sample."""
        return 3 if self.type == "LoaderRGBImage" else len(self.filter_inputs)

    def _contradictions(self) -> Iterator[Problem]:
        if self.type == "LoaderRGBImage" and self.args.filter_inputs is not None:
            yield "args.filter_inputs", "must be left out: LoaderRGBImage reads column 0 only"
        if self.type != "LoaderRGBImage" and self.args.ignored_inputs is not None:
            yield "args.ignored_inputs", "belongs to LoaderRGBImage only"


class NamedConfig(StrictModel):
    """Something by name, and the arguments of its constructor."""

    type: Name
    """Its name."""
    args: dict[Name, Any] = Field(default_factory=dict)
    """Arguments of its constructor, by name."""


class PointTrainerConfig(StrictModel):
    """How long to train, what to keep."""

    epochs: Count = 1024
    """Passes over the training rows at most."""
    save_dir: Folder = Path("output")
    """Root of the documented output tree."""
    save_period: Count = 1000
    """A checkpoint file every so many epochs."""
    verbosity: Literal[0, 1, 2] = 1
    """On the terminal: 0 warnings, 1 information, 2 everything."""
    early_stop: Count | None = None
    """Epochs without improvement after which a trial stops; null: never."""
    tensorboard: bool = True
    """Write TensorBoard events too."""
    monitor: Literal["metric", "loss"] = "metric"
    """What improvement means: of the metric, or of the loss, on the validation set."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Least time between two checkpoints kept for a resume [s]."""
    clip_max_norm: ClassVar[None] = None
    ema_decay: ClassVar[None] = None

    @property
    def max_num_epochs(self) -> int:
        """The name of `epochs` in the training loop."""
        return self.epochs

    @property
    def stop_after_epochs(self) -> int | None:
        """The name of `early_stop` in the training loop."""
        return self.early_stop


class PointInferConfig(StrictModel):
    """The `infer-nn` command; training ignores it."""

    save_dir: OptionalPath = None
    """Root of the output tree; null: `trainer.save_dir`."""


def _adam() -> NamedConfig:
    return NamedConfig(type="Adam", args={"lr": 1e-5, "weight_decay": 0.0})


class RegressionConfig(StrictModel):
    """Everything a launch of `mlpop train-nn` and `mlpop infer-nn` can be told."""

    name: FileName = "Convolution"
    """Names the experiment and its folders."""
    n_gpu: Natural = 0
    """0 computes on the CPU, 1 or more on the first GPU; more than there are is a warning."""
    trials: Few = 8
    """Trainings from new first weights, until one converges."""
    convergence: dict[Name, float] = Field(default_factory=dict)
    """`<label>_threshold`: the loss below which a label has converged, physical units."""
    set_manual_seed: bool = False
    """Take `manual_seed` as root seed; otherwise one is drawn, and logged."""
    manual_seed: Natural = 42
    """The root seed, with `set_manual_seed`."""

    arch: PointArchConfig = PointArchConfig()
    weights_initializer: PointInitializerConfig = PointInitializerConfig()
    training_data_loader: LoaderConfig | None = None
    """The rows that are learned from."""
    validation_data_loader: LoaderConfig | None = None
    """The rows that early stopping watches."""
    test_data_loader: LoaderConfig | None = None
    """The rows that `infer-nn` predicts."""
    optimizer: NamedConfig = Field(default_factory=_adam)
    """Any class of torch.optim."""
    loss: NamedConfig = NamedConfig(type="LossMSE")
    metric: NamedConfig = NamedConfig(type="MetricAccuracyMSE")
    lr_scheduler: NamedConfig | None = None
    """Any class of torch.optim.lr_scheduler; one step an epoch."""
    trainer: PointTrainerConfig = PointTrainerConfig()
    infer: PointInferConfig = PointInferConfig()

    @property
    def root_seed(self) -> int | None:
        """The seed to derive every other from, or None where one is to be drawn."""
        return self.manual_seed if self.set_manual_seed else None

    def resolved(self) -> dict[str, Any]:
        """Return every field as JSON values, defaults written out; parses to the same launch."""
        return self.model_dump(mode="json")

    @classmethod
    def _translate(cls, translation: Translation) -> None:
        point_fields(translation)

    def _contradictions(self) -> Iterator[Problem]:
        training, validation = self.training_data_loader, self.validation_data_loader
        if training:
            yield from shape_problems("training_data_loader", training, self.arch)
        if validation:
            yield from shape_problems("validation_data_loader", validation, self.arch)
        if training and validation:
            for field, message in loader_differences(validation, training, "training_data_loader"):
                yield f"validation_data_loader.{field}", message


def loader_differences(
    loader: LoaderConfig, other: LoaderConfig, other_name: str
) -> Iterator[Problem]:
    """Compare what two loaders must have in common: type, columns and scaling."""
    pairs = [
        ("type", loader.type, other.type),
        ("args.filter_inputs", loader.filter_inputs, other.filter_inputs),
        ("args.filter_labels", loader.filter_labels, other.filter_labels),
        ("args.normalize", loader.args.normalize, other.args.normalize),
        ("args.standardize", loader.args.standardize, other.args.standardize),
    ]
    for field, value, other_value in pairs:
        if value != other_value:
            yield field, f"must be as in {other_name} ({show(other_value)}), found {show(value)}"


def from_json(text: str, source: str) -> RegressionConfig:
    """Read a resolved configuration back, as a checkpoint or a run holds it.

    Raises:
        ConfigError: it is not one of this version.
    """
    return RegressionConfig.parse(json.loads(text), source)


def shape_problems(path: str, loader: LoaderConfig, arch: PointArchConfig) -> Iterator[Problem]:
    """Compare the number of channels and labels of the loader at `path` with the network."""
    channels = arch.arguments().get("input_shape", (loader.channels,))[0]
    if loader.channels != channels:
        colours = " colours" if loader.type == "LoaderRGBImage" else ""
        yield (
            f"{path}.args.filter_inputs",
            f"must have one entry a channel of arch.args.input_shape ({channels}), "
            f"found {loader.channels}{colours}",
        )
    labels, count = loader.filter_labels, arch.args.num_parameters
    if labels is not None and len(labels) != count:
        yield (
            f"{path}.args.filter_labels",
            f"must have arch.args.num_parameters ({count}) entries, found {len(labels)}",
        )
