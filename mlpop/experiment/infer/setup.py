"""What `mlpop infer` needs, found and checked before a run is opened or a folder is made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.dataset import dataset_digest
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import FULL_CSV, SET_KEY
from mlpop.datasets.remote.mirror import localized
from mlpop.errors import ConfigError, DataError, MlpopError
from mlpop.experiment.inputs.checks import check_set, simulated_index
from mlpop.experiment.inputs.observed import ObservedSample, check_observed
from mlpop.experiment.models.trained_rounds import TrainedRounds, load_rounds
from mlpop.experiment.output_tree import check_writable, dataset_csv, dataset_round
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.datasets import TEST
from mlpop.experiment.simulations.simulator import check_plan
from mlpop.inference.prior import Prior
from mlpop.tracking import connect, recorded_datasets

AGREEING = ("trainer.type", "compression_input.use_compression")
"""Fields that must be as they were in the training, beside prior, scaling and maps."""


OF_SYNTHETIC = ("observed_sample.synthetic", "simulator", "generator", "dyn_data_loader")
"""Fields that decide what a synthetic x_o looks like, beside its random numbers."""


@dataclass(frozen=True)
class InferJob:
    """An inference that can start.

    Attributes:
        observed: x_o where it is that of the training; None where it is to be read or simulated.
        save_dir: root of the output tree.
        tests: index file of the test set of every round, None where it is to be simulated;
            empty without coverage.
    """

    config: SbiConfig
    trained: TrainedRounds
    observed: ObservedSample | None
    save_dir: Path
    tests: Sequence[Path | None]

    @property
    def simulates(self) -> bool:
        """Whether anything is to be simulated."""
        synthetic = self.config.observed_sample.synthetic is not None
        predicts = self.config.infer.num_predictive > 0
        return predicts or None in self.tests or (synthetic and self.observed is None)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return self.trained.posteriors[0].x_shape


def prepare(config: SbiConfig) -> InferJob:
    """Load the trained rounds and check everything else that can be seen from the files.

    Raises:
        ConfigError: the configuration contradicts the training, or names what does not exist.
        DataError: a file is missing, broken, or does not fit the training.
        TrackingError: the run to load from is missing or not complete.
    """
    save_dir = config.infer.save_dir or config.trainer.save_dir
    check_writable(save_dir, "infer.save_dir" if config.infer.save_dir else "trainer.save_dir")
    load_dir = config.infer.load_dir or config.trainer.save_dir / "models" / config.name
    trained = load_rounds(load_dir, config.trainer.num_rounds)
    _check_training(config, trained)
    tests: list[Path | None] = []
    if config.infer.compute_coverage:
        tests = [_test_csv(config, trained, i) for i in range(config.trainer.num_rounds)]
    job = InferJob(config, trained, _observed_of(config, trained), save_dir, tests)
    for test_csv in filter(None, tests):
        index = DatasetIndex.read(test_csv)
        channels = index.select_channels(trained.problem.channels)
        index.label_values(index.select_labels(trained.problem.prior.labels))
        if (shape := check_set(config, index, channels)) != job.x_shape:
            raise DataError(
                f"{test_csv}: holds x of shape {list(shape)}, the networks were trained with "
                f"{list(job.x_shape)}"
            )
    if job.simulates:
        labels = config.prior_ranges.labels
        check_plan(config.simulator, labels, config.map_generator, config.dyn_data_loader)
    if job.observed is None:
        generator = config.map_generator if config.simulator.draws_stars else None
        csv = _training_csv(config)
        check_observed(config, trained.problem.channels, job.x_shape, csv, generator)
    return job


def _check_training(config: SbiConfig, trained: TrainedRounds) -> None:
    """Refuse a configuration that is not that of the training where it matters."""
    loader, problem = config.training_data_loader, trained.problem
    prior, configured = problem.prior.to_dict(), Prior.configured(config.prior_ranges).to_dict()
    pairs = {
        **{
            f"prior_ranges.{name}": (configured[name], prior[name])
            for name in ("labels", "low", "high", "distributions")
        },
        "training_data_loader: scaling": (loader.scaling, problem.preprocessing.input_scaling),
        "training_data_loader.log_counts": (loader.log_counts, bool(problem.preprocessing.logged)),
    }
    names = _names(config)
    if names is not None:
        wanted = _apart(names, loader.num_counts)
        found = _apart(problem.channels, problem.preprocessing.num_counts)
        for name, chosen, recorded in zip(("inputs", "counts"), wanted, found, strict=True):
            pairs[f"training_data_loader.filter_{name}"] = (chosen, recorded)
    if trained.config is not None:
        resolved = _resolved(config)
        pairs |= {name: (_at(resolved, name), _at(trained.config, name)) for name in AGREEING}
    problems = [
        f"{name}: is {_text(value)}, but {trained.source} was trained with {_text(recorded)}"
        for name, (value, recorded) in pairs.items()
        if value != recorded
    ]
    if problems:
        raise ConfigError("; ".join(problems))
    for i, posterior in enumerate(trained.posteriors):
        if posterior.prior.to_dict() != prior:
            raise DataError(f"round {i} of {trained.source}: its prior is not that of round 0")


def _apart(channels: Sequence[str], counts: int) -> tuple[list[str], list[str]]:
    """Return the names of maps, and those of so many counts behind them."""
    maps = len(channels) - counts
    return list(channels[:maps]), list(channels[maps:])


def _names(config: SbiConfig) -> tuple[str, ...] | None:
    """Return the names of the chosen maps, None where there is nothing to look them up in."""
    chosen = config.training_data_loader.columns
    if config.training_data_loader.simulate:
        labels = config.prior_ranges.labels
        plan = check_plan(config.simulator, labels, config.map_generator, config.dyn_data_loader)
        return simulated_index(plan.channels, labels).select_channels(chosen)
    csv = _training_csv(config)
    if csv is not None:
        return DatasetIndex.read(csv).select_channels(chosen)
    if chosen is None or any(isinstance(name, int) for name in chosen):
        return None
    return tuple(str(name) for name in chosen)


def _training_csv(config: SbiConfig) -> Path | None:
    """Return the index file of a given training set, if it is still there."""
    folder = config.training_data_loader.dataset_path_round_0
    if folder is None:
        return None
    try:
        return dataset_csv(localized(folder))
    except MlpopError:
        return None


def _test_csv(config: SbiConfig, trained: TrainedRounds, round_: int) -> Path | None:
    """Return the index file of the test set of a round, None if it is to be simulated."""
    loader = config.test_data_loader
    if round_ == 0:
        if loader.simulate:
            return None
        if loader.dataset_path_round_0 is None:
            raise ConfigError(
                "test_data_loader.dataset_path_round_0: is required when "
                "infer.compute_coverage is true, unless simulate is true"
            )
        return dataset_csv(localized(loader.dataset_path_round_0))
    if config.infer.sim_dataset:
        return None
    root = config.trainer.save_dir / "data" / "test_dataset"
    if loader.dataset_path is not None:
        root = localized(loader.dataset_path)
    folder = dataset_round(root, round_)
    candidates = [csv for csv in (folder / FULL_CSV,) if csv.is_file()]
    if candidates and not (folder / SET_KEY).is_file():
        # brought along, under the documented name
        return candidates[0]
    # trainings that simulated other sets here have a folder of their own
    candidates += sorted(folder.parent.glob(f"{folder.name}_*/{FULL_CSV}"))
    if len(candidates) > 1:
        used = _recorded_test_set(trained, round_)
        matches = [csv for csv in candidates if used is not None and csv.samefile(used)]
        candidates = matches or candidates
    if len(candidates) == 1:
        return candidates[0]
    simulate = f"set infer.sim_dataset to true: simulated from the proposal of round {round_ - 1}"
    if candidates:
        raise ConfigError(
            f"test_data_loader.dataset_path: '{folder.parent}' holds {len(candidates)} test sets "
            f"of round {round_}, none of which is known to be this training's; leave the right "
            f"one alone there, or {simulate}"
        )
    raise ConfigError(
        f"test_data_loader.dataset_path: '{folder}' holds no {FULL_CSV}, the test set of round "
        f"{round_}; make one with `mlpop simulate --set save_dir={folder}`, or {simulate}"
    )


def _recorded_test_set(trained: TrainedRounds, round_: int) -> Path | None:
    """Return the test set that a round of the training used, if it is as it was."""
    store = connect()
    origin = trained.origin(store)
    node = None if origin is None else Lineage(store, origin).round(round_)
    if node is None:
        return None
    for recorded in recorded_datasets(store.client, node.run_id, TEST.use):
        csv = Path(recorded.uri)
        if csv.is_file() and dataset_digest(csv.parent) == recorded.digest:
            return csv
    return None


def _observed_of(config: SbiConfig, trained: TrainedRounds) -> ObservedSample | None:
    """Return the synthetic x_o of the training, if that is what is asked for."""
    synthetic = config.observed_sample.synthetic
    if synthetic is None or trained.observed is None or trained.config is None:
        return None
    resolved = _resolved(config)
    same = all(_at(trained.config, block) == _at(resolved, block) for block in OF_SYNTHETIC)
    return trained.observed if same else None


def _resolved(config: SbiConfig) -> Mapping[str, Any]:
    """Return the resolved configuration as a file would hold it."""
    values: Mapping[str, Any] = json.loads(json.dumps(config.resolved()))
    return values


def _at(values: Mapping[str, Any], path: str) -> Any:
    value: Any = values
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
