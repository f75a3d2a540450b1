"""What all steps of one launch of an experiment share."""

from dataclasses import dataclass, field

from mlpop.compute import Backend
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.profile import Profiler
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.simulations.simulated_set import SimulatorPlan
from mlpop.inference.proposals.proposal import Proposal
from mlpop.population.stars.database import StellarDatabase
from mlpop.tracking import TrackedRun


@dataclass(frozen=True)
class Launch:
    """What all steps of a launch share.

    Attributes:
        config: the experiment.
        root_seed: every random bit comes from it.
        backend: who simulates and trains.
        plan: what simulates; None where all data are given.
        stars: the stellar database; None where nothing is simulated from one.
        tree: the documented folders.
        profiler: times.
        run: the experiment's run.
        lineage: what earlier launches of the experiment have done.
        proposals: of the rounds that were asked for so far: each is found once.
    """

    config: SbiConfig
    root_seed: int
    backend: Backend
    plan: SimulatorPlan | None
    stars: StellarDatabase | None
    tree: OutputTree
    profiler: Profiler
    run: TrackedRun
    lineage: Lineage
    proposals: dict[int, Proposal] = field(default_factory=dict)
