"""The datasets of a round: given by the user, or simulated from the prior or the proposal."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpop.compute import Progress, Purpose, seed_sequence
from mlpop.config.blocks.data import TestDataConfig, TrainingDataConfig
from mlpop.config.fields import Location, S3Uri
from mlpop.config.files.sbi import SbiConfig
from mlpop.datasets.layout import FULL_CSV, FULL_STATISTICS, GENERATOR_JSON, MANIFEST_CSV, THETA
from mlpop.datasets.loading import Dataset, load_dataset
from mlpop.datasets.remote.mirror import localized
from mlpop.datasets.shards import ShardRecord
from mlpop.errors import DataError, MlpopError
from mlpop.experiment.inputs.problem import LearningProblem
from mlpop.experiment.output_tree import PROPOSAL_JSON, dataset_csv
from mlpop.experiment.resume.download import restore_shards
from mlpop.experiment.rounds.context import Launch, OpenRound
from mlpop.experiment.rounds.learned_region import in_prior
from mlpop.experiment.rounds.proposals import prior_theta, proposed
from mlpop.experiment.rounds.result import RoundResult
from mlpop.experiment.simulations.ahead import SetToMake
from mlpop.experiment.simulations.pace import Pace
from mlpop.experiment.simulations.simulated_set import (
    SuppliedSet,
    given_set,
    place_of_set,
    set_key,
    simulate_set,
)
from mlpop.io.files import json_digest, write_array
from mlpop.io.records import BrokenRecord, read_numbers
from mlpop.io.scratch import together
from mlpop.tracking.artifacts import fetched
from mlpop.tracking.uploads import Uploader

logger = logging.getLogger(__name__)

PROPOSAL_TAG = "mlflow.mlpop.proposal_digest"

Proposed = dict[str, float | str | int | None]


@dataclass(frozen=True)
class SetKind:
    """What training and test sets differ in, and sets that diagnostics ask for.

    Attributes:
        use: `training`, `test` or another; also the folder among the artifacts of a round.
        theta: purpose of the draws from the prior, or from the posterior.
        simulation: purpose of the seeds of simulations.
    """

    use: str
    theta: Purpose
    simulation: Purpose

    def loader(self, config: SbiConfig) -> TrainingDataConfig | TestDataConfig:
        """Return the block of the configuration."""
        if self.use == "training":
            return config.training_data_loader
        return config.test_data_loader

    def root(self, config: SbiConfig) -> Location | None:
        """Return where the configuration wants simulated sets; others lie beside the tests."""
        root = self.loader(config).dataset_path
        return root if root is None or self in (TRAINING, TEST) else root / self.use


TRAINING = SetKind("training", Purpose.PRIOR, Purpose.SIMULATION_TRAINING)
TEST = SetKind("test", Purpose.TEST_THETA, Purpose.SIMULATION_TEST)


def load_sets(
    current: OpenRound, kind: SetKind, sets: Mapping[str, SuppliedSet], problem: LearningProblem
) -> dict[int, Dataset]:
    """Return round -> simulations of all rounds that this one learns from, or is tested on.

    They have the channels and labels that were chosen in the set of round 0. `sets` are those of
    this round, which comes last.

    Raises:
        DataError: a file lacks a label or a channel, or is broken.
    """
    past = current.past if current.launch.config.trainer.append_simulations else ()
    rounds = {result.number: result.sets for result in past} | {current.number: sets}
    loaded = {
        number: load_dataset(
            supplied[kind.use].csv,
            filter_inputs=problem.channels,
            filter_labels=problem.prior.labels,
            numbers=problem.preprocessing.num_counts,
        )
        for number, supplied in rounds.items()
        if kind.use in supplied
    }
    if kind is not TRAINING:
        return loaded
    return {number: in_prior(problem.prior, data) for number, data in loaded.items()}


def set_kinds(config: SbiConfig) -> Sequence[SetKind]:
    """Return the kinds of sets that a round has."""
    return (TRAINING, TEST) if config.test_data_loader.testing else (TRAINING,)


def supply(
    current: OpenRound, kinds: Sequence[SetKind]
) -> tuple[dict[str, SuppliedSet], Proposed]:
    """Give, or simulate, sets of a round.

    Returns:
        `training` or `test` -> its simulations; and `proposal.json` of rounds after the first:
        how theta of the training set were drawn.

    Raises:
        DataError: a given set is broken, or too few simulations succeed.
        SamplingError: the proposal cannot be drawn from within its budget.
        ComputeError: the simulations cannot be run.
    """
    source = _Source(current)
    return {kind.use: source.set(kind) for kind in kinds}, source.proposal


def supply_at(
    current: OpenRound, kind: SetKind, theta: NDArray[np.float64], problem: LearningProblem
) -> tuple[SuppliedSet, Dataset]:
    """Simulate a set at `theta` (n, D), physical units, and load what succeeded.

    Raises:
        DataError: no simulation succeeded.
        ComputeError: the simulations cannot be run.
    """
    supplied = _Source(current).simulated(kind, len(theta), lambda: theta, 0.0)
    data = load_dataset(
        supplied.csv,
        filter_inputs=problem.channels,
        filter_labels=problem.prior.labels,
        numbers=problem.preprocessing.num_counts,
    )
    return supplied, data


def simulate_ahead(launch: Launch, trained: RoundResult) -> None:
    """Begin the simulations of the next round in the background, now that its proposal is known.

    They have the bits that they would have without it. Nothing is begun after the last round,
    without workers, and where an earlier launch has stored theta of the next round. What goes
    wrong before the simulations begin is left to that round, which meets it again.
    """
    config, round_ = launch.config, trained.number + 1
    if launch.ahead is None or round_ == config.trainer.num_rounds:
        return
    if launch.lineage.round(round_) is not None:
        return
    sets = {}
    try:
        for kind in set_kinds(config):
            count = kind.loader(config).num_sim
            theta, proposal = _proposed_theta(launch, trained, kind, count)
            fraction = config.trainer.min_success_fraction
            sets[kind.use] = _set_to_make(launch, kind, round_, theta, fraction, proposal)
    except MlpopError as error:
        logger.debug("round %d is not simulated ahead: %s", round_, error)
        return
    launch.ahead.begin(round_, sets)


def place(
    launch: Launch, kind: SetKind, round_: int, theta: NDArray[np.float64]
) -> tuple[Path, S3Uri | None]:
    """Return where a simulated set lies, see `place_of_set`; others have another place."""
    assert launch.plan is not None
    config = launch.config
    key = set_key(launch.plan, theta, launch.root_seed, kind.simulation, round_)
    fallback = config.trainer.save_dir / "data" / f"{kind.use}_dataset"
    return place_of_set(kind.root(config), fallback, round_, key)


@dataclass
class _Source:
    """Makes the sets of one round."""

    round: OpenRound
    proposal: Proposed = field(default_factory=dict)

    def set(self, kind: SetKind) -> SuppliedSet:
        """Return the set: given, found from an earlier launch, or simulated."""
        config = self.round.launch.config
        loader = kind.loader(config)
        if self.round.number == 0 and not loader.simulate:
            assert loader.dataset_path_round_0 is not None
            return given_set(dataset_csv(localized(loader.dataset_path_round_0)))
        return self.simulated(
            kind,
            loader.num_sim,
            lambda: self._drawn(kind, loader.num_sim),
            config.trainer.min_success_fraction,
        )

    def simulated(
        self,
        kind: SetKind,
        count: int,
        draw: Callable[[], NDArray[np.float64]],
        min_success_fraction: float,
    ) -> SuppliedSet:
        """Simulate so many theta: those that an earlier launch stored, else what `draw` gives."""
        launch, run, earlier = self.round.launch, self.round.run, self.round.earlier
        round_ = self.round.number
        wanted = None if launch.ahead is None else launch.ahead.taken(round_, kind.use)
        stored = self._stored(kind) if wanted is None else None
        if stored is not None and len(stored) != count:
            stored = None
        if wanted is None:
            theta = draw() if stored is None else stored
            wanted = _set_to_make(launch, kind, round_, theta, min_success_fraction)
        elif kind is TRAINING:
            self.proposal = dict(wanted.proposal)
        if stored is None:
            self._store(kind, wanted.folder / THETA, wanted.theta)
        elif earlier is not None:
            store = launch.lineage.store
            found = restore_shards(store, earlier.run_id, kind.use, wanted.folder)
            run.records.update(found)

        curve, rate = f"sim/{kind.use}_done", f"sim/{kind.use}_rate"

        last = 0 if earlier is None else launch.lineage.last_step(earlier, curve)

        def tell(progress: Progress, pace: Pace) -> None:
            # the step is what is done: the last point is that of all, after resumes too
            nonlocal last
            if progress.shard is not None and progress.done > last:
                last = progress.done
                points = {curve: float(progress.done), rate: pace.rate}
                run.curves.extend(points, step=progress.done)

        with Uploader(run) as uploads:
            return wanted.make(
                on_progress=tell,
                on_shard=lambda record: uploads.send_shard(kind.use, wanted.folder, record),
            )

    def _drawn(self, kind: SetKind, count: int) -> NDArray[np.float64]:
        """Return new theta (count, D), physical units."""
        launch, previous, number = self.round.launch, self.round.previous, self.round.number
        if previous is None:
            seed = seed_sequence(launch.root_seed, kind.theta, number)
            return prior_theta(launch.config, count, seed)
        theta, proposal = _proposed_theta(launch, previous, kind, count)
        if kind is TRAINING:
            self.proposal = proposal
        return theta

    def _store(self, kind: SetKind, path: Path, theta: NDArray[np.float64]) -> None:
        """Store theta in the run before anything is simulated."""
        run = self.round.run
        whole = {_tag(kind): _digest(theta)}
        if self.proposal and kind is TRAINING:
            run.send_json(PROPOSAL_JSON, self.proposal)
            whole[PROPOSAL_TAG] = json_digest(self.proposal)
        run.send(path, f"{kind.use}/{THETA}")
        # says that the files arrived whole: there is no manifest yet
        run.set_tags(whole)

    def _stored(self, kind: SetKind) -> NDArray[np.float64] | None:
        """Return theta that an earlier launch stored, if they are whole."""
        lineage, earlier, run = self.round.launch.lineage, self.round.earlier, self.round.run
        name = f"{kind.use}/{THETA}"
        if earlier is None or _tag(kind) not in earlier.tags or not lineage.has(earlier, name):
            return None
        try:
            with fetched(lineage.store.client, earlier.run_id, name) as path:
                theta = read_numbers(path, f"artifact {name} of run {earlier.run_id}")
            if _digest(theta) != earlier.tags[_tag(kind)]:
                raise BrokenRecord(f"artifact {name} of run {earlier.run_id}: was changed")
            if self.round.past and kind is TRAINING:
                self.proposal = lineage.json(earlier, PROPOSAL_JSON)
                if json_digest(self.proposal) != earlier.tags.get(PROPOSAL_TAG):
                    raise BrokenRecord(f"{PROPOSAL_JSON} of run {earlier.run_id}: was changed")
                run.keep(PROPOSAL_JSON)
        except BrokenRecord as error:
            self.proposal = {}
            logger.warning("%s: theta are drawn again", error)
            return None
        run.keep(name)
        return theta


def _proposed_theta(
    launch: Launch, previous: RoundResult, kind: SetKind, count: int
) -> tuple[NDArray[np.float64], Proposed]:
    """Return theta (count, D), physical units, that a round proposes for the next one, and how."""
    draw = proposed(launch, previous, previous.number + 1, kind.use, count)
    return previous.problem.prior.to_physical(draw.theta), draw.to_dict()


def _set_to_make(
    launch: Launch,
    kind: SetKind,
    round_: int,
    theta: NDArray[np.float64],
    min_success_fraction: float,
    proposal: Proposed | None = None,
) -> SetToMake:
    """Put theta into the folder of their set; return how it is simulated."""
    folder, remote = place(launch, kind, round_, theta)
    write_array(folder / THETA, theta)

    def make(
        on_progress: Callable[[Progress, Pace], None], on_shard: Callable[[ShardRecord], None]
    ) -> SuppliedSet:
        assert launch.plan is not None
        with launch.profiler.section(f"SimulatingRound{round_}{kind.use.capitalize()}"):
            return simulate_set(
                launch.plan,
                theta,
                folder,
                launch.backend,
                root_seed=launch.root_seed,
                purpose=kind.simulation,
                round_=round_,
                compute=launch.config.compute,
                min_success_fraction=min_success_fraction,
                title=f"round {round_}: {kind.use} simulations",
                on_progress=on_progress,
                on_shard=on_shard,
                remote=remote,
            )

    return SetToMake(theta, folder, proposal or {}, make)


def joined(sets: Iterable[Dataset]) -> Dataset:
    """Return the rows of all sets as one.

    Raises:
        DataError: a set has other labels or channels than the first one.
    """
    parts = list(sets)
    first = parts[0]
    for data in parts:
        if (data.labels, data.channels) != (first.labels, first.channels):
            raise DataError(
                f"{data.source}: has labels {', '.join(data.labels)} and channels "
                f"{', '.join(data.channels)}, unlike {first.source}"
            )
    if len(parts) == 1:
        return first
    return replace(
        first,
        theta=np.concatenate([data.theta for data in parts]),
        x=together([data.x for data in parts], first.source.parent),
    )


def dataset_files(sets: Mapping[str, SuppliedSet]) -> dict[str, Path]:
    """Return artifact name -> file of what describes sets; their shards are sent one by one."""
    names = (FULL_CSV, MANIFEST_CSV, FULL_STATISTICS, GENERATOR_JSON)
    return {
        f"{use}/{name}": path
        for use, supplied in sets.items()
        for name in names
        if (path := supplied.csv.parent / name).is_file()
    }


def _tag(kind: SetKind) -> str:
    return f"mlflow.mlpop.theta_{kind.use}"


def _digest(theta: NDArray[np.float64]) -> str:
    content = np.ascontiguousarray(theta, "<f8").tobytes()
    return hashlib.sha256(str(theta.shape).encode() + content).hexdigest()
