"""What all rounds learn: prior, channels and scaling; and the arrays that networks train on."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import numpy as np

from mlpop.config.blocks.generator import holds_counts
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.loading import Dataset, load_dataset
from mlpop.datasets.precision import InputUnits, poor_channels
from mlpop.datasets.remote.mirror import localized
from mlpop.datasets.scaling import LabelScaling, Mode, foreign_statistics, read_statistics
from mlpop.errors import ConfigError, DataError
from mlpop.inference.posteriors.preprocessing import (
    COMPRESSED_AT_A_TIME,
    Preprocessing,
    count_units,
)
from mlpop.inference.prior import Prior
from mlpop.io.files import read_json_object, write_json
from mlpop.io.scratch import blocks

PROBLEM = "problem.json"

logger = getLogger(__name__)


@dataclass(frozen=True)
class LearningProblem:
    """What every round of an experiment shares: labels, channels, prior and scaling.

    Attributes:
        prior: over the labels, with their scaling.
        channels: names of x's channels.
        preprocessing: of x, before the networks see it.
    """

    prior: Prior
    channels: tuple[str, ...]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class TrainingArrays:
    """Training data as networks see them, in `.npy` files.

    Attributes:
        theta_path: (N, D) float32 in the unit cube.
        x_path: (N, ...) float32.
        count: N.
        x_shape: of one x.
        digest: SHA-256 of both arrays.
    """

    theta_path: Path
    x_path: Path
    count: int
    x_shape: tuple[int, ...]
    digest: str

    def remove(self) -> None:
        """Delete the files; the dataset they were made of stays."""
        shutil.rmtree(self.theta_path.parent, ignore_errors=True)


def learning_problem(config: SbiConfig, data: Dataset, statistics: Path) -> LearningProblem:
    """Combine the configuration with `data`, the training set of round 0.

    `statistics` is JSON with mean, std, min and max of the training labels, for want of a
    `statistic_path`; it is read only where they scale them.

    Raises:
        ConfigError: the labels of `prior_ranges` are not the data's.
        DataError: the statistics lack a label, or a label does not vary.
    """
    loader, values = config.training_data_loader, {}
    mode: Mode = loader.scaling  # type: ignore[assignment]
    if mode != "none":
        source = loader.statistic_path
        values = read_statistics(statistics if source is None else localized(source))
    prior = configured_prior(config, values, data.labels)
    if prior.scaling is not None:
        for text in foreign_statistics(prior.scaling, data.theta):
            logger.warning("training_data_loader.statistic_path: %s", text)
    poor = poor_channels(data.x, data.channels)
    for name, text in poor.items():
        logger.warning("%s: channel %s %s", data.source, name, text)
    number = loader.num_counts
    counts, maps = count_units(data.x, number), data.x[:, : data.x.shape[1] - number]
    logged = logged_channels(config, data.channels)
    units = None
    if maps.dtype == np.float64:
        units = InputUnits.fit(Preprocessing(logged=logged).log_of(maps))
    preprocessing = Preprocessing(mode, units=units, logged=logged, counts=counts)
    return LearningProblem(prior, data.channels, preprocessing)


def logged_channels(config: SbiConfig, channels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the places of the maps of which networks see log(1 + n).

    Raises:
        ConfigError: that is asked for, and no channel holds counts.
    """
    loader = config.training_data_loader
    if not loader.log_counts:
        return ()
    maps = loader.maps_of(channels)
    places = tuple(place for place, name in enumerate(maps) if holds_counts(name))
    if not places:
        raise ConfigError(
            "training_data_loader.log_counts: must be false, since no chosen map holds "
            f"counts; found {', '.join(maps)}"
        )
    return places


def save_problem(path: Path, problem: LearningProblem) -> None:
    """Write what all rounds share; a compressor goes into a folder beside the file."""
    write_json(
        path,
        {
            "prior": problem.prior.to_dict(),
            "channels": list(problem.channels),
            "preprocessing": problem.preprocessing.save(path.parent),
        },
    )


def load_problem(path: Path) -> LearningProblem:
    """Undo `save_problem`.

    Raises:
        DataError: the file is broken, or the compressor beside it is.
    """
    values = read_json_object(path)
    try:
        return LearningProblem(
            Prior.from_dict(values["prior"]),
            tuple(str(name) for name in values["channels"]),
            Preprocessing.load(path.parent, values["preprocessing"]),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error!r}") from None


def configured_prior(
    config: SbiConfig, statistics: Mapping[str, Mapping[str, float]], labels: tuple[str, ...]
) -> Prior:
    """Return the prior over the labels of a training set, with their scaling.

    Raises:
        ConfigError: the labels of `prior_ranges` are others.
        DataError: the statistics lack a label, or a label does not vary.
    """
    ranges, mode = config.prior_ranges, config.training_data_loader.scaling
    scaling = LabelScaling(mode, statistics, labels)  # type: ignore[arg-type]
    if tuple(ranges.labels) != labels:
        raise ConfigError(
            f"prior_ranges.labels: {list(ranges.labels)} must be the selected labels of the "
            f"dataset in their order, {list(labels)}"
        )
    return Prior.configured(ranges, scaling)


def load_training_set(config: SbiConfig, csv: Path) -> Dataset:
    """Load the maps and labels that the configuration selects.

    Raises:
        ConfigError: the shape of the maps is not `arch.args.input_shape`.
        DataError: the dataset is broken, or lacks a column.
    """
    loader = config.training_data_loader
    labels: Sequence[int | str] = loader.filter_labels or config.prior_ranges.labels
    data = load_dataset(
        csv, filter_inputs=loader.columns, filter_labels=labels, numbers=loader.num_counts
    )
    check_shape(config, data.x.shape[1:], csv)
    return data


def check_shape(config: SbiConfig, shape: tuple[int, ...], source: Path | str) -> None:
    """Refuse maps of another shape than the embedding network was configured for.

    Raises:
        ConfigError: naming both shapes.
    """
    if config.arch is None or config.arch.is_custom:
        return
    expected = tuple(config.arch.args.input_shape)
    # counts are further channels of x, each a plane of one number
    found = (shape[0] - config.training_data_loader.num_counts, *shape[1:])
    if found != expected:
        raise ConfigError(
            f"arch.args.input_shape: is {list(expected)}, but {source} holds maps of shape "
            f"{list(found)}; set it to that, or choose other filter_inputs"
        )


def write_training_arrays(folder: Path, problem: LearningProblem, data: Dataset) -> TrainingArrays:
    """Write the training set as networks see it where workers can map it.

    Raises:
        DataError: x tell nothing about theta because all are the same, or the files cannot be
            written.
    """
    theta = problem.prior.to_unit(data.theta).numpy()
    paths = folder / "theta.npy", folder / "x.npy"
    digest = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(paths[0], np.ascontiguousarray(theta, dtype=np.float32), allow_pickle=False)
        digest.update(np.ascontiguousarray(theta, dtype="<f4").tobytes())
        shape, vary = _write_x(paths[1], problem.preprocessing, data, digest.update)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error}") from error
    if len(data) > 1 and not vary:
        raise DataError(
            f"{data.source}: all {len(data)} x are the same as the networks see them (channels "
            f"{', '.join(data.channels)}): there is nothing to learn from"
        )
    return TrainingArrays(*paths, len(theta), shape, digest.hexdigest())


def _write_x(
    path: Path, preprocessing: Preprocessing, data: Dataset, heard: Callable[[memoryview], None]
) -> tuple[tuple[int, ...], bool]:
    """Write x as networks see them, block by block; `heard` is given all their bytes.

    Returns:
        The shape of one x, and whether any two of them differ.
    """
    first, vary = None, False
    with path.open("wb") as file:
        for rows in blocks(data.x, multiple=COMPRESSED_AT_A_TIME):
            try:
                x = preprocessing(data.x[rows]).numpy()
            except DataError as error:
                raise DataError(f"{data.source}: {error}") from None
            if first is None:
                first = x[:1]
                header = {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                    "fortran_order": False,
                    "shape": (len(data), *x.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(file, header)
            vary = vary or not bool((x == first).all())
            file.write(np.ascontiguousarray(x, dtype=np.float32).data)
            heard(np.ascontiguousarray(x, dtype="<f4").data)
    assert first is not None
    return first.shape[1:], vary
