"""Resuming: which run goes on, and whether it may."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlpop.config.files.regression import RegressionConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.config.files.study import StudyConfig
from mlpop.errors import ConfigError, DataError, TrackingError
from mlpop.tracking import Node, Store, find, flatten, root_of, tree
from mlpop.tracking.artifacts import fetched
from mlpop.tracking.owner import is_alive

LAST = "last"
DATA_TAG = "mlpop.data_"
"""With the name of a set: the digest of its content."""

Config = TypeVar("Config", SbiConfig, RegressionConfig, StudyConfig)


def unfinished_run(
    store: Store,
    kind: str,
    which: str,
    name: str | None = None,
    *,
    complete_too: bool = False,
) -> Node:
    """Return the tree of the run to resume, whose top is of this kind.

    Args:
        which: a run id, or `last` for the newest that is neither complete nor alive.
        name: only runs of this name, for `last`.
        complete_too: whether a complete run will do, because it may be extended.

    Raises:
        TrackingError: there is none, it is complete, it is of another kind, or a living process
            works on it.
    """
    run_id = _last(store, kind, name) if which == LAST else root_of(store, which)
    node = tree(store, run_id)
    if node.kind != kind:
        raise TrackingError(
            f"--resume {which}: is a run of kind '{node.kind or 'unknown'}', not '{kind}'"
        )
    if node.status == "FINISHED" and not complete_too:
        raise TrackingError(f"--resume {which}: run '{node.name}' is complete")
    if node.life == "alive":
        raise TrackingError(
            f"--resume {which}: process {node.tags.get('mlpop.pid', '?')} on "
            f"{node.tags.get('mlpop.host', '?')} works on run '{node.name}'; end it first"
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
    name = None if config is None else config.name
    root = unfinished_run(store, kind, which, name, complete_too=complete_too)
    recorded = recorded_json(store, root.run_id, config_file)
    if config is None:
        config = parse(recorded, f"{config_file} of run {root.run_id}")
    return root, config, recorded


def recorded_seed(root: Node) -> int:
    """Return the root seed of a run.

    Raises:
        TrackingError: it has none.
    """
    try:
        return int(root.tags["mlpop.root_seed"])
    except (KeyError, ValueError):
        raise TrackingError(f"run {root.run_id}: has no root seed recorded") from None


def refuse_other_data(root: Node, digests: Mapping[str, str]) -> None:
    """Refuse to resume on other data than those of the run.

    `digests`: name of a set -> digest of its content now, a tag `mlpop.data_<name>` of the run.

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
        TrackingError: it is missing or broken.
    """
    with fetched(store.client, run_id, name) as path:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrackingError(f"artifact {name} of run {run_id}: {error}") from None
    if not isinstance(values, dict):
        raise TrackingError(f"artifact {name} of run {run_id}: is no JSON object")
    return values


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


def _last(store: Store, kind: str, name: str | None) -> str:
    runs = find(store, {"mlpop.kind": kind} | ({"mlpop.name": name} if name is not None else {}))
    for run in runs:
        alive = run.info.status in ("RUNNING", "SCHEDULED") and is_alive(run.data.tags)
        if run.info.status != "FINISHED" and not alive:
            return str(run.info.run_id)
    candidates = (
        ", ".join(f"{run.info.run_id[:8]} {run.info.status}" for run in runs[:5]) or "none"
    )
    title = f" named '{name}'" if name is not None else ""
    raise TrackingError(
        f"--resume last: no unfinished {kind} run{title} in {store.safe_uri}; there are: "
        f"{candidates}"
    )
