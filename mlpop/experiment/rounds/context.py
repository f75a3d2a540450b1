"""What all steps of one launch of an experiment share, and all steps of one of its rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from mlpop.compute import Backend
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.output_tree import OutputTree, RoundFolders
from mlpop.experiment.profile import Profiler
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.simulations.ahead import Ahead
from mlpop.experiment.simulations.simulated_set import SimulatorPlan
from mlpop.inference.proposals.proposal import Proposal
from mlpop.networks.device import network_device
from mlpop.population.stars.database import StellarDatabase
from mlpop.tracking import Node, TrackedRun


@dataclass(frozen=True)
class Launch:
    """What all steps of a launch share.

    Attributes:
        root_seed: every random bit comes from it.
        plan: what simulates; None where all data are given.
        stars: the stellar database; None where nothing is simulated from one.
        run: the experiment's run.
        lineage: what earlier launches of the experiment have done.
        ahead: simulates the next round in the background; None where nothing is to be.
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
    ahead: Ahead | None = None
    proposals: dict[int, Proposal] = field(default_factory=dict)

    @cached_property
    def device(self) -> torch.device:
        """Where networks learn and posteriors are drawn."""
        return network_device(self.config.n_gpu)


@dataclass(frozen=True)
class OpenRound:
    """A round that is being run.

    Attributes:
        number: of the round, from 0.
        run: its MLflow run.
        past: results of all rounds before it.
        earlier: a run of this round that an earlier launch left unfinished: its theta, shards,
            compressor, complete members and checkpoints are taken over.
    """

    launch: Launch
    number: int
    run: TrackedRun
    past: Sequence[RoundResult] = ()
    earlier: Node | None = None

    @property
    def previous(self) -> RoundResult | None:
        """The round before, whose posterior proposes theta; None for round 0."""
        return self.past[-1] if self.past else None

    @property
    def is_last(self) -> bool:
        """Whether no round is to follow."""
        return self.number == self.launch.config.trainer.num_rounds - 1

    @property
    def folders(self) -> RoundFolders:
        """Where its files lie."""
        return self.launch.tree.round(self.number)
