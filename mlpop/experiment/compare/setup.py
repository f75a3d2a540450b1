"""What `mlpop compare` needs, found and checked before a run is opened or a folder is made."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.allowed_modules import refuse_pickles
from mlpop.config.base import read_json
from mlpop.config.blocks.generator import PPDOT_KIND, GeneratorConfig, channels_of
from mlpop.config.blocks.observed_file import ObservedNumbers
from mlpop.config.files.compare import CompareConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.details import load_observed_details
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import OBSERVED_CSV, OBSERVED_JSON
from mlpop.datasets.loading import load_observed
from mlpop.datasets.observed import check_made_alike
from mlpop.datasets.remote.mirror import localized
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.models.trained_rounds import TrainedRounds, load_rounds
from mlpop.experiment.output_tree import CONFIG_FILE, check_writable
from mlpop.experiment.simulations.simulator import check_plan
from mlpop.io.files import read_json_object
from mlpop.maps.pulsars import PREFIX
from mlpop.networks.rng import generator_from_seed


@dataclass(frozen=True)
class CompareJob:
    """A comparison that can start.

    Attributes:
        config: what was asked for.
        experiment: whose simulator, stars and maps are taken.
        trained: whose posterior theta are drawn from, None with a base.
        observed: the sky, with the tables of its pulsars, and those of its maps of P and P_dot
            that there are.
        counts: survey of the maps -> observed pulsars, measured P_dot or not; None where only the
            tables tell.
    """

    config: CompareConfig
    experiment: SbiConfig
    trained: TrainedRounds | None
    observed: ObservedSample
    counts: Mapping[str, int] | None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of theta."""
        return labels_of(self.config, self.experiment)

    @property
    def source(self) -> str:
        """Where simulator and theta come from."""
        return str(self.config.base) if self.trained is None else self.trained.source

    @property
    def generator(self) -> GeneratorConfig:
        """How maps are made."""
        return self.experiment.map_generator

    def theta(self, root_seed: int) -> NDArray[np.float64]:
        """Return theta (n, D) of the simulations, physical units."""
        number, given = self.config.num_predictive, self.config.theta
        if given is not None:
            return np.tile(np.array([*given.values()], np.float64), (number, 1))
        assert self.trained is not None
        assert self.trained.observed is not None
        seed = seed_sequence(root_seed, Purpose.POSTERIOR_SAMPLES, 0)
        generator = generator_from_seed(torch_seed(seed))
        return self.trained.posteriors[-1].sample(number, self.trained.observed.x, generator)


def labels_of(config: CompareConfig, experiment: SbiConfig) -> tuple[str, ...]:
    """Return names of theta: those given by hand, else those of the posterior."""
    return experiment.prior_ranges.labels if config.theta is None else tuple(config.theta)


def prepare(config: CompareConfig) -> CompareJob:
    """Load the training or the base, and the observed sample, and check what can be seen of them.

    Raises:
        ConfigError: the experiment simulates no pulsars, or something is not there.
        DataError: a file is missing or broken, or the sky's maps are made in another way.
        TrackingError: the run to load from is missing or not complete.
    """
    check_writable(config.save_dir, "save_dir")
    trained = None
    if config.base is not None:
        experiment = SbiConfig.parse(read_json(config.base), f"base {config.base}")
    else:
        assert config.load_dir is not None
        trained = load_rounds(config.load_dir, None, field="load_dir")
        if trained.config is None or (config.theta is None and trained.observed is None):
            raise DataError(f"{trained.source}: has kept no {CONFIG_FILE} or no x_o")
        source = f"{CONFIG_FILE} of {trained.source}"
        refuse_pickles(trained.config, source)
        experiment = SbiConfig.parse(dict(trained.config), source)
    simulator = experiment.simulator
    if not simulator.draws_stars or simulator.pulsar.run_mode != "magrot_det":
        raise ConfigError(
            f"{'load_dir' if config.base is None else 'base'}: the simulator '{simulator.type}' "
            "of the experiment detects no pulsars one by one: there is nothing to compare"
        )
    labels = labels_of(config, experiment)
    check_plan(simulator, labels, experiment.map_generator, experiment.dyn_data_loader)
    observed, counts = _observed(config, experiment, trained)
    if not any(name.startswith(PREFIX) for name in observed.details):
        raise DataError(
            f"observed: {observed.source}: has no tables of single pulsars beside it, "
            f"details/{PREFIX}<survey>.npy; make it again with `mlpop observe`"
        )
    return CompareJob(config, experiment, trained, observed, counts)


def _observed(
    config: CompareConfig, experiment: SbiConfig, trained: TrainedRounds | None
) -> tuple[ObservedSample, Mapping[str, int] | None]:
    """Return the sky, and how many pulsars its surveys found where that is known."""
    place = experiment.observed_sample.dataset_path
    if config.observed is None and trained is not None and trained.observed is not None:
        # the folder that it was read from may hold another sample by now
        numbers = experiment.simulator.pulsar.population.observed if place is not None else None
        return trained.observed, None if numbers is None else numbers.detected_real
    if config.observed is None and place is None:
        raise ConfigError(
            "observed: must be the folder of `mlpop observe`: the experiment has no catalogue "
            "(observed_sample.dataset_path), found null"
        )
    folder = config.observed or localized(place)  # type: ignore[arg-type]
    csv = folder / OBSERVED_CSV
    if not csv.is_file():
        raise ConfigError(
            f"observed: '{folder}' holds no {OBSERVED_CSV}; make it with "
            f"`mlpop observe --set save_dir={folder}`"
        )
    index = DatasetIndex.read(csv)
    wanted = ppdot_channels(experiment.map_generator)
    channels = tuple(name for name in wanted if name in index.channels)
    if not channels:
        raise DataError(f"{csv}: has none of the maps {', '.join(wanted)}")
    check_made_alike(csv, experiment.map_generator, "the experiment", channels)
    x = load_observed(csv, filter_inputs=channels).x[0]
    sample = ObservedSample(x, channels, None, csv, load_observed_details(folder))
    path = folder / OBSERVED_JSON
    if not path.is_file():
        return sample, None
    return sample, ObservedNumbers.parse(read_json_object(path), source=str(path)).detected_real


def ppdot_channels(generator: GeneratorConfig) -> tuple[str, ...]:
    """Return the names of the maps of P and P_dot."""
    return channels_of([PPDOT_KIND], generator.surveys)
