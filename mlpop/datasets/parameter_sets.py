"""Sets of parameters to simulate: a grid, or points drawn in a box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from mlpop.config.files.simulate import SamplingType, sampling_problems
from mlpop.errors import ConfigError
from mlpop.io.files import write_csv


@dataclass(frozen=True)
class ParameterSets:
    """Parameters (N, D) of N simulations in physical units, and their D names."""

    labels: tuple[str, ...]
    theta: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.theta)


def sample_parameters(
    sampling_type: SamplingType,
    parameters: Mapping[str, Sequence[float]],
    rng: np.random.Generator,
    *,
    sampling_size: int | None = None,
) -> ParameterSets:
    """Parameter sets of one kind.

    Args:
        sampling_type: `grid` (Cartesian product, the last parameter runs fastest), `random`
            (independent uniform draws), `lhs` (Latin hypercube), `sobol` (scrambled Sobol), or
            `list` (the values themselves, set by set).
        parameters: `[low, high, steps]` by label for a grid, the values for a list, `[low, high]`
            for the others.
        rng: source of the draws; a grid and a list do not use it.
        sampling_size: number of sets; not for a grid or a list.

    Raises:
        ConfigError: wrong number of values, `low >= high`, or `sampling_size` missing or given
            to a grid.

    References:
        McKay, Beckman & Conover 1979, Technometrics 21, 239 (Latin hypercube);
        Owen 1998, ACM TOMACS 8, 71 (scrambled Sobol points).
    """
    if problems := list(sampling_problems(sampling_type, parameters, sampling_size)):
        raise ConfigError("\n".join(f"{field}: {message}" for field, message in problems))
    labels = tuple(parameters)
    if sampling_type == "grid":
        axes = [np.linspace(low, high, int(steps)) for low, high, steps in parameters.values()]
        return ParameterSets(labels, np.array(list(product(*axes)), dtype=np.float64))
    if sampling_type == "list":
        return ParameterSets(labels, np.array(list(parameters.values()), dtype=np.float64).T)
    low = np.array([values[0] for values in parameters.values()], dtype=np.float64)
    high = np.array([values[1] for values in parameters.values()], dtype=np.float64)
    size = sampling_size or 0
    if sampling_type == "random":
        unit = rng.random((size, len(labels)))
    elif sampling_type == "lhs":
        unit = qmc.LatinHypercube(len(labels), rng=rng).random(size)
    else:
        power = max(size - 1, 0).bit_length()
        unit = qmc.Sobol(len(labels), rng=rng).random_base2(power)[:size]
    return ParameterSets(labels, low + unit * (high - low))


def write_parameter_sets(path: Path, sets: ParameterSets, seeds: Sequence[int | str]) -> None:
    """Write `parameter_sets.csv`: index, values, seed of each simulation.

    Raises:
        ConfigError: the number of seeds differs from the number of sets.
    """
    if len(seeds) != len(sets):
        raise ConfigError(f"{len(seeds)} seeds for {len(sets)} parameter sets")
    rows = [
        [index, *(float(value) for value in values), seed]
        for index, (values, seed) in enumerate(zip(sets.theta, seeds, strict=True))
    ]
    write_csv(path, ["index", *sets.labels, "seed"], rows)
