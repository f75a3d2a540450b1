"""What can be found wrong with the given files before a run is opened or a folder is made."""

from pathlib import Path

from mlpop.config.blocks.dynamics import DYNAMICS_LABELS
from mlpop.config.fields import INPUT_PREFIX
from mlpop.config.files.facts import ExperimentFacts
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import OBSERVED_CSV
from mlpop.datasets.loading import x_shape
from mlpop.datasets.observed import check_made_alike
from mlpop.datasets.remote.mirror import localized
from mlpop.datasets.scaling import read_statistics
from mlpop.errors import ConfigError, DataError
from mlpop.experiment.inputs.apart import check_apart
from mlpop.experiment.inputs.given_compressor import check_compressor
from mlpop.experiment.inputs.memory import check_memory
from mlpop.experiment.inputs.observed import check_observed
from mlpop.experiment.inputs.problem import check_shape, configured_prior, logged_channels
from mlpop.experiment.output_tree import check_writable, dataset_csv
from mlpop.experiment.simulations.simulated_set import SimulatorPlan
from mlpop.experiment.simulations.simulator import check_plan
from mlpop.inference.prior import Prior
from mlpop.io.s3 import check_remote
from mlpop.networks.registry import find as find_network
from mlpop.simulators.base import SIMULATORS


def check_inputs(config: SbiConfig) -> None:
    """Refuse an experiment whose given files cannot work, before anything is written.

    Files are opened and their first rows compared; broken rows further down are found when the
    data are loaded.

    Raises:
        ConfigError: a folder, simulator, compressor or shape contradicts the data.
        DataError: a file is missing or broken.
    """
    check_classes(config)
    check_writable(config.trainer.save_dir, "trainer.save_dir")
    _check_prior(config)
    training, test = config.training_data_loader, config.test_data_loader
    for block, loader in (("training_data_loader", training), ("test_data_loader", test)):
        writes = loader.simulate or config.trainer.num_rounds > 1
        if writes and loader.dataset_path is not None:
            field = f"{block}.dataset_path"
            if isinstance(loader.dataset_path, Path):
                check_writable(loader.dataset_path, field)
            else:
                check_remote(loader.dataset_path, field)
    labels = config.prior_ranges.labels
    plan = None
    if ExperimentFacts(config).simulates:
        plan = check_plan(config.simulator, labels, config.map_generator, config.dyn_data_loader)
    shape = training_csv = None
    if training.dataset_path_round_0 is None:
        assert plan is not None
        index = simulated_index(plan.channels, labels)
        channels = index.select_channels(training.columns)
        kind = _simulated_kind(config)
    else:
        training_csv = dataset_csv(localized(training.dataset_path_round_0))
        index = DatasetIndex.read(training_csv)
        channels = index.select_channels(training.columns)
        shape = check_set(config, index, channels)
        if len(index) < 2:
            raise DataError(
                f"{index.path}: training needs at least 2 simulations, found {len(index)}"
            )
        if config.trainer.method.compares and (
            reason := config.trainer.too_few_to_compare(len(index))
        ):
            raise ConfigError(f"trainer.validation_fraction: {reason} ({index.path})")
        _check_labels(config, index)
        kind = _kind_of_maps(index, config.training_data_loader.maps_of(channels))
        if plan is not None:
            _check_simulated_alike(config, plan, training_csv, channels, shape, kind)
    if logged_channels(config, channels) and kind == "image":
        raise ConfigError(
            "training_data_loader.log_counts: must be false for pictures, which hold no counts "
            "but shades, scaled map by map"
        )
    check_memory(config, shape)
    check_compressor(
        config, channels, shape, training.num_sim if training_csv is None else len(index)
    )
    if test.testing and test.dataset_path_round_0 is not None:
        test_index = DatasetIndex.read(dataset_csv(localized(test.dataset_path_round_0)))
        test_shape = check_set(config, test_index, test_index.select_channels(channels))
        test_index.label_values(test_index.select_labels(labels))
        if shape is not None and test_shape != shape:
            raise DataError(
                f"{test_index.path}: holds maps of shape {list(test_shape)}, the training set "
                f"{training_csv} of shape {list(shape)}"
            )
        _require_kind(test_index, config.training_data_loader.maps_of(channels), kind)
        if training_csv is not None:
            check_apart(index, test_index, labels)
    check_observed(config, channels, shape, training_csv, None if plan is None else plan.generator)
    if config.observed_sample.dataset_path is not None:
        folder = localized(config.observed_sample.dataset_path)
        observed_index = DatasetIndex.read(folder / OBSERVED_CSV)
        _require_kind(observed_index, config.training_data_loader.maps_of(channels), kind)


def check_classes(config: SbiConfig) -> None:
    """Refuse classes that are no network or no simulator, or of modules that are not allowed.

    Workers build what they are given: it is checked here, where the user can allow it.

    Raises:
        ConfigError: naming the field.
    """
    if config.arch is not None and config.arch.is_custom:
        find_network(config.arch.type)
    SIMULATORS.find(config.simulator.type)


def _check_prior(config: SbiConfig) -> None:
    """Refuse the user's distributions that are none, reach too far, or not as far as the truth."""
    ranges, synthetic = config.prior_ranges, config.observed_sample.synthetic
    prior = Prior.configured(ranges)
    for i, (label, low, high) in enumerate(zip(prior.labels, prior.low, prior.high, strict=True)):
        if ranges.reach(i) is not None:
            continue
        if synthetic is not None and not low <= synthetic.theta[label] <= high:
            raise ConfigError(
                f"observed_sample.synthetic.theta.{label}: must lie in the prior range "
                f"[{low:.12g}, {high:.12g}], found {synthetic.theta[label]}"
            )
        if label in DYNAMICS_LABELS or not ExperimentFacts(config).makes_maps:
            continue
        inwards = 1e-9 * (high - low)
        for edge in (low + inwards, high - inwards):
            try:
                config.simulator.pulsar.population.with_override({label: edge})
            except ConfigError as error:
                raise ConfigError(
                    f"prior_ranges.distributions.{label}: reaches {edge:.12g}: {error}"
                ) from None


def _kind_of_maps(index: DatasetIndex, channels: tuple[str, ...]) -> str:
    """Return `array` or `image`; a picture is mirrored against an array, and scaled map by map."""
    kinds = index.kinds(channels)
    if len(kinds) > 1:
        raise DataError(
            f"{index.path}: its maps are pictures (.png) in some places and arrays (.npy) in "
            "others; they cannot be mixed"
        )
    return kinds.pop() if kinds else "array"


def _require_kind(index: DatasetIndex, channels: tuple[str, ...], kind: str) -> None:
    """Refuse a set of arrays for networks that learn from pictures, and the other way round."""
    own = _kind_of_maps(index, channels)
    if own != kind:
        words = {"array": "arrays (.npy)", "image": "pictures (.png)"}
        raise DataError(
            f"{index.path}: its maps are {words[own]}, those of the training set are {words[kind]}"
        )


def _simulated_kind(config: SbiConfig) -> str:
    return config.generator.data_type if config.simulator.draws_stars else "array"


def _check_simulated_alike(
    config: SbiConfig,
    plan: SimulatorPlan,
    csv: Path,
    channels: tuple[str, ...],
    shape: tuple[int, ...],
    kind: str,
) -> None:
    """Refuse a given training set whose maps are not those that this launch simulates."""
    simulations = "what is simulated in this launch (later rounds, test set, observed sample)"
    missing = [name for name in channels if name not in plan.channels]
    if missing:
        raise ConfigError(
            f"training_data_loader.filter_inputs: {csv} has the map {missing[0]}, which the "
            f"simulator '{config.simulator.type}' does not make; it makes "
            f"{', '.join(plan.channels)}"
        )
    if plan.generator is None:
        return
    check_made_alike(csv, plan.generator, simulations, channels)
    facts = ExperimentFacts(config)
    for name in config.training_data_loader.maps_of(channels):
        expected, source = facts.shape_of(name)
        if shape[1:] != expected:
            raise ConfigError(
                f"{source}: gives the map {name} the shape {list(expected)} in {simulations}, "
                f"{csv} holds {list(shape[1:])}"
            )
    if kind != _simulated_kind(config):
        raise ConfigError(
            f"generator.data_type: is '{_simulated_kind(config)}' for {simulations}, the maps of "
            f"{csv} are '{kind}'"
        )


def check_set(
    config: SbiConfig, index: DatasetIndex, channels: tuple[str, ...]
) -> tuple[int, ...]:
    """Return the shape of one x of a given set; refuse an empty set, and another shape."""
    if not len(index):
        raise DataError(f"{index.path}: no row below the header")
    shape = x_shape(index, channels, config.training_data_loader.num_counts)
    check_shape(config, shape, index.path)
    return shape


def _check_labels(config: SbiConfig, index: DatasetIndex) -> None:
    training = config.training_data_loader
    labels = index.select_labels(training.filter_labels or config.prior_ranges.labels)
    index.label_values(labels)
    statistics = {}
    if training.statistic_path is not None:
        statistics = read_statistics(localized(training.statistic_path))
    configured_prior(config, statistics, labels)


def simulated_index(channels: tuple[str, ...], labels: tuple[str, ...]) -> DatasetIndex:
    """Return the index file, without rows, of the set that will be simulated."""
    header = (*(INPUT_PREFIX + channel for channel in channels), *labels)
    return DatasetIndex.of_rows(Path("the simulated training set"), header, ())
