"""What of a member's training outlives its process: checkpoints, and members that are complete."""

import json
import logging
import re
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

from mlpop.errors import DataError, MlpopError, TrackingError
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.resume.download import restore_paths
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.rounds.training_statistics import epochs_of
from mlpop.inference.estimators.store import DESCRIPTION, WEIGHTS, read_record
from mlpop.io.files import read_json_object, write_json
from mlpop.io.records import BrokenRecord, malformed
from mlpop.tracking import Node, TrackedRun
from mlpop.tracking.artifacts import fetched, file_record, listed
from mlpop.training.checkpoint import INDEX
from mlpop.training.member_task import MemberResult, MemberTask

logger = logging.getLogger(__name__)

FOLDER = "checkpoint"
SLOTS = ("state_0.safetensors", "state_1.safetensors")
STATE_FILE = re.compile(r"checkpoint_\d+\.safetensors")
STATISTICS = "training_statistics.json"


def member_paths(folders: RoundFolders, number: int, ensemble: bool) -> dict[str, Path]:
    """Return artifact name -> file of a member; in an ensemble with its number, as documented."""
    folder, member = folders.member(number), number if ensemble else None
    plot = folders.training_stats_plot(member)
    return {
        WEIGHTS: folder / WEIGHTS,
        DESCRIPTION: folder / DESCRIPTION,
        STATISTICS: folders.training_statistics(member),
        "training_stats.pdf": plot,
        "training_stats.png": plot.with_suffix(".png"),
        "trained_model.pickle": folders.trained_model(member),
        "inference.pickle": folders.inference(member),
    }


def restore_member(
    lineage: Lineage, node: Node, folders: RoundFolders, number: int, ensemble: bool
) -> MemberResult:
    """Put a complete member's files where this launch expects them.

    Their digests are compared with the manifest of its run, `node`.

    Raises:
        TrackingError, DataError: a file is missing or damaged.
    """
    folder, paths = folders.member(number), member_paths(folders, number, ensemble)
    restore_paths(lineage.store, node.run_id, paths, lineage.downloads)
    record = read_record(folder)["record"]
    history = epochs_of(read_json_object(paths[STATISTICS]))
    return MemberResult(
        folder=str(folder),
        best_epoch=record["best_epoch"],
        best_loss=record["best_loss"],
        stopped=record["stopped"],
        history=history,
        resumed_from=len(history),
        earlier_epochs=record.get("earlier_epochs", 0),
    )


def trained_already(
    lineage: Lineage,
    node: Node,
    task: MemberTask,
    folders: RoundFolders,
    number: int,
    ensemble: bool,
) -> MemberResult | None:
    """Restore a complete member that has learned what `task` is about; else say why it has not.

    Raises:
        TrackingError: the store cannot be read.
        DataError: the estimator that the task starts from cannot be read.
    """
    fingerprint = task.fingerprint
    try:
        with malformed(f"{node.name} (run {node.run_id})"):
            record = lineage.json(node, DESCRIPTION).get("record")
            if isinstance(record, dict) and record.get("fingerprint") == fingerprint:
                return restore_member(lineage, node, folders, number, ensemble)
    except BrokenRecord as error:
        logger.warning("%s is trained anew: %s", node.name, error)
        return None
    logger.warning("%s has learned from other data or settings: it is trained anew", node.name)
    return None


class CheckpointSender:
    """Stores the newest checkpoint of a member in its run, so that any machine can go on from it.

    Two slots take turns: the one that the index names is whole whatever happens meanwhile.
    """

    def __init__(self, run: TrackedRun, folder: Path) -> None:
        self._run = run
        self._folder = folder / FOLDER
        self._turn: int | None = None

    def __call__(self) -> None:
        """Store the checkpoint that lies in the member's folder now; never raises."""
        if not self._run.answers():
            logger.debug("checkpoint in %s not stored: the store is away", self._folder)
            return
        try:
            if self._turn is None:
                self._turn = self._free_slot()
            values = read_json_object(self._folder / INDEX)
            slot = SLOTS[self._turn]
            with TemporaryDirectory() as folder:
                # the training takes its file away as soon as the next one is there
                tensors = copyfile(self._folder / str(values["file"]), Path(folder, slot))
                stored = self._run.spare(tensors, f"{FOLDER}/{slot}")
            if stored:
                index = json.dumps(values | {"slot": slot})
                told = self._run.spare_text(index, f"{FOLDER}/{INDEX}")
                self._turn = 1 - self._turn if told else None
        except (MlpopError, KeyError, OSError) as error:
            logger.debug("checkpoint in %s not stored: %s", self._folder, error)

    def _free_slot(self) -> int:
        """Return the slot that the index of an earlier launch does not name."""
        client, name = self._run.store.client, f"{FOLDER}/{INDEX}"
        if name not in listed(client, self._run.run_id, FOLDER):
            return 0
        with fetched(client, self._run.run_id, name) as path:
            return 1 if read_json_object(path).get("slot") == SLOTS[0] else 0


def restore_checkpoint(lineage: Lineage, node: Node, folder: Path) -> None:
    """Put the checkpoint of a member's run into its folder, if there is no whole one yet.

    One that is damaged is left out with a warning; one that belongs to another training is not
    used by the training.
    """
    index = folder / FOLDER / INDEX
    if _is_whole(folder / FOLDER) or not lineage.has(node, f"{FOLDER}/{INDEX}"):
        return
    try:
        values = lineage.json(node, f"{FOLDER}/{INDEX}")
        slot, name = str(values["slot"]), str(values["file"])
        if slot not in SLOTS or not STATE_FILE.fullmatch(name):
            raise TrackingError(f"its index names {slot!r} and {name!r}")
        tensors = lineage.fetch(node, f"{FOLDER}/{slot}", folder / FOLDER / name)
        if file_record(tensors).sha256 != values["sha256"]:
            tensors.unlink()
            raise TrackingError(f"the SHA-256 of {slot} is not that of its index")
        write_json(index, {key: value for key, value in values.items() if key != "slot"})
    except (MlpopError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s: its checkpoint cannot be used: %s", node.name, error)


def _is_whole(folder: Path) -> bool:
    """Whether a checkpoint lies in this folder; a damaged one is cleared away."""
    index = folder / INDEX
    if not index.exists():
        return False
    try:
        values = read_json_object(index)
        intact = file_record(folder / str(values["file"])).sha256 == values["sha256"]
    except (DataError, OSError, KeyError, ValueError):
        intact = False
    if not intact:
        logger.warning("%s: the checkpoint is damaged and is not used", index)
        index.unlink(missing_ok=True)
    return intact
