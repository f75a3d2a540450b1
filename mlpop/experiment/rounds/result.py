"""What a round gave, and what the next one needs of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.tracking import Estimate

HEADLINE = (
    "sim/failed_fraction",
    "sim/seconds",
    "val/best_loss",
    "proposal/acceptance",
    "coverage/ece",
    "coverage/ks",
    "coverage/gain_nat",
)


@dataclass(frozen=True)
class RoundResult:
    """What a round gave.

    Attributes:
        number: of the round, from 0.
        run_id: its MLflow run.
        problem: labels, channels, prior and scaling, the same in every round.
        observed: x_o, the same in every round.
        posterior: the ensemble's.
        members: folder of every member's network.
        training: the simulations of this round; None where an earlier launch made them and no
            later round needs them.
        test: its test simulations, likewise; None without testing.
        estimates: the posterior at x_o, label by label.
        verdict: whether its credible regions can be trusted; empty without testing.
        num_tests: tests that the verdict is based on.
        numbers: main numbers, by the name they have in MLflow.
        member_runs: name -> run id.
    """

    number: int
    run_id: str
    problem: LearningProblem
    observed: ObservedSample
    posterior: Posterior
    members: tuple[Path, ...]
    training: SuppliedSet | None
    test: SuppliedSet | None
    estimates: Sequence[Estimate]
    verdict: str
    num_tests: int
    numbers: Mapping[str, float]
    member_runs: Mapping[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> dict[str, float]:
        """The few numbers by which experiments are compared."""
        return {
            name: value
            for name, value in self.numbers.items()
            if name in HEADLINE or name.endswith("/median")
        }
