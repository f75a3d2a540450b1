"""What an interrupted experiment has done already, read from its tree of MLflow runs."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.resume.attempts import recorded_json
from mlpop.experiment.resume.download import Downloads, expected_records, restore_paths
from mlpop.tracking import Node, Store, verify
from mlpop.tracking.artifacts import MANIFEST, listed
from mlpop.tracking.store import translated

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lineage:
    """The runs of earlier launches of an experiment.

    Attributes:
        store: where they are kept.
        root: the experiment's run with all that is nested in it; None for a new experiment.
        origin: what this experiment is a branch of, if it is one.
        last_round: the last round that is taken from there.
        downloads: artifacts that were fetched to be verified.
        distrusted: runs whose files have the digests of their manifest and yet cannot be used.
    """

    store: Store
    root: Node | None = None
    origin: "Lineage | None" = None
    last_round: int = -1
    downloads: Downloads = field(default_factory=Downloads, compare=False)
    distrusted: set[str] = field(default_factory=set, compare=False)

    def tag(self, key: str) -> str | None:
        """Return a tag of the experiment's run, or of what it is a branch of."""
        if self.root is not None and key in self.root.tags:
            return self.root.tags[key]
        return None if self.origin is None else self.origin.tag(key)

    def round(self, number: int) -> Node | None:
        """Return the newest run of a round, None if it was never begun."""
        if self.origin is not None and number <= self.last_round:
            return self.origin.round(number)
        return _newest(self.root, "round", number)

    def is_complete(self, node: Node) -> bool:
        """Whether a run ended well and every artifact is as its manifest says."""
        if node.status != "FINISHED" or node.run_id in self.distrusted:
            return False
        read_back = partial(self.downloads.read_back, self.store, node.run_id)
        faults = verify(self.store.client, node.run_id, read_back)
        if faults:
            name = f"{node.name} of round {node.round}" if node.kind == "member" else node.name
            logger.warning("%s is done again: %s", name, "; ".join(faults))
        return not faults

    def complete_rounds(self, config: SbiConfig) -> int:
        """Return how many rounds of an experiment are complete, counted from its first one.

        A round is, if all members of its ensemble are.
        """
        for number in range(config.trainer.num_rounds):
            node = self.round(number)
            members = (member_of(node, j) for j in range(config.trainer.members))
            if not all(run is not None and self.is_complete(run) for run in (node, *members)):
                return number
        return config.trainer.num_rounds

    def seems_complete(self, node: Node) -> bool:
        """Whether a run ended well and has a manifest; nothing that it lists is read."""
        return node.status == "FINISHED" and self.has(node, MANIFEST)

    def has(self, node: Node, name: str) -> bool:
        """Whether a run has an artifact of this name."""
        folder = str(Path(name).parent)
        return name in listed(self.store.client, node.run_id, None if folder == "." else folder)

    def fetch(self, node: Node, name: str, target: Path) -> Path:
        """Copy an artifact of a run to `target`, unless the same file is there already.

        Raises:
            TrackingError: it is missing, or not what the manifest of the run says.
            DataError: the disk refuses.
        """
        restore_paths(self.store, node.run_id, {name: target}, self.downloads)
        return target

    def fetch_all(self, node: Node, names: Iterable[str], folder: Path) -> None:
        """Copy artifacts of a run into `folder`; see `fetch`."""
        targets = {name: folder / name for name in names}
        restore_paths(self.store, node.run_id, targets, self.downloads)

    def names(self, node: Node) -> list[str]:
        """Return the artifacts that the manifest of a complete run lists."""
        return list(expected_records(self.store, node.run_id))

    def metrics(self, node: Node) -> dict[str, float]:
        """Return the last value of every metric of a run."""
        with translated(f"metrics of run {node.run_id}"):
            return dict(self.store.client.get_run(node.run_id).data.metrics)

    def last_step(self, node: Node, curve: str) -> int:
        """Return the last step of a curve of a run, 0 if it has none."""
        with translated(f"metrics of run {node.run_id}"):
            history = self.store.client.get_metric_history(node.run_id, curve)
        return max((int(point.step) for point in history), default=0)

    def json(self, node: Node, name: str) -> dict[str, Any]:
        """Return a JSON artifact of a run; see `recorded_json`."""
        return recorded_json(self.store, node.run_id, name)


def member_of(round_node: Node | None, number: int) -> Node | None:
    """Return the newest run of an ensemble member of a round, None if it was never begun."""
    return _newest(round_node, "member", number)


def _newest(parent: Node | None, kind: str, number: int) -> Node | None:
    if parent is None:
        return None
    nodes = [
        node
        for node in parent.children
        if node.kind == kind and (node.round if kind == "round" else node.member) == number
    ]
    return nodes[-1] if nodes else None
