"""The pulsar simulator: theta to density maps of the pulsars that surveys would have found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import ArrayLike, NDArray

from mlpop.config.blocks.dynamics import DYNAMICS_LABELS, DynamicsConfig
from mlpop.config.blocks.flux_subsample import with_census
from mlpop.config.blocks.generator import FLUX_KIND, POPULATION_CHANNELS, GeneratorConfig
from mlpop.config.blocks.population import PopulationConfig
from mlpop.errors import ConfigError, DataError, SimulationFailed
from mlpop.maps.density import dropped_stars, final_population_maps, population_maps
from mlpop.maps.detected import detected_arrays
from mlpop.maps.pulsars import pulsar_tables
from mlpop.population.stars.build import Progress
from mlpop.population.stars.database import StellarDatabase, find_or_build
from mlpop.population.synthesis.detected_population import (
    Population,
    require_stars,
    star_limit,
    synthesize,
)
from mlpop.population.synthesis.stages import Stage, generator, stage_seed
from mlpop.population.synthesis.stream import survey_keys
from mlpop.population.synthesis.whole_population import synthesize_all
from mlpop.simulators.base import Simulation, theta_by_label

RunMode = Literal["magrot_det", "full"]


class PulsarSimulator:
    """Population synthesis of isolated radio pulsars, seen as density maps.

    The database is opened where the simulator runs, so a pickled simulator is small.

    Args:
        labels: names of theta: keys of the population that are swept, and, for simulations that
            make their own stars, those of the dynamics (`h_c`, `sigma_k`, ...).
        population: everything else about the pulsars; the values of `labels` are replaced.
        database: folder of the stellar database.
        dynamics: which stars, where there is no `database`; found in the cache or built there.
        generator: how maps are made.
        run_mode: `magrot_det` creates stars until the surveys' counts are reached and makes the
            15 maps of the surveys; `full` makes the maps of all stars of the database.
        keep_detections: give the detected pulsars in `details`, of which maps can be made again.

    Attributes:
        labels: as given.
        channels: names of the maps.
        version: raised when equal theta and seed give other bits, see `simulators.base`.

    Raises:
        ConfigError: a label cannot be swept with the chosen models, a map needs a catalogue that
            is not made, or the database is too small for the highest birth rate.
    """

    version = 3

    def __init__(
        self,
        labels: Sequence[str],
        population: PopulationConfig | Mapping[str, Any] | None = None,
        database: str | Path | None = None,
        dynamics: DynamicsConfig | Mapping[str, Any] | None = None,
        generator: GeneratorConfig | Mapping[str, Any] | None = None,
        run_mode: RunMode = "magrot_det",
        keep_detections: bool = False,
    ) -> None:
        self.population = _block(PopulationConfig, population, "population")
        self.generator = _block(GeneratorConfig, generator, "generator")
        self.dynamics = None if dynamics is None else _block(DynamicsConfig, dynamics, "dynamics")
        self.database = None if database is None else Path(database)
        self.run_mode = run_mode
        self.keep_detections = keep_detections
        self.labels = tuple(labels)
        self._stars: StellarDatabase | None = None
        self._moving = self._check_labels()
        self._check_maps()
        self._check_stars()
        self.generator = with_census(self.generator, self.population)
        if run_mode == "full":
            self.channels: tuple[str, ...] = (*POPULATION_CHANNELS, FLUX_KIND)
        else:
            self.channels = self.generator.survey_channels

    def __call__(self, theta: ArrayLike, seed: SeedSequence) -> Simulation:
        """Simulate the maps of `theta` (D,).

        Raises:
            SimulationFailed: theta is not finite or out of the models' range, or the database
                was used up.
        """
        return self._simulation(theta, seed, detailed=False)

    def in_detail(self, theta: ArrayLike, seed: SeedSequence) -> Simulation:
        """Simulate the same maps, and the table `pulsars_<survey>` of each survey in `details`.

        Raises:
            SimulationFailed: as in a call.
        """
        return self._simulation(theta, seed, detailed=True)

    def _simulation(self, theta: ArrayLike, seed: SeedSequence, *, detailed: bool) -> Simulation:
        values = theta_by_label(theta, self.labels)
        try:
            config, stars = self._conditions(values, seed)
            if self.run_mode == "full":
                return self._whole(config, stars, seed)
            return self._detected(config, stars, seed, detailed)
        except ConfigError as error:
            raise SimulationFailed(str(error)) from None

    def synthesize(self, theta: ArrayLike, seed: SeedSequence) -> Population:
        """Return the population behind the maps of a call: every column of every catalogue.

        Raises:
            SimulationFailed: theta is not finite or out of the models' range.
        """
        try:
            return synthesize(*self._conditions(theta_by_label(theta, self.labels), seed), seed)
        except ConfigError as error:
            raise SimulationFailed(str(error)) from None

    def maps_of(self, made: Population, seed: SeedSequence) -> dict[str, NDArray[Any]]:
        """Return map by channel of the population of `synthesize` with the same seed."""
        rng = generator(seed, Stage.TPA)
        return population_maps(made.catalogues, self.generator, rng, made.n_detected)

    def _conditions(
        self, values: Mapping[str, float], seed: SeedSequence
    ) -> tuple[PopulationConfig, StellarDatabase]:
        stars = self._stars_of(values, seed)
        still = {k: v for k, v in values.items() if k not in self._moving}
        return self.population.with_theta(still), stars

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stars": None}

    def prepare(self, progress: Progress | None = None) -> StellarDatabase | None:
        """Open the stellar database, building it first where it is not in the cache.

        Args:
            progress: called now and then with the numbers of stars done and of all.

        Returns:
            The database; None where every simulation makes its own stars.
        """
        if self._moving:
            return None
        if self._stars is None:
            if self.database is not None:
                self._stars = StellarDatabase.open(self.database)
            else:
                assert self.dynamics is not None
                self._stars = find_or_build(self.dynamics, progress=progress)
        return self._stars

    def _stars_of(self, values: Mapping[str, float], seed: SeedSequence) -> StellarDatabase:
        stars = self.prepare()
        if stars is not None:
            return stars
        assert self.dynamics is not None
        moving = {label: values[label] for label in self._moving}
        config = self.dynamics.with_override(moving)
        number = int(stage_seed(seed, Stage.DYNAMICS).generate_state(1, np.uint32)[0])
        values_set = config.model_dump(mode="json", exclude_unset=True)
        return StellarDatabase.generate(DynamicsConfig.parse({**values_set, "seed": number}))

    def _detected(
        self, config: PopulationConfig, stars: StellarDatabase, seed: SeedSequence, detailed: bool
    ) -> Simulation:
        population = synthesize(config, stars, seed)
        if population.status == "exhausted":
            raise SimulationFailed(
                f"the {len(stars)} stars of the database were used up at a birth rate of "
                f"{population.birth_rate:.3g} per century, before a target or birth_rate_max"
            )
        maps = self.maps_of(population, seed)
        info = {
            "status": population.status,
            "n_created": population.n_created,
            "birth_rate": population.birth_rate,
            "birth_rate_excess": population.status == "limit",
            "n_detected": dict(population.n_detected),
            "n_created_at_match": dict(population.n_created_at_match),
            "n_detected_at_match": dict(population.n_detected_at_match),
            "birth_rate_at_match": dict(population.birth_rate_at_match),
            "dropped": dropped_stars(population.catalogues, self.generator),
        }
        details: dict[str, NDArray[Any]] = {}
        if detailed:
            rng = generator(seed, Stage.DETAILS)
            details |= pulsar_tables(population.catalogues, self.generator, rng)
        if self.keep_detections:
            details |= detected_arrays(population.catalogues, self.generator)
        return Simulation(maps, info, details)

    def _whole(
        self, config: PopulationConfig, stars: StellarDatabase, seed: SeedSequence
    ) -> Simulation:
        population = synthesize_all(config, stars, seed)
        info = {
            "status": "matched",
            "n_created": population.n_created,
            "birth_rate": population.birth_rate,
            "n_detected": dict(population.n_detected),
        }
        return Simulation(final_population_maps(population.final, self.generator), info)

    def _check_labels(self) -> tuple[str, ...]:
        """Return the labels that change the stars themselves."""
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice or not self.labels:
            found = f"'{twice[0]}' twice" if twice else "none"
            raise ConfigError(f"labels: must be different names, at least one, found {found}")
        sweepable = set() if self.dynamics is None else set(self.dynamics.sweepable())
        moving = tuple(label for label in self.labels if label in DYNAMICS_LABELS)
        for label in moving:
            if self.dynamics is None or self.database is not None:
                raise ConfigError(
                    f"labels: '{label}' changes the stars: give `dynamics` and no `database`, so "
                    "that each simulation makes its own"
                )
            if label not in sweepable:
                raise ConfigError(
                    f"labels: '{label}' has no effect with kick_model "
                    f"'{self.dynamics.kick_model}'; allowed: {', '.join(sorted(sweepable))}"
                )
        self.population.require_sweepable([label for label in self.labels if label not in moving])
        return moving

    def _check_maps(self) -> None:
        if self.run_mode not in ("magrot_det", "full"):
            raise ConfigError(f"run_mode: must be magrot_det or full, found '{self.run_mode}'")
        survey_keys(self.population)
        if self.run_mode == "full":
            for name in ("sky_maps", "counts"):
                if getattr(self.generator, name):
                    raise ConfigError(
                        f"generator.{name}: must be left out with run_mode 'full', whose maps are "
                        "of all stars and not of surveys"
                    )
            return
        for survey in self.generator.surveys:
            name = self.generator.catalogue_name(survey)
            if name not in self.population.surveys_radio:
                made = ", ".join(self.population.surveys_radio)
                raise ConfigError(
                    f"generator.surveys: {survey} is made from the catalogue {name}, which is not "
                    f"in population.surveys_radio; found {made}"
                )

    def _check_stars(self) -> None:
        if (self.database is None) == (self.dynamics is None):
            raise ConfigError("simulator.args: give one of `database` and `dynamics`")
        if self.run_mode == "full":
            return
        if self.database is not None:
            try:
                require_stars(self.population, StellarDatabase.open(self.database))
            except DataError as error:
                raise ConfigError(f"simulator.args.database: {error}") from None
        elif self.dynamics is not None:
            needed = star_limit(self.population, self.dynamics.t_age_max)
            if self.population.batch_rule == "exact" and self.dynamics.NS_number < needed:
                largest = 100.0 * self.dynamics.NS_number / self.dynamics.t_age_max
                raise ConfigError(
                    f"dynamics.NS_number: birth_rate_max = {self.population.birth_rate_max:g} "
                    f"needs {needed} stars, found {self.dynamics.NS_number}: raise it or set "
                    f"birth_rate_max to {largest:.4g} at most"
                )


def _block(model: Any, values: Any, name: str) -> Any:
    return values if isinstance(values, model) else model.parse(values or {}, source=name)
