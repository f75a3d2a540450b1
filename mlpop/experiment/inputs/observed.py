"""The observed sample x_o: from the catalogue, from a file, or from a synthetic population."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Purpose, seed_sequence
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.blocks.observed_file import ObservedNumbers
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.foreign_code import foreign_code
from mlpop.datasets.details import load_observed_details, read_array, write_observed_details
from mlpop.datasets.layout import OBSERVED_CSV, OBSERVED_JSON, TRUTH_JSON
from mlpop.datasets.loading import load_observed
from mlpop.datasets.observed import (
    OBSERVED_LABELS,
    check_made_alike,
    check_same_maps,
    write_synthetic_observed,
)
from mlpop.datasets.precision import BEYOND, Observations, as_numbers, is_beyond
from mlpop.datasets.remote.mirror import localized
from mlpop.errors import ConfigError, DataError, SimulationFailed
from mlpop.experiment.inputs.problem import LearningProblem, check_shape
from mlpop.experiment.simulations.simulated_set import SimulatorPlan
from mlpop.io.arrays import read_npy
from mlpop.io.files import read_json_object, write_array, write_json
from mlpop.simulators import load
from mlpop.simulators.base import simulate
from mlpop.simulators.outputs import by_channel

logger = logging.getLogger(__name__)

X_O = "x_o.npy"
X_O_JSON = "x_o.json"
X_O_DETAIL = "x_o_"


@dataclass(frozen=True)
class ObservedSample:
    """What was observed.

    Attributes:
        x: one x as stored, not scaled.
        channels: names of its maps.
        truth: true theta, physical units, where it is known.
        source: the file it was read from.
        details: arrays by name that no network sees, where they were observed too.
    """

    x: Observations
    channels: tuple[str, ...]
    truth: Mapping[str, float] | None
    source: Path
    details: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of x."""
        kind = self.x.dtype.newbyteorder("<")
        return hashlib.sha256(np.ascontiguousarray(self.x, kind).tobytes()).hexdigest()


def observed_sample(
    config: SbiConfig,
    problem: LearningProblem,
    x_shape: tuple[int, ...],
    training_csv: Path | None,
    *,
    plan: SimulatorPlan | None,
    root_seed: int,
    folder: Path,
) -> ObservedSample:
    """Read the observed sample, or simulate it from the configured truth into `folder`.

    Args:
        problem, x_shape: labels and channels, and shape of one x, of the training set.
        training_csv: the training set, with which the maps must agree; None if that was checked.
        plan: what simulates; needed for a synthetic sample only.
        folder: where a synthetic sample is written.

    Raises:
        DataError: a file is missing or broken, or its maps are not those of the training set.
        ConfigError: x_o does not have the shape that the network was configured for.
    """
    observed = config.observed_sample
    if observed.path is not None:
        path = localized(observed.path)
        x = _read_array(config, path, x_shape)
        return ObservedSample(_kept(x, problem), problem.channels, None, path)
    if observed.synthetic is not None:
        assert plan is not None
        truth = {label: observed.synthetic.theta[label] for label in problem.prior.labels}
        csv = _simulate(plan, truth, root_seed, folder)
    else:
        assert observed.dataset_path is not None
        csv = localized(observed.dataset_path) / OBSERVED_CSV
    x = _read_index(config, csv, problem.channels, x_shape)
    if training_csv is not None:
        check_same_maps(csv, training_csv, problem.channels)
    known = _truth(csv.parent, problem.prior.labels)
    details = load_observed_details(csv.parent)
    return ObservedSample(_kept(x, problem), problem.channels, known, csv, details)


def copy_observed(observed: ObservedSample, folder: Path) -> list[Path]:
    """Write x_o as the rounds of an experiment use it: `x_o.npy`, `x_o.json`, `x_o_<detail>.npy`.

    A resume takes it from there, whatever has become of the file it was read from.
    """
    array, about = folder / X_O, folder / X_O_JSON
    write_array(array, observed.x)
    write_json(
        about,
        {
            "channels": list(observed.channels),
            "truth": None if observed.truth is None else dict(observed.truth),
            "source": str(observed.source),
            "details": list(observed.details),
        },
    )
    details = [folder / f"{X_O_DETAIL}{name}.npy" for name in observed.details]
    for path, values in zip(details, observed.details.values(), strict=True):
        write_array(path, values)
    return [array, about, *details]


def load_observed_copy(folder: Path) -> ObservedSample:
    """Read what `copy_observed` wrote.

    Raises:
        DataError: a file is missing or broken.
    """
    try:
        x = read_npy(folder / X_O)
        about = read_json_object(folder / X_O_JSON)
        names = about.get("details", [])
        details = {name: read_array(folder / f"{X_O_DETAIL}{name}.npy") for name in names}
        source = Path(str(about["source"]))
        return ObservedSample(x, tuple(about["channels"]), about["truth"], source, details)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: the observed sample cannot be read: {error!r}") from None


def load_x_o(folder: Path) -> tuple[NDArray[np.float32], Mapping[str, float] | None]:
    """Read x_o alone, and its truth, of what `copy_observed` wrote.

    Raises:
        DataError: a file is missing or broken.
    """
    try:
        truth = read_json_object(folder / X_O_JSON).get("truth")
        return np.load(folder / X_O, allow_pickle=False), truth
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: the observed sample cannot be read: {error!r}") from None


def check_observed(
    config: SbiConfig,
    channels: tuple[str, ...],
    x_shape: tuple[int, ...] | None,
    training_csv: Path | None,
    generator: GeneratorConfig | None,
) -> None:
    """Read a given observed sample before there is a training set, or a run.

    Args:
        channels, x_shape: of the training set; its shape where it is known.
        training_csv: the training set; None if it will be simulated.
        generator: how its maps will be made then, if they are maps of pulsars.

    Raises:
        DataError, ConfigError: as `observed_sample`.
    """
    observed = config.observed_sample
    if observed.path is not None:
        _read_array(config, localized(observed.path), x_shape)
    elif observed.dataset_path is not None:
        csv = localized(observed.dataset_path) / OBSERVED_CSV
        _compare_numbers(config, csv.parent)
        _read_index(config, csv, channels, x_shape)
        if training_csv is not None:
            check_same_maps(csv, training_csv, channels)
        elif generator is not None:
            check_made_alike(csv, generator, "the simulated training set", channels)


def _compare_numbers(config: SbiConfig, folder: Path) -> None:
    """Warn where the population aims at other numbers than those of the observed sample."""
    path = folder / OBSERVED_JSON
    if not (config.simulator.draws_stars and path.is_file()):
        return
    aimed = config.simulator.pulsar.population.observed
    if aimed is None:
        return
    found = ObservedNumbers.parse(read_json_object(path), source=str(path))
    for name in ("detected_real", "thin_to", "fluxes"):
        if getattr(aimed, name) != getattr(found, name):
            logger.warning(
                "simulator.args.population.observed.%s is %s, that of the observed sample %s: set "
                "population.observed to %s",
                *(name, getattr(aimed, name), getattr(found, name), path),
            )


def _simulate(
    plan: SimulatorPlan, truth: Mapping[str, float], root_seed: int, folder: Path
) -> Path:
    simulator = load(str(plan.block["type"]), plan.block["args"])
    theta = np.array([truth[label] for label in plan.labels])
    seed = seed_sequence(root_seed, Purpose.OBSERVED, 0)
    with foreign_code(f"observed_sample.synthetic.theta: {dict(truth)} cannot be simulated"):
        try:
            simulation = simulate(simulator, theta, seed, detailed=True)
        except SimulationFailed as error:
            raise ConfigError(
                f"observed_sample.synthetic.theta: {dict(truth)} has no observation: {error}"
            ) from None
    known = ", ".join(f"{label} {value:g}" for label, value in truth.items())
    logger.info("observed sample: simulated, of known truth: %s", known)
    labels = plan.labels if plan.generator is None else OBSERVED_LABELS
    maps = by_channel(simulation.x, plan.channels)
    write_observed_details(folder, simulation.details)
    return write_synthetic_observed(folder, maps, truth, plan.generator, labels=labels)


def _read_index(
    config: SbiConfig, csv: Path, channels: tuple[str, ...], x_shape: tuple[int, ...] | None
) -> Observations:
    number = config.training_data_loader.num_counts
    filters: Sequence[int | str] = channels
    if config.observed_sample.filter_inputs is not None:
        # of counts, which have names alone here, nothing else can be chosen
        counts = channels[len(channels) - number :]
        filters = (*config.observed_sample.filter_inputs, *counts)
    sample = load_observed(csv, filter_inputs=filters, numbers=number)
    if sample.channels != channels:
        raise DataError(
            f"{csv}: observed_sample.filter_inputs selects {', '.join(sample.channels)}, the "
            f"training set has {', '.join(channels)}"
        )
    return _checked(config, sample.x[0], x_shape, str(csv))


def _read_array(config: SbiConfig, path: Path, x_shape: tuple[int, ...] | None) -> Observations:
    place = f"observed_sample.path: {path}"
    try:
        x = read_npy(path)
    except FileNotFoundError:
        raise DataError(f"{place}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{place}: cannot be read: {error}") from None
    if x.dtype.kind not in "fiub" or not np.isfinite(x).all():
        fault = "NaN or infinity" if x.dtype.kind == "f" else f"type {x.dtype}"
        raise DataError(f"{place}: must hold finite numbers, found {fault}")
    if is_beyond(x):
        raise DataError(f"{place}: has {BEYOND}")
    return _checked(config, as_numbers(x), x_shape, place)


def _checked(
    config: SbiConfig, x: Observations, x_shape: tuple[int, ...] | None, source: str
) -> Observations:
    check_shape(config, x.shape, source)
    if x_shape is not None and x.shape != x_shape:
        raise DataError(
            f"{source}: has shape {list(x.shape)}, one x of the training set has {list(x_shape)}"
        )
    return x


def _kept(x: Observations, problem: LearningProblem) -> Observations:
    """Return x as float32, unless that loses what varies in the simulations."""
    return x if problem.preprocessing.units is not None else x.astype(np.float32)


def _truth(folder: Path, labels: tuple[str, ...]) -> dict[str, float] | None:
    """Return the true theta of a synthetic sample, if it is known in full."""
    path = folder / TRUTH_JSON
    theta = read_json_object(path) if path.is_file() else {}
    if not all(isinstance(theta.get(label), int | float) for label in labels):
        return None
    return {label: float(theta[label]) for label in labels}
