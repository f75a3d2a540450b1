"""What a round gave, and what the next one needs of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlpop.experiment.diagnostics import table
from mlpop.experiment.diagnostics.diagnostic import Finding, Verdict
from mlpop.experiment.inputs.observed import ObservedSample
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.simulations.simulated_set import SuppliedSet
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.proposals.truncation import Support
from mlpop.tracking import Estimate

HEADLINE = ("sim/failed_fraction", "sim/seconds", "val/best_loss", "proposal/acceptance")


@dataclass(frozen=True)
class RoundResult:
    """What a round gave.

    Attributes:
        number: of the round, from 0.
        problem: labels, channels, prior and scaling, the same in every round.
        observed: x_o, the same in every round.
        members: folder of every member's network.
        support: where its theta come from, of a truncated prior; None is anywhere in the prior.
        sets: `training` and, with testing, `test` -> simulations of this round; without those
            that an earlier launch made and no later round needs.
        estimates: the posterior at x_o, label by label.
        findings: diagnostic -> what it says of the posterior.
        numbers: main numbers, by the name they have in MLflow.
        member_runs: name -> run id.
    """

    number: int
    run_id: str
    problem: LearningProblem
    observed: ObservedSample
    posterior: Posterior
    members: tuple[Path, ...]
    sets: Mapping[str, SuppliedSet]
    estimates: Sequence[Estimate]
    findings: Mapping[str, Finding]
    numbers: Mapping[str, float]
    member_runs: Mapping[str, str] = field(default_factory=dict)
    support: Support | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the posterior can be trusted."""
        return table.decide(self.findings)

    @property
    def num_tests(self) -> int:
        """Tests that the verdict is based on."""
        return max((finding.num_tests for finding in self.findings.values()), default=0)

    @property
    def sentences(self) -> list[str]:
        """What its diagnostics tell in words."""
        return [text for finding in self.findings.values() for text in finding.sentences]

    @property
    def columns(self) -> dict[str, Mapping[str, str]]:
        """What its diagnostics add to the table of estimates: title -> label -> text."""
        return {
            title: texts
            for finding in self.findings.values()
            for title, texts in finding.columns.items()
        }

    @property
    def headline(self) -> dict[str, float]:
        """The few numbers by which experiments are compared."""
        compared = (*HEADLINE, *table.headline())
        return {
            name: value
            for name, value in self.numbers.items()
            if name in compared or name.endswith("/median")
        }
