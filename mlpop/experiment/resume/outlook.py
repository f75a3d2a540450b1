"""What a resume of a run tree would keep and do, as `mlpop status RUN` shows it."""

from mlpop.datasets.shards import SHARDS_FOLDER
from mlpop.errors import TrackingError
from mlpop.experiment.resume.attempts import CONFIG_FILES, recorded_configuration, recorded_json
from mlpop.experiment.resume.start import lineage_of
from mlpop.tracking import Node, Store
from mlpop.tracking.artifacts import listed
from mlpop.tracking.owner import owner_of
from mlpop.tracking.run import STAGE_TAG

RESUMED_BY = {"experiment": "mlpop sbi", "train_nn": "mlpop train-nn", "study": "mlpop study"}
"""Kind of a run at the top -> the command that takes `--resume`."""


def outlook(store: Store, root: Node) -> list[str]:
    """Return what a resume of a tree would keep and do, line by line.

    Artifacts are not read: a resume compares their digests, and does again what is damaged.
    """
    if root.kind not in RESUMED_BY:
        return []
    command, config_file = RESUMED_BY[root.kind], CONFIG_FILES[root.kind]
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
    return node.tags.get(STAGE_TAG) or node.state or "beginning"


def recorded_rounds(store: Store, root: Node) -> int | None:
    """Return how many rounds an experiment is to have, None if it ended before it said so."""
    try:
        return int(
            recorded_json(store, root.run_id, CONFIG_FILES[root.kind])["trainer"]["num_rounds"]
        )
    except (TrackingError, KeyError, TypeError, ValueError):
        return None


def _shards(store: Store, node: Node, kind: str) -> int:
    return len(listed(store.client, node.run_id, f"{kind}/{SHARDS_FOLDER}"))
