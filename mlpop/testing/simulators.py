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
from mlpop.testing.conformance import add_tests, run_all
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
        simulator, low, high, failing, stochastic=stochastic, num_theta=num_theta, seed=seed
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
                own.simulator, own.low, own.high, own.failing, stochastic=own.stochastic
            )
        return own._case

    def _run(self, check: Callable[[SimulatorCase], None]) -> None:
        check(self.case())


add_tests(SimulatorSuite, SIMULATOR_CHECKS)
