"""What can be found wrong with the given files before a run is opened or a folder is made."""

from pathlib import Path

from mlpop.config.checks import ExperimentFacts
from mlpop.config.fields import INPUT_PREFIX
from mlpop.config.sbi import SbiConfig
from mlpop.errors import DataError
from mlpop.experiment.data import check_shape, label_scaling
from mlpop.experiment.folders import check_writable, dataset_csv
from mlpop.experiment.observed import check_observed
from mlpop.experiment.plan import check_plan
from mlpop.inference.prior import make_prior
from mlpop.maps.index import DatasetIndex
from mlpop.maps.loading import x_shape
from mlpop.maps.statistics import read_statistics


def check_inputs(config: SbiConfig) -> None:
    """Refuse an experiment whose given files cannot work, before anything is written.

    Files are opened and their first rows compared; broken rows further down are found when the
    data are loaded.

    Raises:
        ConfigError: a folder, simulator or shape in the configuration contradicts the data.
        DataError: a file is missing or broken.
    """
    check_writable(config.trainer.save_dir, "trainer.save_dir")
    training, test = config.training_data_loader, config.test_data_loader
    for block, loader in (("training_data_loader", training), ("test_data_loader", test)):
        if loader.simulate and loader.dataset_path is not None:
            check_writable(loader.dataset_path, f"{block}.dataset_path")
    labels = config.prior_ranges.labels
    plan = None
    if ExperimentFacts(config).simulates:
        plan = check_plan(config.simulator, labels, config.map_generator, config.dyn_data_loader)
    shape = None
    given = None
    if training.dataset_path_round_0 is None:
        assert plan is not None
        index = _simulated_index(plan.channels, labels)
        channels = index.select_channels(training.filter_inputs)
    else:
        given = dataset_csv(training.dataset_path_round_0)
        index = DatasetIndex.read(given)
        channels = index.select_channels(training.filter_inputs)
        shape = _check_set(config, index, channels)
        if len(index) < 2:
            raise DataError(
                f"{index.path}: training needs at least 2 simulations, found {len(index)}"
            )
        _check_labels(config, index)
    if test.testing and test.dataset_path_round_0 is not None:
        test_index = DatasetIndex.read(dataset_csv(test.dataset_path_round_0))
        found = _check_set(config, test_index, test_index.select_channels(channels))
        test_index.label_values(test_index.select_labels(labels))
        if shape is not None and found != shape:
            raise DataError(
                f"{test_index.path}: holds maps of shape {list(found)}, the training set {given} "
                f"of shape {list(shape)}"
            )
    check_observed(config, channels, shape, given, None if plan is None else plan.generator)


def _check_set(
    config: SbiConfig, index: DatasetIndex, channels: tuple[str, ...]
) -> tuple[int, ...]:
    if not index.rows:
        raise DataError(f"{index.path}: no row below the header")
    shape = x_shape(index, channels)
    check_shape(config, shape, index.path)
    return shape


def _check_labels(config: SbiConfig, index: DatasetIndex) -> None:
    training, ranges = config.training_data_loader, config.prior_ranges
    labels = index.select_labels(training.filter_labels or ranges.labels)
    index.label_values(labels)
    statistics = {}
    if training.statistic_path is not None:
        statistics = read_statistics(training.statistic_path)
    make_prior(
        {"labels": ranges.labels, "low": ranges.low, "high": ranges.high},
        labels,
        label_scaling(config, statistics, labels),
    )


def _simulated_index(channels: tuple[str, ...], labels: tuple[str, ...]) -> DatasetIndex:
    """Return the index file, without rows, of the set that will be simulated."""
    header = (*(INPUT_PREFIX + channel for channel in channels), *labels)
    return DatasetIndex(Path("the simulated training set"), header, ())
