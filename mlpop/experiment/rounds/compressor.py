"""The compressor of an experiment: read or fitted on round 0, measured, kept in its run."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.compute.backends.base import OnEvent
from mlpop.config.blocks.network import CompressionConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.methods import COMPRESSOR_METHOD, Method
from mlpop.datasets.loading import Dataset
from mlpop.errors import ConfigError, DataError, MlpopError, TrainingError
from mlpop.experiment.inputs.given_compressor import BLOCK, about, configured_compressor
from mlpop.experiment.inputs.problem import LearningProblem, write_training_arrays
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.progress import TrainingProgress
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.context import Launch, OpenRound
from mlpop.experiment.rounds.ensemble import estimator_spec, validation_rows
from mlpop.experiment.tracked_training import TrackedTraining
from mlpop.inference.compression.compressor import (
    COMPONENTS,
    COMPRESSOR,
    NETWORK,
    Compressor,
    PcaEncoder,
    load_compressor,
)
from mlpop.inference.compression.pca import fit_pca
from mlpop.inference.compression.sources import read_compressor
from mlpop.inference.posteriors.preprocessing import COMPRESSOR_FOLDER
from mlpop.io.files import read_json_object, write_json
from mlpop.tracking import Node
from mlpop.training.events import EpochRecord
from mlpop.training.member_task import MemberTask, train_member

logger = logging.getLogger(__name__)

REPORT = "report.json"
LOST = 0.5
"""Lost part of the variance of held-out maps above which a PCA is worth a warning."""
ATOM = 0.02
"""Share of equal values in a component above which a likelihood is worth a warning."""
NEAR_LIMIT = 0.5
"""So many components, as a fraction of what so few maps can have, show nothing."""


def compressor_for(current: OpenRound, problem: LearningProblem, data: Dataset) -> LearningProblem:
    """Return `problem` with the configured compressor, which is kept in the run of round 0.

    Without compression `problem` comes back as it is. `data` is the training set of round 0.

    Raises:
        ConfigError, DataError, TrainingError: as `make_compressor`.
    """
    launch, run, folders = current.launch, current.run, current.folders
    if not launch.config.compression_input.use_compression:
        return problem
    folder = folders.models / COMPRESSOR_FOLDER
    if current.earlier is not None and not (folder / REPORT).exists():
        _restore(launch.lineage, current.earlier, folder)
    training, trainer = TrackedTraining(run, _curves), launch.config.trainer
    with (
        launch.profiler.section("Compressor"),
        TrainingProgress(
            "compressor: training", 1, trainer.stop_after_epochs, trainer.max_num_epochs
        ) as progress,
    ):
        compressor, numbers = make_compressor(
            launch,
            problem,
            data,
            folder,
            on_event=lambda _, event: progress.add(0, training.hear(event)),
        )
    for name, path in compressor_files(folders, compressor).items():
        run.send(path, name)
    run.log_metrics(numbers)
    run.set_tags({"mlflow.mlpop.compressor": compressor.digest})
    return replace(problem, preprocessing=replace(problem.preprocessing, compressor=compressor))


def _curves(record: EpochRecord) -> dict[str, float]:
    return {
        "compressor/train_loss": record.train_loss,
        "compressor/val_loss": record.val_loss,
    }


def compressor_files(folders: RoundFolders, compressor: Compressor | None) -> dict[str, Path]:
    """Return artifact name -> file of the compressor in a round's folder; none without one."""
    if compressor is None:
        return {}
    folder = folders.models / COMPRESSOR_FOLDER
    return {f"{COMPRESSOR_FOLDER}/{path.name}": path for path in sorted(folder.iterdir())}


def _restore(lineage: Lineage, node: Node, folder: Path) -> None:
    """Copy the compressor of an unfinished run, if it got so far; it is checked when read."""
    try:
        if not lineage.has(node, f"{COMPRESSOR_FOLDER}/{REPORT}"):
            return
        for name in (NETWORK, COMPONENTS, COMPRESSOR, REPORT):
            if lineage.has(node, f"{COMPRESSOR_FOLDER}/{name}"):
                lineage.fetch(node, f"{COMPRESSOR_FOLDER}/{name}", folder / name)
    except MlpopError as error:
        logger.warning("compressor: made again, its files cannot be used: %s", error)


def make_compressor(
    launch: Launch,
    problem: LearningProblem,
    data: Dataset,
    folder: Path,
    on_event: OnEvent | None = None,
) -> tuple[Compressor, Mapping[str, float]]:
    """Read or make the compressor, fit its rescaling, and write both into `folder`.

    Rows that validate the networks of round 0 take no part. What `folder` holds already is kept
    if it was made of the same data and settings.

    Args:
        problem: without a compressor.
        data: training set of round 0.
        on_event: hears of the training of a `cnn` that is made.

    Returns:
        The compressor with its rescaling, and what is worth comparing, by its names in MLflow.

    Raises:
        ConfigError: the settings contradict the data.
        DataError: the file to read is missing, broken, made for other maps, or not trusted.
        TrainingError: the network of the compressor could not be trained.
    """
    config, block = launch.config, launch.config.compression_input
    shape, number = data.x.shape[1:], problem.preprocessing.num_counts
    configured = None if block.fit else configured_compressor(config, problem.channels, shape)
    if configured is not None and problem.preprocessing.units is not None:
        raise ConfigError(
            f"{BLOCK}.{block.compression_type}_model_path: a given compressor takes x as float32, "
            f"which cannot hold those of {data.source}: what varies in them is lost; give other "
            "units, or let this experiment fit the compressor"
        )
    fingerprint = _fingerprint(launch, problem, data, configured)
    if (finished := _finished(folder, fingerprint)) is not None:
        logger.info("compressor: the one in %s is of the same data and settings", folder)
        return finished
    scaling = problem.preprocessing.input_scaling
    held_out = validation_rows(config, {0: np.ones(len(data), bool)}, launch.root_seed)
    used = torch.ones(len(data), dtype=torch.bool)
    used[held_out] = False
    maps = torch.from_numpy(problem.preprocessing.scaled(data.x))
    numbers: dict[str, float] = {}
    if configured is not None:
        compressor = configured
    elif block.compression_type == "pca":
        with about(f"{BLOCK}.num_components"):
            of_maps = maps[used][:, : shape[0] - number]
            pca = fit_pca(of_maps.flatten(1).numpy(), block.num_components)
        encoder = PcaEncoder(pca, (shape[0] - number, *shape[1:]))
        compressor = Compressor(encoder, source=str(data.source))
    else:
        compressor, numbers = _train_cnn(launch, problem, data, folder, held_out, on_event)
    compressor = replace(
        compressor,
        channels=problem.channels,
        input_scaling=scaling,
        log_counts=bool(problem.preprocessing.logged),
        numbers=number,
    )
    compressor = compressor.rescaled(maps[used], block.rescale, scaling)
    numbers |= _numbers(compressor, maps[used], maps[held_out])
    count = int(used.sum())
    warnings = _warnings(compressor, numbers, count, config.trainer.method, fitted=block.fit)
    for warning in warnings:
        logger.warning("compressor: %s", warning)
    compressor.save(folder)
    report = {"fingerprint": fingerprint, "numbers": numbers, "warnings": warnings}
    write_json(folder / REPORT, report)
    logger.info(
        "compressor: %s to %d components, from %s",
        " x ".join(map(str, compressor.x_shape)),
        compressor.width,
        compressor.source,
    )
    return compressor, numbers


def _on_maps(config: SbiConfig) -> SbiConfig:
    """Return the experiment on the maps themselves: what an embedding network learns.

    Without a final ReLU, which would make components 0 for many maps at once: a likelihood has no
    density there, and a dead one carries nothing.
    """
    trainer = config.trainer.model_copy(update={"type": COMPRESSOR_METHOD})
    arch = config.arch
    if arch is not None:
        # counts join as they are: a likelihood has no density of functions of each other
        arch = arch.model_copy(update={"count_layers": ()})
    if arch is not None and not arch.is_custom:
        args = arch.args.model_copy(update={"final_activation": "none"})
        arch = arch.model_copy(update={"args": args})
    return config.model_copy(
        update={"compression_input": CompressionConfig(), "trainer": trainer, "arch": arch}
    )


def _train_cnn(
    launch: Launch,
    problem: LearningProblem,
    data: Dataset,
    folder: Path,
    held_out: Tensor,
    on_event: OnEvent | None,
) -> tuple[Compressor, dict[str, float]]:
    """Train one network on the maps and keep its embedding network."""
    config, root_seed = launch.config, launch.root_seed
    place = folder.with_name(f"{folder.name}_training")
    arrays = write_training_arrays(place / "arrays", problem, data)
    task = MemberTask(
        folder=str(place / "network"),
        theta_path=str(arrays.theta_path),
        x_path=str(arrays.x_path),
        validation=tuple(held_out.tolist()),
        spec=estimator_spec(_on_maps(config), problem, arrays.x_shape),
        options=config.trainer,
        init_seed=torch_seed(seed_sequence(root_seed, Purpose.COMPRESSOR, 0)),
        training_seed=torch_seed(seed_sequence(root_seed, Purpose.COMPRESSOR, 1)),
        data_digest=arrays.digest,
        device=launch.device,
    )
    logger.info("compressor: training a network on %d simulations", len(data))
    (outcome,) = launch.backend.run(train_member, [task], on_event=on_event)
    if outcome.status != "ok":
        raise TrainingError(f"the network of the compressor: {outcome.error}")
    channels, *others = arrays.x_shape
    of_maps = (channels - problem.preprocessing.num_counts, *others)
    compressor = read_compressor(place / "network", "cnn", x_shape=of_maps)
    # what an interrupted training would go on from
    shutil.rmtree(place, ignore_errors=True)
    return replace(compressor, source=str(data.source)), {
        "compressor/best_val_loss": outcome.value.best_loss,
        "compressor/epochs": float(len(outcome.value.history)),
    }


def _numbers(compressor: Compressor, used: Tensor, held_out: Tensor) -> dict[str, float]:
    encoder = compressor.encoder
    numbers = {
        "compressor/components": float(compressor.width),
        "compressor/constant_components": float(compressor.full_width - compressor.width),
    }
    if isinstance(encoder, PcaEncoder):
        explained = float(encoder.pca.explained_variance_ratio.sum())
        numbers["compressor/explained_variance"] = explained
        for name, maps in (("training", used), ("validation", held_out)):
            lost = encoder.pca.unexplained(compressor.maps_of(maps).flatten(1).numpy())
            numbers[f"compressor/lost_variance_{name}"] = lost
    else:
        numbers["compressor/equal_values"] = _equal_values(compressor(used))
    return numbers


def _equal_values(vectors: Tensor) -> float:
    """Return the largest share of vectors (n, width) that have one and the same component."""
    counts = [int(column.unique(return_counts=True)[1].max()) for column in vectors.T]
    return max(counts) / len(vectors)


def _warnings(
    compressor: Compressor,
    numbers: Mapping[str, float],
    count: int,
    method: Method,
    *,
    fitted: bool,
) -> list[str]:
    width, warnings = compressor.width, []
    constant = int(numbers["compressor/constant_components"])
    if constant:
        text = f"{constant} of {width + constant} components do not vary and are left out"
        if constant > width:
            warnings.append(text)
        else:
            logger.info("compressor: %s", text)
    if compressor.kind == "cnn":
        equal = numbers["compressor/equal_values"]
        if method.estimator == "likelihood" and equal * count > 1 and equal > ATOM:
            warnings.append(
                f"{equal:.2g} of the training maps have one and the same value in a component: a "
                "likelihood has no density there and its posterior may be wrong; use a network "
                "with arch.args.final_activation 'none', a pca, or snre"
            )
        return warnings
    lost = numbers["compressor/lost_variance_validation"]
    limit = min(count - 1, int(np.prod(compressor.encoder.x_shape)))
    if fitted and count - 1 == limit and width > NEAR_LIMIT * limit:
        warnings.append(
            f"{width} components of {count} training maps, which cannot have more than {limit}: "
            f"that they explain {numbers['compressor/explained_variance']:.3g} of the variance "
            f"says nothing about other maps, of which {lost:.3g} is lost; simulate more"
        )
    elif lost > LOST:
        warnings.append(
            f"{lost:.3g} of the variance of held-out maps is lost in {width} components "
            f"({numbers['compressor/lost_variance_training']:.3g} of the training maps)"
        )
    return warnings


def _fingerprint(
    launch: Launch, problem: LearningProblem, data: Dataset, configured: Compressor | None
) -> str:
    """Return a SHA-256 of everything that the compressor depends on."""
    config, block = launch.config, launch.config.compression_input
    values: dict[str, Any] = {
        "type": block.compression_type,
        "rescale": block.rescale,
        "scaling": problem.preprocessing.input_scaling,
        "channels": problem.channels,
        "validation": (config.trainer.validation_fraction, launch.root_seed),
    }
    if problem.preprocessing.logged:
        values["logged"] = problem.preprocessing.logged
    if problem.preprocessing.num_counts:
        values["counts"] = problem.preprocessing.num_counts
    if configured is not None:
        values["given"] = configured.digest
    elif block.compression_type == "pca":
        values["num_components"] = block.num_components
    else:
        spec = estimator_spec(_on_maps(config), problem, data.x.shape[1:])
        values["spec"] = spec.model_dump(mode="json")
        values["options"] = config.trainer.of_the_weights()
        values["max_num_epochs"] = config.trainer.max_num_epochs
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for array in (data.x, data.theta):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _finished(folder: Path, fingerprint: str) -> tuple[Compressor, Mapping[str, float]] | None:
    """Return what the folder holds, if it is whole and of this fingerprint."""
    if not (folder / REPORT).exists():
        return None
    try:
        report = read_json_object(folder / REPORT)
        if report["fingerprint"] != fingerprint:
            return None
        return load_compressor(folder), report["numbers"]
    except (DataError, KeyError, TypeError) as error:
        logger.warning("compressor: made again: %s", error)
        return None
