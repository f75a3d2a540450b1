"""Does a simulator do what mlpop relies on? A function to call, and a class for pytest.

from mlpop.testing import SimulatorSuite

class TestPulseProfile(SimulatorSuite):
    simulator = {"type": "pulse_profile:PulseProfile", "args": {"bins": 16}}
    low, high = (0.2, -1.3), (0.8, -0.5)
    failing = (0.5, 0.1)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from mlpop.simulators.base import Simulator
from mlpop.testing import simulator_checks as checks
from mlpop.testing.conformance import run_all
from mlpop.testing.simulator_case import SimulatorCase
from mlpop.testing.simulator_workers import check_campaign, check_worker

SIMULATOR_CHECKS: Mapping[str, Callable[[SimulatorCase], None]] = {
    "names": checks.check_names,
    "observation": checks.check_observation,
    "info": checks.check_info,
    "same seed": checks.check_same_seed,
    "different seeds": checks.check_different_seeds,
    "theta matters": checks.check_theta_matters,
    "theta unchanged": checks.check_theta_unchanged,
    "own memory": checks.check_own_memory,
    "random state": checks.check_random_state,
    "failures": checks.check_failures,
    "worker": check_worker,
    "campaign": check_campaign,
}
"""Every promise of a simulator that mlpop relies on, by name."""


def check_simulator(
    simulator: Simulator | Mapping[str, Any],
    low: Sequence[float],
    high: Sequence[float],
    *,
    failing: Sequence[float] | None = None,
    stochastic: bool = True,
    num_theta: int = 4,
    seed: int = 0,
) -> None:
    """Run every check of `SIMULATOR_CHECKS`; costs about 8 `num_theta` simulations.

    Args:
        simulator: the simulator, or the `simulator` block that builds it: type and args.
        low: (D,) lower edges of the prior, physical units.
        high: (D,) upper edges.
        failing: (D,) theta that has no observation, where there is one.
        stochastic: False if x does not depend on the seed at all.
        num_theta: how many theta are drawn from the prior, at least 2.
        seed: of these draws and of the simulations.

    Raises:
        ConformanceError: some checks failed; the message has one line for each.
        ConfigError: the block does not build a simulator.
    """
    case = SimulatorCase(
        simulator,
        tuple(low),
        tuple(high),
        failing=None if failing is None else tuple(failing),
        stochastic=stochastic,
        num_theta=num_theta,
        seed=seed,
    )
    _ = case.subject
    run_all(f"simulator {case.name}", SIMULATOR_CHECKS, case)


class SimulatorSuite:
    """One pytest test for every check: name a subclass `Test...` and set these attributes.

    Attributes:
        simulator: the simulator, or the `simulator` block that builds it.
        low: (D,) lower edges of the prior.
        high: (D,) upper edges.
        failing: (D,) theta that has no observation, where there is one.
        stochastic: False if x does not depend on the seed at all.
    """

    simulator: ClassVar[Simulator | Mapping[str, Any]]
    low: ClassVar[Sequence[float]]
    high: ClassVar[Sequence[float]]
    failing: ClassVar[Sequence[float] | None] = None
    stochastic: ClassVar[bool] = True
    _case: ClassVar[SimulatorCase]

    def case(self) -> SimulatorCase:
        """Return what is checked; made once, so that all tests share its simulations."""
        own = type(self)
        if "_case" not in own.__dict__:
            own._case = SimulatorCase(
                own.simulator,
                tuple(own.low),
                tuple(own.high),
                failing=None if own.failing is None else tuple(own.failing),
                stochastic=own.stochastic,
            )
        return own._case

    def test_names(self) -> None:
        """Labels and channels are names that files and columns can have."""
        checks.check_names(self.case())

    def test_observation(self) -> None:
        """Every x has all channels, one shape, and finite numbers."""
        checks.check_observation(self.case())

    def test_info(self) -> None:
        """What is recorded beside x can be written as JSON."""
        checks.check_info(self.case())

    def test_same_seed_same_bits(self) -> None:
        """Theta and seed decide x."""
        checks.check_same_seed(self.case())

    def test_different_seeds_differ(self) -> None:
        """The noise comes from the seed."""
        checks.check_different_seeds(self.case())

    def test_theta_matters(self) -> None:
        """X depends on theta."""
        checks.check_theta_matters(self.case())

    def test_theta_is_not_changed(self) -> None:
        """The caller's theta is left alone."""
        checks.check_theta_unchanged(self.case())

    def test_every_x_has_its_own_memory(self) -> None:
        """The next simulation does not overwrite this one."""
        checks.check_own_memory(self.case())

    def test_global_random_state_is_not_used(self) -> None:
        """Nobody else's random numbers are drawn or reseeded."""
        checks.check_random_state(self.case())

    def test_failures_are_reported(self) -> None:
        """A theta without an observation raises `SimulationFailed`."""
        checks.check_failures(self.case())

    def test_pickles_to_a_worker(self) -> None:
        """A worker process gives the same bits."""
        check_worker(self.case())

    def test_campaign(self) -> None:
        """A campaign in a worker writes the same bits, and a row for every failure."""
        check_campaign(self.case())
