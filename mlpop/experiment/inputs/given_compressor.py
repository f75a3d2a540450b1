"""The configured compressor, and what speaks against it before anything is simulated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mlpop.config.files.sbi import SbiConfig
from mlpop.config.messages import show
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.inputs.problem import PROBLEM
from mlpop.inference.compression.compressor import Compressor
from mlpop.inference.compression.rescaling import fit_rescaling
from mlpop.inference.compression.sources import Trust, read_compressor
from mlpop.inference.estimators.spec import EmbeddingSpec
from mlpop.io.files import read_json_object
from mlpop.networks.rng import generator_from_seed
from mlpop.training.fit import validation_split

BLOCK = "compression_input"


def check_compressor(
    config: SbiConfig,
    channels: tuple[str, ...],
    x_shape: tuple[int, ...] | None,
    num_simulations: int | None = None,
) -> None:
    """Refuse a compressor that cannot work, before anything is simulated.

    Args:
        channels, x_shape: names of the maps, and shape of one x, of the training set, where it
            is there to tell.
        num_simulations: size of the training set of round 0, where it is known.

    Raises:
        ConfigError: the settings contradict the data, or the compressor was made for others.
        DataError: the file to read is missing, broken, made for other maps, or not trusted.
    """
    block = config.compression_input
    if not block.use_compression:
        return
    if not block.fit:
        if x_shape is None and config.arch is not None and not config.arch.is_custom:
            maps, *others = config.arch.args.input_shape
            x_shape = (maps + config.training_data_loader.num_counts, *others)
        compressor = configured_compressor(config, channels, x_shape)
        if block.rescale == "sample":
            fit_rescaling(torch.zeros(1, compressor.width), "sample", "none")
        return
    if block.compression_type == "pca" and isinstance(block.num_components, int):
        _check_count(config, block.num_components, x_shape, num_simulations)


def _check_count(
    config: SbiConfig, number: int, x_shape: tuple[int, ...] | None, num_simulations: int | None
) -> None:
    limits = []
    if x_shape is not None:
        size = int(np.prod(_of_maps(config, x_shape)))
        limits.append((size, f"one x has {size} numbers"))
    if num_simulations is not None and num_simulations > 1:
        fraction = config.trainer.validation_fraction
        split = validation_split(num_simulations, fraction, generator_from_seed(0))
        used = num_simulations - len(split)
        limits.append((used - 1, f"{used} training maps have at most {used - 1} components"))
    for limit, why in limits:
        if number > limit:
            raise ConfigError(
                f"{BLOCK}.num_components: must be at most {limit}, since {why}; found {number}"
            )


def _of_maps(config: SbiConfig, x_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the maps of one x, without counts."""
    return (x_shape[0] - config.training_data_loader.num_counts, *x_shape[1:])


def configured_compressor(
    config: SbiConfig, channels: tuple[str, ...], x_shape: tuple[int, ...] | None
) -> Compressor:
    """Read the compressor that `cnn_model_path` or `pca_model_path` names, without rescaling.

    Raises:
        ConfigError: it is known to be made for other maps, or for another scaling.
        DataError: it is missing, broken, made for another shape of x, or not trusted.
    """
    block = config.compression_input
    path = block.model_path
    assert path is not None
    network = None
    if config.arch is not None:
        network = EmbeddingSpec(type=config.arch.type, args=config.arch.arguments())
    with about(f"{BLOCK}.{block.compression_type}_model_path"):
        compressor = read_compressor(
            path,
            block.compression_type,
            x_shape=None if x_shape is None else _of_maps(config, x_shape),
            network=network,
            trust=Trust(block.allow_pickle, block.sha256),
        )
    compressor = compressor if compressor.channels else _as_trained(compressor, path)
    number = config.training_data_loader.num_counts
    _check_made_for(config, compressor, channels[: len(channels) - number])
    return replace(compressor, numbers=number)


def _as_trained(compressor: Compressor, path: Path) -> Compressor:
    """Add the channels and the scaling that the experiment of a `member_<j>` folder recorded."""
    folder = path if path.is_dir() else path.parent
    recorded = folder.parent.parent / "round_0" / PROBLEM
    if compressor.kind != "cnn" or not recorded.is_file():
        return compressor
    problem = read_json_object(recorded)
    try:
        counts = problem["preprocessing"].get("counts", {"shift": []})["shift"]
        names = [str(name) for name in problem["channels"]]
        channels = tuple(names[: len(names) - len(counts)])
        scaling = problem["preprocessing"]["input_scaling"]
        log_counts = bool(problem["preprocessing"].get("logged"))
    except (KeyError, TypeError):
        return compressor
    return replace(compressor, channels=channels, input_scaling=scaling, log_counts=log_counts)


def _check_made_for(config: SbiConfig, compressor: Compressor, channels: tuple[str, ...]) -> None:
    field = f"{BLOCK}.{compressor.kind}_model_path"
    if compressor.channels and compressor.channels != channels:
        raise ConfigError(
            f"{field}: was made for the maps {', '.join(compressor.channels)}, but the training "
            f"set has {', '.join(channels)}; choose its maps with training_data_loader."
            "filter_inputs"
        )
    scaling = config.training_data_loader.scaling
    if compressor.input_scaling not in (None, scaling):
        raise ConfigError(
            f"{field}: was made for maps with the scaling '{compressor.input_scaling}', but "
            f"training_data_loader has '{scaling}'; set its normalize and standardize alike"
        )
    wanted = config.training_data_loader.log_counts
    if compressor.input_scaling is not None and compressor.log_counts != wanted:
        raise ConfigError(
            f"{field}: was made for maps with training_data_loader.log_counts "
            f"{show(compressor.log_counts)}, found {show(wanted)}; set it alike"
        )


@contextmanager
def about(field: str) -> Iterator[None]:
    """Let errors say which field they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from None
    except DataError as error:
        raise DataError(f"{field}: {error}") from None
