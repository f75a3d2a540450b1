"""The observed sample x_o: from the catalogue, from a file, or from a synthetic population."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Purpose, seed_sequence
from mlpop.config.sbi import SbiConfig
from mlpop.errors import DataError
from mlpop.experiment.data import LearningProblem, check_shape
from mlpop.experiment.supply import SimulatorPlan
from mlpop.maps.files import read_json_object
from mlpop.maps.layout import OBSERVED_CSV, TRUTH_JSON
from mlpop.maps.loading import load_observed
from mlpop.maps.observed import check_same_maps, write_synthetic_observed
from mlpop.maps.shards import by_channel
from mlpop.simulators import load

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ObservedSample:
    """What was observed.

    Attributes:
        x: one x as stored, not scaled.
        channels: names of its maps.
        truth: true theta, physical units, where it is known.
        source: the file it was read from.
    """

    x: NDArray[np.float32]
    channels: tuple[str, ...]
    truth: Mapping[str, float] | None
    source: Path

    @property
    def digest(self) -> str:
        """SHA-256 of x."""
        return hashlib.sha256(np.ascontiguousarray(self.x, "<f4").tobytes()).hexdigest()


def observed_sample(
    config: SbiConfig,
    problem: LearningProblem,
    training_csv: Path,
    *,
    plan: SimulatorPlan | None,
    root_seed: int,
    folder: Path,
) -> ObservedSample:
    """Read the observed sample, or simulate it from the configured truth into `folder`.

    Args:
        config: the experiment.
        problem: labels and channels of the training set.
        training_csv: the training set, with which the maps must agree.
        plan: what simulates; needed for a synthetic sample only.
        root_seed: root seed of the experiment.
        folder: where a synthetic sample is written.

    Raises:
        DataError: a file is missing or broken, or its maps are not those of the training set.
        ConfigError: x_o does not have the shape that the network was configured for.
    """
    observed = config.observed_sample
    if observed.path is not None:
        return _from_array(config, observed.path, problem)
    if observed.synthetic is not None:
        assert plan is not None
        truth = {label: observed.synthetic.theta[label] for label in problem.prior.labels}
        csv = _simulate(plan, truth, root_seed, folder)
    else:
        assert observed.dataset_path is not None
        csv = observed.dataset_path / OBSERVED_CSV
    filters = observed.filter_inputs or problem.channels
    sample = load_observed(csv, filter_inputs=filters)
    if sample.channels != problem.channels:
        raise DataError(
            f"{csv}: observed_sample.filter_inputs selects {', '.join(sample.channels)}, the "
            f"training set has {', '.join(problem.channels)}"
        )
    check_same_maps(csv, training_csv)
    check_shape(config, sample.x.shape[1:], csv)
    truth_file = csv.parent / TRUTH_JSON
    known = read_json_object(truth_file) if truth_file.is_file() else None
    return ObservedSample(sample.x[0], sample.channels, known, csv)


def _simulate(
    plan: SimulatorPlan, truth: Mapping[str, float], root_seed: int, folder: Path
) -> Path:
    simulator = load(str(plan.block["type"]), plan.block["args"])
    theta = np.array([truth[label] for label in plan.labels])
    simulation = simulator(theta, seed_sequence(root_seed, Purpose.OBSERVED, 0))
    logger.info("observed sample: a synthetic population of known truth %s", dict(truth))
    return write_synthetic_observed(
        folder, by_channel(simulation.x, plan.channels), truth, plan.generator
    )


def _from_array(config: SbiConfig, path: Path, problem: LearningProblem) -> ObservedSample:
    try:
        x = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"observed_sample.path: {path}: cannot be read: {error}") from None
    if not np.isfinite(x).all():
        raise DataError(f"observed_sample.path: {path}: holds NaN or infinity")
    check_shape(config, x.shape, path)
    return ObservedSample(x.astype(np.float32), problem.channels, None, path)
