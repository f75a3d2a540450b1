"""From the configuration to the simulator that workers build."""

import logging
from typing import Any

from mlpop.config.blocks.data import DynamicalDataConfig
from mlpop.config.blocks.dynamics import DYNAMICS_LABELS, DynamicsConfig
from mlpop.config.blocks.flux_subsample import with_census
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.preset_stars import preset_sentence
from mlpop.config.blocks.training import SimulatorConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.remote.mirror import localized
from mlpop.errors import ConfigError
from mlpop.experiment.simulations.simulated_set import SimulatorPlan
from mlpop.experiment.simulations.stellar_database import csv_settings, opened, stellar_database
from mlpop.io.cache import kernels_are_compiled
from mlpop.io.files import json_digest
from mlpop.population.stars.database import StellarDatabase
from mlpop.simulators import load
from mlpop.simulators.base import revision

logger = logging.getLogger(__name__)

LABELS_FIELD = "prior_ranges.labels"
"""Field that names the labels of an experiment."""


def simulator_plan(
    simulator: SimulatorConfig,
    labels: tuple[str, ...],
    generator: GeneratorConfig,
    stars: StellarDatabase | DynamicsConfig | None,
    field: str = LABELS_FIELD,
) -> SimulatorPlan:
    """Complete the `simulator` block with what only the launch knows, and try to build it.

    Args:
        stars: the stellar database, or, where theta changes the stars, how every simulation
            makes its own; None where the simulator needs none.
        field: that names the labels, for messages.

    Raises:
        ConfigError: the simulator is unknown, refuses its arguments, or has other labels.
    """
    args: dict[str, Any] = dict(simulator.args)
    content: dict[str, Any] = {"type": simulator.type, "args": simulator.args}
    if isinstance(stars, DynamicsConfig):
        own = stars.model_dump(mode="json", exclude_unset=True)
        args["dynamics"] = content["dynamics"] = own
        content |= stars.electrons()
    elif stars is not None:
        if stars.folder is None:
            raise ConfigError("the stellar database must lie on disk for workers to share it")
        args["database"] = str(stars.folder.resolve())
        content["stars"] = stars.digest
    if stars is not None:
        generator = with_census(generator, simulator.pulsar.population)
        args["labels"] = list(labels)
        args["generator"] = generator.model_dump(mode="json")
        content["generator"] = generator.settings()
    block = {"type": simulator.type, "args": args}
    built = load(simulator.type, args)
    if tuple(built.labels) != tuple(labels):
        raise ConfigError(
            f"{field}: {list(labels)} must be the labels of the simulator '{simulator.type}' in "
            f"their order, {list(built.labels)}"
        )
    content |= revision(simulator.type, built)
    return SimulatorPlan(
        block=block,
        labels=tuple(labels),
        channels=tuple(built.channels),
        identity=json_digest(content),
        generator=None if stars is None else generator,
    )


def full_plan(
    simulator: SimulatorConfig,
    labels: tuple[str, ...],
    generator: GeneratorConfig,
    source: DynamicalDataConfig,
) -> tuple[SimulatorPlan, StellarDatabase | None]:
    """Return what simulates, and the stars that it draws from: opened, imported or built.

    Returns:
        The plan; the stellar database, None where there is none or every simulation makes its own.

    Raises:
        ConfigError: as `simulator_plan`.
        DataError: the given database is missing or broken.
    """
    if not simulator.draws_stars:
        return simulator_plan(simulator, labels, generator, None), None
    made = source.stars if source.dataset_path is None else None
    logger.info("%s", preset_sentence(simulator.pulsar.population, made, labels))
    if not kernels_are_compiled():
        logger.info("compiling the simulator, once for this version of it: a minute or two")
    if DYNAMICS_LABELS.intersection(labels):
        return simulator_plan(simulator, labels, generator, source.stars), None
    stars = stellar_database(source)
    return simulator_plan(simulator, labels, generator, stars), stars


def experiment_plan(config: SbiConfig) -> tuple[SimulatorPlan, StellarDatabase | None]:
    """Return what simulates for an experiment, and its stars; see `full_plan`."""
    labels = config.prior_ranges.labels
    return full_plan(config.simulator, labels, config.map_generator, config.dyn_data_loader)


def check_plan(
    simulator: SimulatorConfig,
    labels: tuple[str, ...],
    generator: GeneratorConfig,
    source: DynamicalDataConfig,
    field: str = LABELS_FIELD,
) -> SimulatorPlan:
    """Try to build the simulator without building or importing a stellar database.

    Returns:
        A plan that tells labels and channels, not to simulate with.

    Raises:
        ConfigError: as `simulator_plan`.
        DataError: the given database is missing or broken.
    """
    stars: StellarDatabase | DynamicsConfig | None = None
    if simulator.draws_stars:
        stars = source.stars
        if source.dataset_path is not None:
            folder = localized(source.dataset_path)
            stars = opened(folder) or csv_settings(folder, simulator.pulsar.population)
    return simulator_plan(simulator, labels, generator, stars, field)
