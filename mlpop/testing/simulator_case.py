"""The simulator under test, and its simulations of a few theta of the prior."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

from mlpop.compute.backends.base import describe
from mlpop.compute.seeds import Purpose, seed_sequence
from mlpop.errors import ConfigError, MlpopError, SimulationFailed
from mlpop.simulators.base import Simulation, Simulator, load
from mlpop.simulators.outputs import by_channel
from mlpop.testing.conformance import ConformanceError

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class SimulatorCase:
    """What `check_simulator` is told; its arguments are explained there.

    Raises:
        ConfigError: the block builds no simulator, or the arguments contradict each other.
    """

    simulator: Simulator | Mapping[str, Any]
    low: Sequence[float]
    high: Sequence[float]
    failing: Sequence[float] | None = None
    stochastic: bool = True
    num_theta: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_theta < 2:
            raise ConfigError(f"num_theta must be at least 2, but got {self.num_theta}")
        if len(self.low) != len(self.high) or not np.less(self.low, self.high).all():
            raise ConfigError(f"low {self.low} must be below high {self.high}, label by label")
        if self.failing is not None and (
            len(self.failing) != len(self.low) or not np.isfinite(self.failing).all()
        ):
            raise ConfigError(
                f"failing must be {len(self.low)} finite numbers, found {self.failing}; campaigns "
                "refuse any other theta before they start"
            )

    @cached_property
    def subject(self) -> Simulator:
        """The simulator."""
        if isinstance(self.simulator, Mapping):
            return load(self.simulator["type"], self.simulator.get("args"))
        return self.simulator

    @property
    def name(self) -> str:
        """What to call it in a message."""
        if isinstance(self.simulator, Mapping):
            return str(self.simulator["type"])
        return type(self.simulator).__name__

    @cached_property
    def theta(self) -> NDArray[np.float64]:
        """(num_theta, D) draws from the prior; reading only."""
        unit = np.random.default_rng(SeedSequence(self.seed)).random(
            (self.num_theta, len(self.low))
        )
        low, high = np.array(self.low), np.array(self.high)
        values = np.asarray(low + unit * (high - low))
        values.flags.writeable = False
        return values

    def seed_of(self, number: int) -> SeedSequence:
        """Return a new object with the seed of simulation `number`, as a campaign makes it."""
        return seed_sequence(self.seed, Purpose.SIMULATION_TRAINING, 0, number)

    @cached_property
    def simulations(self) -> dict[int, Simulation]:
        """By row of `theta`, with the seed of that number; without those that failed.

        Raises:
            ConformanceError: two could not be made, or something else went wrong in one.
        """
        made, failures = {}, []
        for number, theta in enumerate(self.theta):
            try:
                made[number] = _copied(self.subject(theta.copy(), self.seed_of(number)))
            except SimulationFailed as error:
                failures.append(str(error))
            except MlpopError:
                raise
            except Exception as error:
                raise ConformanceError(
                    f"theta {theta.tolist()} of the prior raises {describe(error)}; a theta "
                    "without an observation must raise SimulationFailed"
                ) from error
        if len(made) < 2:
            raise ConformanceError(
                f"only {len(made)} of {self.num_theta} theta of the prior have an observation, "
                f"the checks need 2: {failures[-1]}; choose edges inside which most simulations "
                "succeed"
            )
        return made

    @cached_property
    def x(self) -> dict[int, Arrays]:
        """Array by channel of every one of `simulations`."""
        return {number: self.arrays(simulation) for number, simulation in self.simulations.items()}

    def arrays(self, simulation: Simulation) -> Arrays:
        """Return array by channel of one simulation.

        Raises:
            ConformanceError: it is no `Simulation`, or a channel is missing.
        """
        if not isinstance(simulation, Simulation):
            raise ConformanceError(
                f"a call must return mlpop.simulators.Simulation, found "
                f"{type(simulation).__name__}"
            )
        try:
            return by_channel(simulation.x, self.subject.channels)
        except (MlpopError, TypeError) as error:
            raise ConformanceError(str(error)) from error

    def simulate(self, number: int, *, seed: int | None = None) -> Arrays:
        """Simulate row `number` of `theta` again, with its seed or that of another number.

        Raises:
            ConformanceError: it fails where it succeeded before.
        """
        theta = self.theta[number].copy()
        try:
            return self.arrays(self.subject(theta, self.seed_of(number if seed is None else seed)))
        except ConformanceError:
            raise
        except Exception as error:
            raise ConformanceError(
                f"theta {theta.tolist()} was simulated before, now it raises {describe(error)}"
            ) from error


def same_bits(first: Arrays, second: Arrays) -> bool:
    """Tell whether channels, dtypes, shapes and all bits agree (NaN equals NaN)."""
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def _copied(simulation: Simulation) -> Simulation:
    """Keep what was returned, also if the simulator writes into it later."""
    if not isinstance(simulation, Simulation):
        return simulation
    x = simulation.x
    if isinstance(x, Mapping):
        return Simulation({name: np.array(values) for name, values in x.items()}, simulation.info)
    return Simulation(np.array(x), simulation.info)
