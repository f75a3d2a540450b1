"""One simulation from Python: the catalogues and the maps of one theta."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from mlpop.compute import Purpose, seed_sequence
from mlpop.config.blocks.dynamics import DynamicsConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.config.blocks.preset_stars import preset_stars
from mlpop.errors import ConfigError, SimulationFailed
from mlpop.experiment.simulations.catalogue_csv import write_catalogue_csv
from mlpop.simulators.pulsar import PulsarSimulator

Block = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Population:
    """What one simulation gave.

    Attributes:
        theta: label -> value, physical units.
        catalogues: survey's catalogue -> (n,) column by name, of every detected pulsar.
        maps: channel -> map (H, W).
        status: `matched`, or `limit` where the highest birth rate ended it.
        birth_rate: neutron stars per century.
        generator: how the maps were made.
    """

    theta: Mapping[str, float]
    catalogues: Mapping[str, Mapping[str, NDArray[Any]]]
    maps: Mapping[str, NDArray[Any]]
    status: str
    birth_rate: float
    generator: GeneratorConfig

    def x(self, channels: Sequence[str]) -> NDArray[np.float32]:
        """Return the maps of these channels as one x (C, H, W), as networks of them take it.

        A count among them fills a map.

        Raises:
            ConfigError: there is no such map, or they differ in shape.
        """
        unknown = [name for name in channels if name not in self.maps]
        shapes = {self.maps[name].shape for name in channels if name in self.maps}
        if len(shapes) > 1:
            shapes.discard(())
        if unknown or len(shapes) != 1:
            found = f"no map {unknown[0]!r}" if unknown else f"maps of the shapes {shapes}"
            raise ConfigError(f"channels: {found}; there are {', '.join(self.maps)}")
        (shape,) = shapes
        maps = [np.broadcast_to(self.maps[name], shape) for name in channels]
        return np.stack(maps).astype(np.float32)

    def write_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the pulsars with psrcat's column names, as `mlpop observe` reads them.

        Raises:
            DataError: the file cannot be written.
        """
        return write_catalogue_csv(Path(path), self.catalogues, self.generator)


def simulate_population(
    theta: Mapping[str, float],
    *,
    population: PopulationConfig | Block | None = None,
    stars: DynamicsConfig | Block | str | os.PathLike[str] | None = None,
    generator: GeneratorConfig | Block | None = None,
    seed: int | SeedSequence = 0,
) -> Population:
    """Simulate one population of pulsars, and what the surveys find of it.

    Args:
        theta: label -> value of parameters to set, physical units.
        population: everything else of the pulsars, the block `simulator.args.population`.
        stars: folder of a stellar database, or the block `dyn_data_loader.database` of one that is
            found in the cache or built; by default that block's defaults.
        generator: how maps are made, the block `generator`.
        seed: of all that is random. Simulation k of `mlpop simulate` with the root seed s is
            that of `SeedSequence(s, spawn_key=...)` in its manifest.

    Example:
        >>> import mlpop
        >>> sky = mlpop.simulate_population(
        ...     {"B_initial_log10_mean": 13.1, "P_initial_log10_mean": -0.7},
        ...     population={"birth_rate_max": 0.01},
        ...     stars={"NS_number": 3000, "seed": 3},
        ... )
        >>> sky.x(["survey_PMPS_ppdot_map", "survey_HTRU_ppdot_map"]).shape
        (2, 32, 32)
        >>> bool((sky.catalogues["PMPS"]["P"] > 0).all())
        True

    Raises:
        ConfigError: a label cannot be set, a block is wrong, or there are too few stars.
        SimulationFailed: theta is out of the models' range, or the stars were used up.
    """
    if not theta:
        raise ConfigError("theta: must set at least one label, found none")
    given = isinstance(stars, str | os.PathLike)
    if not isinstance(population, PopulationConfig):
        population = PopulationConfig.parse(population or {}, source="population")
    if not given and not isinstance(stars, DynamicsConfig):
        own: Block = stars or {}  # type: ignore[assignment]
        stars = preset_stars(population.preset, population.birth_rate_max, own)
    simulator = PulsarSimulator(
        tuple(theta),
        population,
        database=Path(stars) if given else None,  # type: ignore[arg-type]
        dynamics=None if given else (stars or {}),  # type: ignore[arg-type]
        generator=generator,
    )
    source = seed
    if not isinstance(source, SeedSequence):
        source = seed_sequence(source, Purpose.SIMULATION_TRAINING, 0, 0)
    values = np.array([float(value) for value in theta.values()])
    made = simulator.synthesize(values, source)
    if made.status == "exhausted":
        raise SimulationFailed(
            f"the stars were used up at a birth rate of {made.birth_rate:.3g} per century"
        )
    return Population(
        {label: float(value) for label, value in theta.items()},
        made.catalogues,
        simulator.maps_of(made, source),
        made.status,
        made.birth_rate,
        simulator.generator,
    )
