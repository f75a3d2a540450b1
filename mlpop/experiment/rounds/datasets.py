"""The datasets of a round: given by the user, or simulated from the prior or the proposal."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Progress, Purpose, seed_sequence
from mlpop.config.blocks.data import TestDataConfig, TrainingDataConfig
from mlpop.config.fields import S3Uri
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.layout import FULL_CSV, FULL_STATISTICS, GENERATOR_JSON, MANIFEST_CSV
from mlpop.datasets.loading import Dataset, load_dataset
from mlpop.datasets.mirror import localized
from mlpop.errors import DataError
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.output_tree import dataset_csv
from mlpop.experiment.resume.download import restore_shards
from mlpop.experiment.rounds.context import Launch
from mlpop.experiment.rounds.proposals import prior_theta, proposed
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.simulations.simulated_set import (
    SuppliedSet,
    given_set,
    place_of_set,
    set_key,
    simulate_set,
)
from mlpop.io.files import write_array
from mlpop.tracking import Node, TrackedRun
from mlpop.tracking.artifacts import fetched
from mlpop.tracking.uploads import Uploader

PROPOSAL_JSON = "proposal.json"
THETA = "theta.npy"


@dataclass(frozen=True)
class RoundSets:
    """The simulations of one round.

    Attributes:
        training: what the networks learn from.
        test: what coverage is measured on; None without testing.
        proposal: `proposal.json` of rounds after the first: how theta were drawn.
    """

    training: SuppliedSet
    test: SuppliedSet | None
    proposal: dict[str, float | str | int | None]

    @property
    def supplied(self) -> dict[str, SuppliedSet]:
        """`training` and, with testing, `test` -> its simulations."""
        tests = {} if self.test is None else {"test": self.test}
        return {"training": self.training, **tests}


@dataclass(frozen=True)
class SetKind:
    """What training and test sets differ in.

    Attributes:
        use: `training` or `test`; also the folder among the artifacts of a round.
        theta: purpose of the draws from the prior.
        simulation: purpose of the seeds of simulations.
    """

    use: Literal["training", "test"]
    theta: Purpose
    simulation: Purpose

    def loader(self, config: SbiConfig) -> TrainingDataConfig | TestDataConfig:
        """Return the block of the configuration."""
        if self.use == "training":
            return config.training_data_loader
        return config.test_data_loader


TRAINING = SetKind("training", Purpose.PRIOR, Purpose.SIMULATION_TRAINING)
TEST = SetKind("test", Purpose.TEST_THETA, Purpose.SIMULATION_TEST)


def load_round_set(csv: Path, problem: LearningProblem) -> Dataset:
    """Load a set with the channels and labels that were chosen in the set of round 0.

    Raises:
        DataError: the file lacks a label or a channel, or is broken.
    """
    return load_dataset(csv, filter_inputs=problem.channels, filter_labels=problem.prior.labels)


def supply(
    launch: Launch,
    round_: int,
    run: TrackedRun,
    previous: RoundResult | None = None,
    earlier: Node | None = None,
) -> RoundSets:
    """Return the training set of a round and, with testing, its test set.

    Args:
        launch, round_, run: of the experiment and of the round.
        previous: the round before, whose posterior proposes theta; None for round 0.
        earlier: an unfinished run of this round, whose theta and shards are taken over.

    Raises:
        DataError: a given set is broken, or too few simulations succeed.
        SamplingError: the proposal cannot be drawn from within its budget.
        ComputeError: the simulations cannot be run.
    """
    source = _Source(launch, round_, run, previous, earlier)
    training = source.set(TRAINING)
    test = source.set(TEST) if launch.config.test_data_loader.testing else None
    return RoundSets(training, test, source.proposal)


def supply_test(
    launch: Launch, round_: int, run: TrackedRun, previous: RoundResult | None
) -> SuppliedSet:
    """Return the test set of a round alone; arguments and errors are those of `supply`."""
    return _Source(launch, round_, run, previous, None).set(TEST)


def place(
    launch: Launch, kind: SetKind, round_: int, theta: NDArray[np.float64]
) -> tuple[Path, S3Uri | None]:
    """Return where a simulated set lies, see `place_of_set`; others have another place."""
    assert launch.plan is not None
    config = launch.config
    key = set_key(launch.plan, theta, launch.root_seed, kind.simulation, round_)
    fallback = config.trainer.save_dir / "data" / f"{kind.use}_dataset"
    return place_of_set(kind.loader(config).dataset_path, fallback, round_, key)


@dataclass
class _Source:
    """Makes the sets of one round; arguments are those of `supply`."""

    launch: Launch
    round: int
    run: TrackedRun
    previous: RoundResult | None
    earlier: Node | None
    proposal: dict[str, float | str | int | None] = field(default_factory=dict)

    def set(self, kind: SetKind) -> SuppliedSet:
        """Return the set: given, found from an earlier launch, or simulated."""
        launch, config, round_, run = self.launch, self.launch.config, self.round, self.run
        loader = kind.loader(config)
        if round_ == 0 and not loader.simulate:
            assert loader.dataset_path_round_0 is not None
            return given_set(dataset_csv(localized(loader.dataset_path_round_0)))
        assert launch.plan is not None
        stored = self._stored(kind)
        theta = self._drawn(kind, loader.num_sim) if stored is None else stored
        folder, remote = place(launch, kind, round_, theta)
        write_array(folder / THETA, theta)
        if stored is None:
            self._store(kind, folder / THETA, theta)
        elif self.earlier is not None:
            store = launch.lineage.store
            run.records.update(restore_shards(store, self.earlier.run_id, kind.use, folder))

        curve = f"sim/{kind.use}_done"
        first_step = 0 if self.earlier is None else launch.lineage.steps(self.earlier, curve)

        def tell(progress: Progress, seconds: float) -> None:
            if progress.shard is not None:
                run.curves.append(curve, progress.done, step=first_step + round(seconds))

        with (
            launch.profiler.section(f"SimulatingRound{round_}{kind.use.capitalize()}"),
            Uploader(run) as uploads,
        ):
            return simulate_set(
                launch.plan,
                theta,
                folder,
                launch.backend,
                root_seed=launch.root_seed,
                purpose=kind.simulation,
                round_=round_,
                compute=config.compute,
                min_success_fraction=config.trainer.min_success_fraction,
                title=f"round {round_}: {kind.use} simulations",
                on_progress=tell,
                on_shard=lambda record: uploads.send_shard(kind.use, folder, record),
                remote=remote,
            )

    def _drawn(self, kind: SetKind, count: int) -> NDArray[np.float64]:
        """Return new theta (count, D), physical units."""
        launch, previous = self.launch, self.previous
        if previous is None:
            seed = seed_sequence(launch.root_seed, kind.theta, self.round)
            return prior_theta(launch.config, count, seed)
        draw = proposed(launch, previous, self.round, kind.use, count)
        if kind is TRAINING:
            self.proposal = draw.to_dict()
        return previous.problem.prior.to_physical(draw.theta)

    def _store(self, kind: SetKind, path: Path, theta: NDArray[np.float64]) -> None:
        """Store theta in the run before anything is simulated."""
        if self.proposal and kind is TRAINING:
            self.run.send_json(PROPOSAL_JSON, self.proposal)
        self.run.send(path, f"{kind.use}/{THETA}")
        # says that the file arrived whole: there is no manifest yet
        self.run.set_tags({_tag(kind): _digest(theta)})

    def _stored(self, kind: SetKind) -> NDArray[np.float64] | None:
        """Return theta that an earlier launch stored, if they are whole."""
        lineage, earlier = self.launch.lineage, self.earlier
        name = f"{kind.use}/{THETA}"
        if earlier is None or _tag(kind) not in earlier.tags or not lineage.has(earlier, name):
            return None
        with fetched(lineage.store.client, earlier.run_id, name) as path:
            try:
                theta: NDArray[np.float64] = np.load(path, allow_pickle=False)
            except (ValueError, EOFError):
                return None
        if _digest(theta) != earlier.tags[_tag(kind)]:
            return None
        if self.previous is not None and kind is TRAINING:
            self.proposal = lineage.json(earlier, PROPOSAL_JSON)
            self.run.keep(PROPOSAL_JSON)
        self.run.keep(name)
        return theta


def joined(sets: Sequence[Dataset]) -> Dataset:
    """Return the rows of all sets as one.

    Raises:
        DataError: a set has other labels or channels than the first one.
    """
    first = sets[0]
    for data in sets:
        if (data.labels, data.channels) != (first.labels, first.channels):
            raise DataError(
                f"{data.source}: has labels {', '.join(data.labels)} and channels "
                f"{', '.join(data.channels)}, unlike {first.source}"
            )
    if len(sets) == 1:
        return first
    return replace(
        first,
        theta=np.concatenate([data.theta for data in sets]),
        x=np.concatenate([data.x for data in sets]),
    )


def dataset_files(kind: str, supplied: SuppliedSet) -> dict[str, Path]:
    """Return artifact name -> file of what describes a set; its shards are sent one by one."""
    names = (FULL_CSV, MANIFEST_CSV, FULL_STATISTICS, GENERATOR_JSON)
    folder = supplied.csv.parent
    return {f"{kind}/{name}": folder / name for name in names if (folder / name).is_file()}


def _tag(kind: SetKind) -> str:
    return f"mlpop.theta_{kind.use}"


def _digest(theta: NDArray[np.float64]) -> str:
    content = np.ascontiguousarray(theta, "<f8").tobytes()
    return hashlib.sha256(str(theta.shape).encode() + content).hexdigest()
