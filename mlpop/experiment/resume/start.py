"""Where a launch of an experiment begins: anew, from an unfinished run, or as a branch of one."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import ConfigError, TrackingError
from mlpop.experiment.output_tree import CONFIG_FILE, LOG_DIR, SAVE_DIR
from mlpop.experiment.resume.attempts import (
    LAST,
    recorded_configuration,
    recorded_seed,
    refuse_changes,
    resumed_run,
    unfinished_run,
)
from mlpop.experiment.resume.download import Downloads
from mlpop.experiment.resume.lineage import Lineage
from mlpop.io.records import tag_number
from mlpop.tracking import Node, Store, tree
from mlpop.tracking.lineage import search

logger = logging.getLogger(__name__)

KIND = "experiment"
BRANCH_OF = "mlpop.branch_of"
BRANCH_ROUND = "mlpop.branch_round"
SIMULATOR = "mlflow.mlpop.simulator"

FREE = (
    "n_gpu",
    "enable_dask",
    "n_processes",
    "workers_dask",
    "set_manual_seed",
    "manual_seed",
    "profile_log",
    "profile_json",
    "show_profiling",
    "trainer.save_dir",
    "trainer.checkpoint_seconds",
    "test_data_loader.num_predictive",
    "dataset_path",
    "dataset_path_round_0",
    "statistic_path",
)
"""Fields that may differ on a resume: where and how fast, not what. The seed is recorded."""

FREE_BLOCKS = ("resume_training", "infer", "compute")
COUNTED = "compute.simulations_per_task"
"""The one field of `compute` that the shards of a dataset depend on."""

GROWING = ("trainer.num_rounds",)

BRANCH_FREE = (
    "trainer.num_rounds",
    "trainer.validation_fraction",
    "trainer.batch_size",
    "trainer.lr",
    "trainer.lr_decay",
    "trainer.max_num_epochs",
    "trainer.stop_after_epochs",
    "trainer.clip_max_norm",
    "trainer.ema_decay",
    "trainer.embedding_weight_decay",
    "trainer.truncated_prior",
    "trainer.sir",
    "trainer.truncation_sampler",
    "trainer.truncation_region",
    "trainer.sir_candidates",
    "trainer.append_simulations",
    "trainer.retrain_from_scratch",
    "trainer.plot_proposal",
    "trainer.num_posterior_samples",
    "trainer.min_success_fraction",
    "training_data_loader.num_sim",
    "test_data_loader.num_sim",
)
"""What a branch may do differently: nothing that the rounds it keeps have fixed."""

SPLITTING = "trainer.validation_fraction"
"""With the seed, it says which simulations of the kept rounds are for validation. Networks that
go on from those of a kept round must not meet them again as training data."""


@dataclass(frozen=True)
class Beginning:
    """Where a launch begins.

    Attributes:
        root_seed: every random bit comes from it.
        run: the experiment run to open again; None for a new one.
        tags: further tags of the run.
    """

    config: SbiConfig
    root_seed: int
    lineage: Lineage
    run: Node | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def claimed(self) -> "Beginning":
        """Return it with what is done now: call it when the run is this process's own.

        Another launch may have gone on with the run since its tree was read.
        """
        lineage = self.lineage
        if lineage.root is None:
            return self
        root = tree(lineage.store, lineage.root.run_id)
        return replace(self, lineage=replace(lineage, root=root))

    def check_simulator(self, identity: str) -> None:
        """Refuse a simulator, or a stellar database, that is not the one of the run so far.

        Raises:
            ConfigError: this launch would simulate something else than `identity`.
        """
        recorded = self.lineage.tag(SIMULATOR)
        if recorded not in (None, identity):
            raise ConfigError(
                "--resume: the simulator, the file of its class, its arguments or its stellar "
                f"database are not those of the run (SHA-256 {identity[:12]}… now, "
                f"{recorded[:12]}… in the run): its simulations cannot be joined with new ones; "
                "give the same dyn_data_loader.dataset_path, or begin a new experiment"
            )


def unfinished_launch(store: Store, which: str, config: SbiConfig | None) -> Beginning:
    """Return how to continue a run: with `config`, or where that is None with its own.

    Raises:
        ConfigError: the configuration has changed; every field that differs is named.
        TrackingError: there is no such run, it is complete, or a living process works on it.
    """
    root, config, recorded = resumed_run(
        store, KIND, which, CONFIG_FILE, config, SbiConfig.parse, complete_too=which != LAST
    )
    _refuse(recorded, config, FREE, GROWING)
    lineage = _lineage(store, root, config)
    if root.status == "FINISHED" and lineage.complete_rounds(config) == config.trainer.num_rounds:
        raise TrackingError(
            f"--resume {which}: run '{root.name}' is complete; a larger trainer.num_rounds adds "
            "rounds to it"
        )
    return Beginning(config, _recorded_seed(root, config), lineage, root)


def recorded_launch(store: Store, config: SbiConfig) -> Beginning:
    """Return how to continue the launch that the block `resume_training` names.

    Where rounds after `last_round` are complete already, they are done again in a new run, a
    branch that shares the rounds up to it.

    Raises:
        ConfigError: no run was recorded with these folders, `last_round` is not complete there,
            or the configuration has changed.
        TrackingError: a living process works on the run.
    """
    block = config.resume_training
    assert block.save_dir is not None
    assert block.log_dir is not None
    assert block.last_round is not None
    root = _with_folders(store, block.save_dir, block.log_dir)
    lineage = _lineage(store, root, config)
    complete = lineage.complete_rounds(config)
    if block.last_round >= complete:
        rounds = f"rounds 0 to {complete - 1} are" if complete else "no round is"
        raise ConfigError(
            f"resume_training.last_round: is {block.last_round}, but {rounds} complete in run "
            f"{root.run_id}; give the last complete round, or `mlpop sbi --resume {root.run_id}`"
        )
    recorded = recorded_configuration(store, root.run_id, CONFIG_FILE)
    if block.last_round == complete - 1:
        if root.status == "RUNNING" and root.life == "alive":
            unfinished_run(store, KIND, root.run_id)
        _refuse(recorded, config, FREE, GROWING)
        if complete == config.trainer.num_rounds:
            logger.warning(
                "round %d is the last of trainer.num_rounds: nothing to train; with a larger "
                "trainer.num_rounds, run %s goes on with further rounds",
                complete - 1,
                root.run_id,
            )
        return Beginning(config, _recorded_seed(root, config), lineage, root)
    splitting = () if config.trainer.retrain_from_scratch else (SPLITTING,)
    _refuse(recorded, config, (*FREE, *(set(BRANCH_FREE) - set(splitting))), ())
    seed = _branch_seed(root, config)
    tags = {BRANCH_OF: root.run_id, BRANCH_ROUND: str(block.last_round)}
    branch = replace(lineage, root=None, origin=lineage, last_round=block.last_round)
    return Beginning(config, seed, branch, None, tags)


def lineage_of(store: Store, root: Node, below: frozenset[str] = frozenset()) -> Lineage:
    """Return what has been done for a run, in its own tree and in those it is a branch of.

    Args:
        store: where it is kept.
        root: the run.
        below: branches that lead here; none of them can be what this one is a branch of.
    """
    if BRANCH_OF not in root.tags:
        return Lineage(store, root)
    origin, last = root.tags[BRANCH_OF], tag_number(root.tags, BRANCH_ROUND)
    below |= {root.run_id}
    if origin in below or last is None:
        logger.warning(
            "run %s: says that it is a branch of run %s after round %s, which cannot be: its "
            "first rounds are done again",
            root.run_id,
            origin,
            root.tags.get(BRANCH_ROUND, "?"),
        )
        return Lineage(store, root)
    return Lineage(store, root, lineage_of(store, tree(store, origin), below), last)


def _lineage(store: Store, root: Node, config: SbiConfig) -> Lineage:
    """Keep what is fetched to be verified; simulations only if later rounds learn from them."""
    trainer = config.trainer
    downloads = Downloads(trainer.save_dir, shards=trainer.append_simulations)
    return replace(lineage_of(store, root), downloads=downloads)


def _refuse(
    recorded: Mapping[str, object],
    config: SbiConfig,
    free: tuple[str, ...],
    growing: tuple[str, ...],
) -> None:
    refuse_changes(
        _completed(recorded),
        config.resolved(),
        free,
        growing,
        free_blocks=FREE_BLOCKS,
        fixed=(COUNTED,),
    )


def _completed(recorded: Mapping[str, object]) -> Mapping[str, object]:
    """Return a recorded configuration with the fields that have come since, at their defaults."""
    try:
        return SbiConfig.parse(dict(recorded)).resolved()
    except ConfigError:
        return recorded


def _branch_seed(root: Node, config: SbiConfig) -> int:
    recorded = recorded_seed(root)
    seed = recorded if config.root_seed is None else config.root_seed
    if seed != recorded and not config.trainer.retrain_from_scratch:
        raise ConfigError(
            f"manual_seed: {recorded} in the run, {seed} now: networks that go on from those of a "
            "kept round would be validated on what they were trained on; keep the seed, or set "
            "trainer.retrain_from_scratch"
        )
    return seed


def _recorded_seed(root: Node, config: SbiConfig) -> int:
    recorded = recorded_seed(root)
    if config.root_seed not in (None, recorded):
        logger.warning(
            "manual_seed: is %d; the run goes on with its own, %d", config.root_seed, recorded
        )
    return recorded


def _with_folders(store: Store, save_dir: Path, log_dir: Path) -> Node:
    """Return the newest experiment run that recorded these folders."""
    folders = [save_dir.resolve(), log_dir.resolve()]
    for run in search(store, {"mlpop.kind": KIND}):
        recorded = [run.data.tags.get(tag, "") for tag in (SAVE_DIR, LOG_DIR)]
        if [Path(text).resolve() for text in recorded] == folders:
            return tree(store, run.info.run_id)
    raise ConfigError(
        f"resume_training.save_dir: no experiment in {store.safe_uri} was recorded with the "
        f"folders {save_dir} and {log_dir}; give the two folders that its log names"
    )
