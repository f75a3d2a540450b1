"""Resuming: which run goes on, and whether it may."""

import itertools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlpop.config.allowed_modules import refuse_pickles
from mlpop.config.files.regression import RegressionConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import StudyConfig
from mlpop.errors import ConfigError, DataError, TrackingError
from mlpop.experiment.output_tree import CONFIG_FILE
from mlpop.io.records import OBJECT, read_record
from mlpop.tracking import Node, Store, flatten, root_of, tree
from mlpop.tracking.artifacts import fetched
from mlpop.tracking.lineage import search
from mlpop.tracking.outages import passes
from mlpop.tracking.owner import is_alive, owner_of

logger = logging.getLogger(__name__)

LAST = "last"
CONFIG_FILES = {"experiment": CONFIG_FILE, "train_nn": "config.json", "study": "study.json"}
"""Kind of a run at the top that can be resumed -> the artifact with its configuration."""
LONGEST_SEED = 40  # digits; a drawn one has 128 bits
NAMED = 5  # runs that a message names
DATA_TAG = "mlflow.mlpop.data_"
"""With the name of a set: the digest of its content."""

Config = TypeVar("Config", SbiConfig, RegressionConfig, StudyConfig)


def unfinished_run(
    store: Store,
    kind: str,
    which: str,
    name: str | None = None,
    *,
    complete_too: bool = False,
    refusal: Callable[[str], str] = lambda run_id: "",
) -> Node:
    """Return the tree of the run to resume, whose top is of this kind.

    Args:
        which: a run id, or `last` for the newest that is neither complete nor alive, and of
            which `refusal` says nothing.
        name: only runs of this name, for `last`.
        refusal: why a run cannot be resumed, by its id; empty if it can.
        complete_too: whether a complete run will do, because it may be extended.

    Raises:
        TrackingError: there is none, it is complete, it is of another kind, or a living process
            works on it.
    """
    run_id = _last(store, kind, name, refusal) if which == LAST else root_of(store, which)
    node = tree(store, run_id)
    if node.kind != kind:
        raise TrackingError(
            f"--resume {which}: is a run of kind '{node.kind or 'unknown'}', not '{kind}'"
        )
    if node.status == "FINISHED" and not complete_too:
        raise TrackingError(f"--resume {which}: run '{node.name}' is complete")
    if node.life == "alive":
        raise TrackingError(
            f"--resume {which}: {owner_of(node.tags)} works on run '{node.name}'; end it first"
        )
    return node


def resumed_run(
    store: Store,
    kind: str,
    which: str,
    config_file: str,
    config: Config | None,
    parse: Callable[[dict[str, Any], str], Config],
    *,
    complete_too: bool = False,
) -> tuple[Node, Config, dict[str, Any]]:
    """Return the run to resume, the configuration to resume it with, and the one it recorded.

    Args:
        config_file: the artifact that holds the configuration.
        config: that of this launch; None for the recorded one.
        parse: makes a configuration of recorded values and of what messages call them.

    Raises:
        ConfigError: the recorded configuration cannot be used.
        TrackingError: see `unfinished_run` and `recorded_json`.
    """
    root = resumable_run(store, kind, which, config_file, config, parse, complete_too=complete_too)
    recorded = recorded_configuration(store, root.run_id, config_file)
    if config is None:
        refuse_pickles(recorded, f"{config_file} of run {root.run_id}")
        config = parse(recorded, f"{config_file} of run {root.run_id}")
    return root, config, recorded


def resumable_run(
    store: Store,
    kind: str,
    which: str,
    config_file: str,
    config: Config | None,
    parse: Callable[[dict[str, Any], str], Config],
    *,
    complete_too: bool = False,
) -> Node:
    """Return the run to resume; for the arguments see `resumed_run`.

    Raises:
        TrackingError: see `unfinished_run`.
    """
    name = None if config is None else config.name

    def refusal(run_id: str) -> str:
        """Why a run cannot be resumed: it ended before its configuration was stored, say."""
        try:
            values = recorded_configuration(store, run_id, config_file)
            if config is None:
                parse(values, f"{config_file} of run {run_id}")
        except (ConfigError, TrackingError) as error:
            if passes(error):
                raise
            return str(error)
        return ""

    return unfinished_run(store, kind, which, name, complete_too=complete_too, refusal=refusal)


def recorded_seed(root: Node) -> int:
    """Return the root seed of a run.

    Raises:
        TrackingError: it has none.
    """
    seed = root.tags.get("mlpop.root_seed", "")
    if not (seed.isascii() and seed.isdecimal()) or len(seed) > LONGEST_SEED:
        raise TrackingError(f"run {root.run_id}: has no root seed recorded")
    return int(seed)


def refuse_other_data(root: Node, digests: Mapping[str, str]) -> None:
    """Refuse to resume on other data than those of the run.

    `digests`: name of a set -> digest of its content now, a tag of the run.

    Raises:
        DataError: naming the set.
    """
    for name, digest in digests.items():
        if root.tags.get(f"{DATA_TAG}{name}", digest) != digest:
            raise DataError(
                f"--resume: the {name} set is not the one that the run was started with: its "
                "content has another digest"
            )


def recorded_json(store: Store, run_id: str, name: str) -> dict[str, Any]:
    """Return a JSON artifact of a run.

    Raises:
        BrokenRecord: it is no JSON object.
        TrackingError: it is missing, or the store cannot be read.
    """
    with fetched(store.client, run_id, name) as path:
        return read_record(path, f"artifact {name} of run {run_id}", OBJECT)


def recorded_configuration(store: Store, run_id: str, name: str) -> dict[str, Any]:
    """Return the configuration that a run has stored, without which it cannot be resumed.

    Raises:
        TrackingError: it has stored none, or it cannot be read; the message says what to do.
    """
    try:
        return recorded_json(store, run_id, name)
    except TrackingError as error:
        if passes(error):
            raise
        raise TrackingError(
            f"{error}: the run ended before its configuration was stored, or lost it, and cannot "
            "be resumed; start it again"
        ) from error


def refuse_changes(
    recorded: Mapping[str, Any],
    current: Mapping[str, Any],
    free: Sequence[str],
    growing: Sequence[str] = (),
    *,
    free_blocks: Sequence[str] = (),
    fixed: Sequence[str] = (),
) -> None:
    """Refuse to resume with a configuration that would give other results.

    Args:
        recorded, current: resolved configuration of the run, and of this launch.
        free: last parts of fields, or whole paths, that may differ: they do not change results.
        growing: fields that may have become larger.
        free_blocks: blocks at the top in which anything may differ.
        fixed: fields of those blocks that may not.

    Raises:
        ConfigError: naming every field that differs, and both values.
    """
    recorded, current = flatten(recorded), flatten(current)
    lines = []
    for field in sorted({*recorded, *current}):
        old, new = recorded.get(field), current.get(field)
        if old == new or field in free or field.rpartition(".")[2] in free:
            continue
        if field.partition(".")[0] in free_blocks and field not in fixed:
            continue
        if field in growing and isinstance(old, int) and isinstance(new, int) and new > old:
            continue
        lines.append(f"{field}: {json.dumps(old)} in the run, {json.dumps(new)} now")
    if lines:
        raise ConfigError("--resume: the configuration has changed: " + "; ".join(lines))


def _last(store: Store, kind: str, name: str | None, refusal: Callable[[str], str]) -> str:
    tags = {"mlpop.kind": kind} | ({"mlpop.name": name} if name is not None else {})
    for run in search(store, tags, status="!= 'FINISHED'"):
        if run.info.status in ("RUNNING", "SCHEDULED") and is_alive(run.data.tags):
            continue
        run_id = str(run.info.run_id)
        if not (reason := refusal(run_id)):
            return run_id
        logger.warning("--resume last: run %s is passed over: %s", run_id, reason)
    newest = itertools.islice(search(store, tags, page=NAMED), NAMED)
    candidates = ", ".join(f"{run.info.run_id[:8]} {run.info.status}" for run in newest)
    title = f" named '{name}'" if name is not None else ""
    raise TrackingError(
        f"--resume last: no unfinished {kind} run{title} in {store.safe_uri} that can be resumed; "
        f"there are: {candidates or 'none'}"
    )
