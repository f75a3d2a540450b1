"""`mlpop status`: the run tree as text, and what a resume would do."""

from mlpop.datasets.shards import SHARDS_FOLDER
from mlpop.errors import TrackingError
from mlpop.experiment.output_tree import CONFIG_FILE
from mlpop.experiment.resume.attempts import recorded_configuration, recorded_json
from mlpop.experiment.resume.start import lineage_of
from mlpop.tracking import Node, Store, connect, root_of, status, tree
from mlpop.tracking.artifacts import listed
from mlpop.tracking.description import clock
from mlpop.tracking.owner import owner_of
from mlpop.tracking.store import without_credentials

RESUMED_BY = {
    "experiment": ("mlpop sbi", CONFIG_FILE),
    "train_nn": ("mlpop train-nn", "config.json"),
    "study": ("mlpop study", "study.json"),
}
"""Kind of a run at the top -> the command that takes `--resume`, and what that needs."""

SHOWN = 50  # runs at the top


def status_table(run_id: str | None = None, *, every: bool = False) -> str:
    """Return one line a run: name, state, what lives, age, id; of one tree, also its outlook.

    Args:
        run_id: any run of a tree; by default the newest runs at the top of all trees.
        every: whether all runs at the top are shown, however many there are.

    Raises:
        TrackingError: there is no such run, or the store cannot be read.
    """
    store = connect()
    limit = None if every or run_id is not None else SHOWN + 1
    rows = status(run_id, store=store, limit=limit)
    more = limit is not None and len(rows) == limit
    if not rows:
        return f"no runs in {without_credentials(store.uri)}"
    lines = [f"{'run':<34} {'state':<12} {'status':<10} {'life':<6} {'age':>9} {'took':>9}  id"]
    shown = rows[:SHOWN] if more else rows
    lines += [_line(row.depth, row.node, row.age, row.duration) for row in shown]
    if more:
        lines.append(f"the newest {SHOWN}; `mlpop status --all` shows every run")
    if run_id is not None:
        lines += ["", *outlook(store, tree(store, root_of(store, run_id)))]
    return "\n".join(lines)


def outlook(store: Store, root: Node) -> list[str]:
    """Return what a resume of a tree would keep and do, line by line.

    Artifacts are not read: a resume compares their digests, and does again what is damaged.
    """
    if root.kind not in RESUMED_BY:
        return []
    command, config_file = RESUMED_BY[root.kind]
    if root.life == "alive":
        return [f"{owner_of(root.tags)} works on it: nothing to resume"]
    if root.status == "FINISHED":
        more = "; a larger trainer.num_rounds adds rounds" if root.kind == "experiment" else ""
        return [f"complete: nothing to resume{more}"]
    try:
        recorded_configuration(store, root.run_id, config_file)
    except TrackingError as error:
        return [f"nothing to resume: {error}"]
    lines = [f"{command} --resume {root.run_id}"]
    if root.kind != "experiment":
        return lines
    lineage = lineage_of(store, root)
    number = 0
    while (node := lineage.round(number)) is not None and lineage.seems_complete(node):
        lines.append(f"  keeps round {number}")
        number += 1
    if node is None:
        last = number == recorded_rounds(store, root)
        return [*lines, "  completes the run" if last else f"  begins round {number}"]
    lines.append(f"  goes on with round {number}, which was {_stage(node)}")
    for kind in ("training", "test", "predictive"):
        shards = _shards(store, node, kind)
        if shards:
            lines.append(f"    keeps {shards} {kind} shards")
    for member in node.children:
        if lineage.seems_complete(member):
            lines.append(f"    keeps {member.name}")
        else:
            epochs = lineage.last_step(member, "val/loss")
            lines.append(f"    trains {member.name} on, of which {epochs} epochs are recorded")
    return lines


def _stage(node: Node) -> str:
    """Return what a run was at when it ended."""
    return node.tags.get("mlpop.stage") or node.state or "beginning"


def recorded_rounds(store: Store, root: Node) -> int | None:
    """Return how many rounds an experiment is to have, None if it ended before it said so."""
    try:
        return int(recorded_json(store, root.run_id, CONFIG_FILE)["trainer"]["num_rounds"])
    except (TrackingError, KeyError, TypeError, ValueError):
        return None


def _shards(store: Store, node: Node, kind: str) -> int:
    return len(listed(store.client, node.run_id, f"{kind}/{SHARDS_FOLDER}"))


def _line(depth: int, node: Node, age: float, duration: float) -> str:
    name = "  " * depth + node.name
    reason = f"  {node.error}" if node.error else ""
    return (
        f"{name:<34} {node.state or '–':<12} {node.status:<10} {node.life:<6} "
        f"{clock(age):>9} {clock(duration):>9}  {node.run_id}{reason}"
    )
