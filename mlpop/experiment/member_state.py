"""What of a member's training outlives its process: checkpoints, and members that are complete."""

import json
import logging
from pathlib import Path

from mlpop.errors import DataError, TrackingError
from mlpop.experiment.folders import RoundFolders
from mlpop.experiment.lineage import Lineage
from mlpop.experiment.statistics import epochs_of
from mlpop.inference.checkpoint import EpochRecord
from mlpop.inference.ensemble import MemberResult
from mlpop.inference.store import DESCRIPTION, WEIGHTS, read_record
from mlpop.maps.files import read_json_object
from mlpop.tracking import Node, TrackedRun
from mlpop.tracking.artifacts import file_record

logger = logging.getLogger(__name__)

INDEX = "checkpoint.json"
FOLDER = "checkpoint"
STATISTICS = "training_statistics.json"


def restore_member(
    lineage: Lineage, node: Node, folders: RoundFolders, number: int, member: int | None
) -> MemberResult:
    """Put a complete member's files where this launch expects them.

    Args:
        lineage: of the experiment.
        node: the member's run.
        folders: of its round.
        number: of the member.
        member: its number in the names of files, None for a single network.

    Raises:
        TrackingError, DataError: a file is missing or damaged.
    """
    folder = folders.member(number)
    lineage.fetch_all(node, (WEIGHTS, DESCRIPTION), folder)
    statistics = lineage.fetch(node, STATISTICS, folders.training_statistics(member))
    lineage.fetch(node, "training_stats.pdf", folders.training_stats_plot(member))
    lineage.fetch(node, "trained_model.pickle", folders.trained_model(member))
    lineage.fetch(node, "inference.pickle", folders.inference(member))
    record = read_record(folder)["record"]
    history = tuple(EpochRecord(*values) for values in epochs_of(read_json_object(statistics)))
    return MemberResult(
        folder=str(folder),
        best_epoch=record["best_epoch"],
        best_loss=record["best_loss"],
        stopped=record["stopped"],
        seconds=sum(epoch.seconds for epoch in history),
        history=history,
        resumed_from=len(history),
    )


class CheckpointSender:
    """Stores the newest checkpoint of a member in its run, so that any machine can go on from it.

    Two slots take turns: the one that the index names is whole whatever happens meanwhile.
    """

    def __init__(self, run: TrackedRun, folder: Path) -> None:
        self._run = run
        self._folder = folder / FOLDER
        self._turn = 0

    def __call__(self) -> None:
        """Store the checkpoint that lies in the member's folder now; never raises."""
        try:
            values = read_json_object(self._folder / INDEX)
            tensors = self._folder / str(values["file"])
            slot = f"state_{self._turn}.safetensors"
            if self._run.spare(tensors, f"{FOLDER}/{slot}"):
                index = json.dumps(values | {"slot": slot})
                self._run.spare_text(index, f"{FOLDER}/{INDEX}")
                self._turn = 1 - self._turn
        except (DataError, KeyError) as error:
            logger.debug("checkpoint in %s not stored: %s", self._folder, error)


def restore_checkpoint(lineage: Lineage, node: Node, folder: Path) -> None:
    """Put the checkpoint of a member's run into its folder, if there is none yet.

    One that is damaged, or belongs to another training, is not used by the training.
    """
    index = folder / FOLDER / INDEX
    if index.exists() or not lineage.has(node, f"{FOLDER}/{INDEX}"):
        return
    try:
        values = lineage.json(node, f"{FOLDER}/{INDEX}")
        slot, name = Path(str(values["slot"])).name, Path(str(values["file"])).name
        tensors = lineage.fetch(node, f"{FOLDER}/{slot}", folder / FOLDER / name)
        if file_record(tensors).sha256 == values["sha256"]:
            lineage.fetch(node, f"{FOLDER}/{INDEX}", index)
    except (TrackingError, KeyError, TypeError) as error:
        logger.warning("%s: its checkpoint cannot be used: %s", node.name, error)
