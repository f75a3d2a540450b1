"""`mlpop status`: the run tree as text, and what a resume would do."""

from mlpop.datasets.shards import SHARDS_FOLDER
from mlpop.errors import TrackingError
from mlpop.experiment.output_tree import CONFIG_FILE
from mlpop.experiment.resume.attempts import recorded_json
from mlpop.experiment.resume.start import lineage_of
from mlpop.tracking import Node, Store, connect, root_of, status, tree
from mlpop.tracking.artifacts import listed
from mlpop.tracking.description import clock

RESUMED_BY = {"experiment": "mlpop sbi", "train_nn": "mlpop train-nn", "study": "mlpop study"}
"""Kind of a run at the top -> the command that takes `--resume`."""


def status_table(run_id: str | None = None) -> str:
    """Return one line a run: name, state, what lives, age, id; of one tree, also its outlook.

    Args:
        run_id: any run of a tree; by default all trees of the store.

    Raises:
        TrackingError: there is no such run, or the store cannot be read.
    """
    store = connect()
    rows = status(run_id, store=store)
    if not rows:
        return "no runs"
    lines = [f"{'run':<34} {'state':<12} {'status':<10} {'life':<6} {'age':>9} {'took':>9}  id"]
    lines += [_line(row.depth, row.node, row.age, row.duration) for row in rows]
    if run_id is not None:
        lines += ["", *outlook(store, tree(store, root_of(store, run_id)))]
    return "\n".join(lines)


def outlook(store: Store, root: Node) -> list[str]:
    """Return what a resume of a tree would keep and do, line by line.

    Artifacts are not read: a resume compares their digests, and does again what is damaged.
    """
    command = RESUMED_BY.get(root.kind)
    if command is None:
        return []
    if root.life == "alive":
        owner = f"process {root.tags.get('mlpop.pid', '?')} on {root.tags.get('mlpop.host', '?')}"
        return [f"{owner} works on it: nothing to resume"]
    if root.status == "FINISHED":
        more = "; a larger trainer.num_rounds adds rounds" if root.kind == "experiment" else ""
        return [f"complete: nothing to resume{more}"]
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
            epochs = lineage.steps(member, "val/loss")
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
