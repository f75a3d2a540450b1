"""`mlpop study`: a study from its file, or from its run where it was interrupted."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from mlpop.compute import draw_root_seed
from mlpop.config.base import read_json
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import StudyConfig
from mlpop.config.messages import show
from mlpop.config.methods import METHODS
from mlpop.errors import ConfigError, TrackingError, TrainingError
from mlpop.experiment.inputs.checks import check_inputs
from mlpop.experiment.output_tree import OutputTree
from mlpop.experiment.resume.attempts import (
    DATA_TAG,
    recorded_seed,
    refuse_changes,
    refuse_other_data,
    resumed_run,
)
from mlpop.experiment.session import session
from mlpop.io.files import write_atomically
from mlpop.io.records import tag_number
from mlpop.networks.device import network_device
from mlpop.networks.registry import find as find_network
from mlpop.study.data import given_files, on_files, study_data, without_test_set
from mlpop.study.driver import Driver
from mlpop.study.report import BEST_CONFIG, study_note, write_findings
from mlpop.study.space import applied, search_space
from mlpop.study.storage import TrialRecord, best, open_storage, open_study, records
from mlpop.study.trial_runs import TRIAL_TAG, TrialRuns
from mlpop.tracking import Node, Store, TrackedRun, connect, refuse_without_runs
from mlpop.tracking.address import without_credentials
from mlpop.tracking.artifacts import fetched

logger = logging.getLogger(__name__)

KIND = "study"
CONFIG = "study.json"
JOURNAL = "optuna.log"

FREE = ("timeout", "n_workers", "enable_dask", "storage")
"""Fields of a study that may differ on a resume; the root seed is recorded."""


@dataclass(frozen=True)
class StudyResult:
    """What a study gave.

    Attributes:
        run_id: its MLflow run.
        trials: that ended, in their order.
        best: with the lowest validation loss.
        importances: see `report.importances`.
        best_config: the experiment of the best trial, a file for `mlpop sbi`.
    """

    run_id: str
    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    importances: Mapping[str, Mapping[str, float]]
    best_config: Path


def run_study(config: StudyConfig, source: str = "study") -> StudyResult:
    """Run a study from its configuration.

    Args:
        config: what to search.
        source: what error messages name.

    Raises:
        ConfigError: the base experiment or the search space cannot work. Nothing is written.
        DataError: a dataset is broken.
        TrainingError: no trial was complete.
    """
    return _study(config, source, connect())


def resume_study(which: str, config: StudyConfig | None = None) -> StudyResult:
    """Continue an interrupted study: trials that ended are kept, those that ran run again.

    Args:
        which: a run id, or `last`.
        config: must be the same study; more trials, another backend or timeout are allowed. By
            default it is that of the run.

    Raises:
        ConfigError: the study has changed; every field that differs is named.
        TrackingError: there is no such run, it is complete, or a living process works on it.
    """
    refuse_without_runs(f"--resume {which}")
    store = connect()
    root, config, recorded = resumed_run(
        store, KIND, which, CONFIG, config, partial(_parsed, which)
    )
    refuse_changes(recorded, _recorded(config), FREE, growing=("n_trials",))
    return _study(config, f"{CONFIG} of run {root.run_id}", store, root)


def base_experiment(config: StudyConfig) -> SbiConfig:
    """Return the experiment that a study varies.

    Raises:
        ConfigError: the file is missing, or wrong.
    """
    if isinstance(config.base, Path):
        return SbiConfig.parse(read_json(config.base), f"base {config.base}")
    return SbiConfig.parse(config.base, "base")


def _require_searchable(base: SbiConfig) -> None:
    """Refuse what a study cannot search: it trains networks on the set of round 0.

    Raises:
        ConfigError: one line a field.
    """
    searchable = [name for name, method in METHODS.items() if method.searchable]
    method = base.trainer.type if base.trainer.type in searchable else searchable[0]
    wrong = {
        "trainer.type": (base.trainer.type, method),
        "compression_input.use_compression": (base.compression_input.use_compression, False),
        "resume_training.resume": (base.resume_training.resume, False),
    }
    lines = [
        f"base: {field}: must be {show(wanted)} in a study, found {show(found)}"
        for field, (found, wanted) in wrong.items()
        if found != wanted
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _study(
    config: StudyConfig, source: str, store: Store, root: Node | None = None
) -> StudyResult:
    base = base_experiment(config)
    _require_searchable(base)
    space = search_space(base, config.space, use_default=config.use_default_space, source=source)
    files = given_files(config.dataset, store)
    trained = without_test_set(on_files(base, files))
    check_inputs(trained)
    for network in getattr(space.get("arch.type"), "choices", ()):
        if ":" in str(network):
            find_network(str(network))
    seeds = config.seed, base.root_seed
    root_seed = next((seed for seed in seeds if seed is not None), None)
    if root is not None:
        root_seed = recorded_seed(root)
    elif root_seed is None:
        root_seed = draw_root_seed()
    data_seed = root_seed if base.root_seed is None else base.root_seed
    with session(
        KIND,
        config.name,
        _recorded(config),
        config_file=CONFIG,
        save_dir=base.trainer.save_dir,
        root_seed=root_seed,
        store=store,
        resumed=root,
    ) as launch:
        run, tree = launch.run, launch.tree
        journal = store.root / "mlruns" / "optuna" / f"{config.name}-{run.run_id}.log"
        if root is not None and config.storage is None:
            _bring_back(store, root, journal)
        study = open_study(
            open_storage(config.storage, journal),
            run.run_id,
            pruner=config.pruning,
            objectives=2 if config.second_objective else 1,
            max_epochs=config.max_num_epochs or base.trainer.max_num_epochs,
        )
        where = journal if config.storage is None else without_credentials(config.storage)
        run.set_tags({"mlpop.storage": where})
        logger.info("Optuna storage: %s", where)
        started = time.monotonic()
        with launch.backend(
            config.n_workers, config.enable_dask, config.n_workers, base.compute
        ) as backend:
            run.set_state("simulating")
            data = study_data(
                trained, files, data_seed=data_seed, backend=backend, folders=tree, run=run
            )
            if root is not None:
                refuse_other_data(root, {"training": data.digest})
            run.set_tags({f"{DATA_TAG}training": data.digest})
            run.set_state("searching")
            runs = TrialRuns(run, _earlier(root))

            def after_trial(record: TrialRecord) -> None:
                _after_trial(run, study, base, tree, record)
                if config.storage is None:
                    run.send(journal, JOURNAL)

            driver = Driver(
                config=config,
                base=base,
                space=space,
                study=study,
                data=data,
                runs=runs,
                root_seed=root_seed,
                data_seed=data_seed,
                folder=tree.models / "trials",
                device=network_device(base.n_gpu),
                after_trial=after_trial,
            )
            trials = driver.run(backend)
        data.arrays.remove()
        result = _finish(config, base, run, study, trials, tree, runs)
        run.log_metrics({"study/wall_seconds": time.monotonic() - started})
        if config.storage is None:
            run.send(journal, JOURNAL)
        launch.compared["trials"] = [runs.run_ids[record.slot] for record in trials]
    logger.info("next    mlpop sbi --configuration runs:/%s/%s", result.run_id, BEST_CONFIG)
    return result


def _recorded(config: StudyConfig) -> dict[str, Any]:
    """Return the study with its base experiment in it, as a resume anywhere needs it."""
    values = config.resolved() | {"base": base_experiment(config).resolved()}
    if config.storage is not None and without_credentials(config.storage) != config.storage:
        scheme, _, rest = without_credentials(config.storage).partition("://")
        values["storage"] = f"{scheme}://***@{rest}"
    # as it will be read back
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _parsed(which: str, recorded: dict[str, Any], source: str) -> StudyConfig:
    if "***" in (recorded.get("storage") or ""):
        raise ConfigError(
            f"--resume {which}: the password of storage {recorded['storage']} is not kept; "
            "give --configuration with the whole URL"
        )
    return StudyConfig.parse(recorded, source)


def _bring_back(store: Store, root: Node, journal: Path) -> None:
    """Take the journal from the run where this machine does not have it."""
    if journal.is_file():
        return
    try:
        with fetched(store.client, root.run_id, JOURNAL) as path:
            journal.parent.mkdir(parents=True, exist_ok=True)
            journal.write_bytes(path.read_bytes())
    except (TrackingError, OSError):
        logger.info("run %s holds no journal yet: no trial had ended", root.run_id)


def _earlier(root: Node | None) -> dict[int, Node]:
    children = root.children if root is not None else ()
    slots = {tag_number(child.tags, TRIAL_TAG): child for child in children}
    return {slot: child for slot, child in slots.items() if slot is not None}


def _after_trial(
    run: TrackedRun, study: optuna.Study, base: SbiConfig, tree: OutputTree, record: TrialRecord
) -> None:
    """Tell the study's run of a trial; a new best one is a file that can be used at once."""
    leader = best(records(study))
    if record.state == "complete":
        run.curves.append("study/loss", record.value, step=record.slot)
    if leader is not None and leader.slot == record.slot:
        run.curves.append("study/best_loss", leader.value, step=record.slot)
        run.send(_write_best(base, tree, leader))


def _write_best(base: SbiConfig, tree: OutputTree, leader: TrialRecord) -> Path:
    values = applied(base.resolved(), leader.point)
    path = tree.models / BEST_CONFIG
    write_atomically(path, json.dumps(values, indent=2) + "\n")
    return path


def _finish(
    config: StudyConfig,
    base: SbiConfig,
    run: TrackedRun,
    study: optuna.Study,
    trials: list[TrialRecord],
    tree: OutputTree,
    runs: TrialRuns,
) -> StudyResult:
    """Draw, write and send what the study gave."""
    leader = best(trials)
    if leader is None:
        reasons = [record.reason for record in trials if record.reason]
        why = f"; the first: {reasons[0]}" if reasons else ""
        raise TrainingError(f"none of {len(trials)} trials was complete{why}")
    space = search_space(base, config.space, use_default=config.use_default_space)
    files, weights = write_findings(tree.models, study, trials, space, config.second_objective)
    best_config = _write_best(base, tree, leader)
    for name, path in {**files, BEST_CONFIG: best_config}.items():
        run.send(path, name)
    numbers = {
        "study/best_loss": leader.value,
        "study/trials": len(trials),
        "study/pruned_fraction": sum(r.state == "pruned" for r in trials) / len(trials),
        "study/failed_fraction": sum(r.state == "failed" for r in trials) / len(trials),
        "study/training_seconds": sum(r.seconds for r in trials),
    }
    own = next((r for r in trials if r.slot == 0 and r.state == "complete"), None)
    if own is not None:
        numbers["study/default_loss"] = own.value
    run.log_metrics(numbers, step=config.n_trials)
    about = (
        f"{config.sampler.type} over {len(space)} fields of `{base.name}`, "
        f"{config.pruning.type} pruning; the objective is the validation loss."
    )
    run.set_note(study_note(run.experiment_id, run.run_id, about, trials, runs.run_ids))
    run.set_tags({"mlpop.best_trial": leader.slot})
    logger.info(
        "best: %s, validation loss %.4f%s",
        leader.name,
        leader.value,
        f"; of the experiment as it was {own.value:.4f}" if own else "",
    )
    for field, value in leader.point.items():
        text = f"{value:.4g}" if isinstance(value, float) else value
        logger.info("  %-40s %s", field, text)
    logger.info("best configuration: %s", best_config)
    return StudyResult(run.run_id, tuple(trials), leader, weights, best_config)
