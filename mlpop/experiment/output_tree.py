"""The documented folder tree: where every file of an experiment lies, and its name.

    <save_dir>/logs/<name>/<stamp>/    log.txt profile.json profile.log round_0/...
    <save_dir>/models/<name>/<stamp>/  config_sbi.json round_0/...
    <dataset root>/generated_dataset/round_0/dataset_full.csv

MLflow holds the copy that counts; this tree is for people and for other programs.
"""

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlpop.config.fields import dataset_root
from mlpop.datasets.layout import FULL_CSV, GENERATED
from mlpop.errors import ConfigError, DataError

STAMP_FORMAT = "%Y%m%d_%H%M%S"
CONFIG_FILE = "config_sbi.json"
PROPOSAL_JSON = "proposal.json"
RUN_MARK = ".mlpop-run"
LOG_DIR, SAVE_DIR = "mlpop.log_dir", "mlpop.save_dir"


@dataclass(frozen=True)
class OutputTree:
    """The folders of one launch.

    Attributes:
        logs: `<save_dir>/logs/<name>/<stamp>`.
        models: `<save_dir>/models/<name>/<stamp>`; `logs` for inference, which has that alone.
    """

    logs: Path
    models: Path

    @property
    def log_file(self) -> Path:
        """`log.txt`."""
        return self.logs / "log.txt"

    @property
    def folders(self) -> dict[str, Path]:
        """Tag of the run -> folder, of those that there are; see `output_tree`."""
        logs = {LOG_DIR: self.logs}
        return logs if self.models == self.logs else logs | {SAVE_DIR: self.models}

    def round(self, number: int) -> "RoundFolders":
        """Make and return the folders of a round."""
        folders = RoundFolders(self.logs / f"round_{number}", self.models / f"round_{number}")
        make_folder(folders.logs)
        make_folder(folders.models)
        return folders


@dataclass(frozen=True)
class RoundFolders:
    """The folders of one round, and the names of the files in them.

    `member` is the number of an ensemble member, None for a single network.
    """

    logs: Path
    models: Path

    def training_statistics(self, member: int | None = None) -> Path:
        """Curves of a training: `training_statistics[_<member>].json`."""
        return self.logs / f"training_statistics{_suffix('_', member)}.json"

    def training_stats_plot(self, member: int | None = None) -> Path:
        """Plot of the curves: `training_stats[_<member>].pdf`."""
        return self.logs / f"training_stats{_suffix('_', member)}.pdf"

    def trained_model(self, member: int | None = None) -> Path:
        """`trained_model[_ensemble_<member>].pickle`."""
        return self.models / f"trained_model{_suffix('_ensemble_', member)}.pickle"

    def inference(self, member: int | None = None) -> Path:
        """`inference[_ensemble_<member>].pickle`."""
        return self.models / f"inference{_suffix('_ensemble_', member)}.pickle"

    def member(self, number: int) -> Path:
        """Folder of a member's network: `member_<number>`, two digits."""
        return self.models / f"member_{number:02d}"

    @property
    def samples_posterior(self) -> Path:
        """Draws of the posterior at the observed sample."""
        return self.models / "samples_posterior.pt"

    @property
    def corner_plot(self) -> Path:
        """Corner plot of the posterior at the observed sample."""
        return self.models / "corner_plot_observed_sample.pdf"

    def corner_plot_prior(self, next_round: int) -> Path:
        """Corner plot of the proposal of the next round."""
        return self.models / f"corner_plot_prior_round_{next_round}.pdf"

    def samples_prior(self, next_round: int) -> Path:
        """Draws of the proposal of the next round."""
        return self.models / f"samples_prior_{next_round}.pt"


def output_tree(
    save_dir: Path,
    name: str,
    tags: Mapping[str, str] | None = None,
    *,
    run_id: str = "",
    models: bool = True,
    now: datetime | None = None,
) -> OutputTree:
    """Return the folders of a launch: those of the run that it goes on with, else new ones.

    Args:
        save_dir: `trainer.save_dir`, or `infer.save_dir` of an inference.
        name: name of the experiment.
        tags: of the run that goes on; its folders are taken if they are on this machine and say
            themselves that they are of this run: tags can be changed by whoever has the store.
        run_id: the run, written into new folders.
        models: whether there is a models folder, with the same stamp; inference has none.
        now: launch time in local time, by default the clock.

    Returns:
        Absolute folders: a resume may be started from anywhere. New ones are stamped
        `YYYYMMDD_HHMMSS`, with `_1`, `_2`, ... if that is taken: no two launches get the same.

    Raises:
        ConfigError: `name` cannot be the name of a folder.
        DataError: the folders cannot be made.
    """
    if models and tags and run_id:
        recorded = [Path(tags.get(tag, "")) for tag in (LOG_DIR, SAVE_DIR)]
        kinds = ("logs", "models")
        # a project that was moved or copied has them in its new place
        here = [
            save_dir.absolute() / k / name / p.name for k, p in zip(kinds, recorded, strict=True)
        ]
        for folders in (here, recorded):
            if all(_is_of(folder, run_id) for folder in folders):
                return OutputTree(*folders)
    if not name or name != Path(name).name or name in (".", ".."):
        raise ConfigError(f"name: '{name}' cannot be the name of a folder; leave out '/' and '..'")
    stamp = (now or datetime.now()).strftime(STAMP_FORMAT)
    for count in itertools.count():
        folder_name = stamp if count == 0 else f"{stamp}_{count}"
        logs = save_dir.absolute() / "logs" / name / folder_name
        if not _claim(logs, run_id):
            continue
        if not models:
            return OutputTree(logs, logs)
        beside = save_dir.absolute() / "models" / name / folder_name
        if _claim(beside, run_id):
            return OutputTree(logs, beside)
        # the models of a launch whose logs were deleted
        (logs / RUN_MARK).unlink(missing_ok=True)
        logs.rmdir()
    raise AssertionError("unreachable")


def dataset_round(root: Path, number: int) -> Path:
    """Return `<root>/generated_dataset/round_<number>`, the folder of `dataset_full.csv`."""
    return dataset_root(root) / GENERATED / f"round_{number}"


def dataset_csv(path: Path) -> Path:
    """Return the index file of a given round-0 folder.

    Raises:
        ConfigError: it has none; the message says how to make one.
    """
    folders = (path, dataset_round(path, 0))
    for folder in folders:
        if (folder / FULL_CSV).is_file():
            return folder / FULL_CSV
    raise ConfigError(
        f"{path}: holds no {FULL_CSV}; make one with `mlpop simulate`, or set "
        '"simulate": true in the data loader'
    )


def check_writable(folder: Path, field: str) -> None:
    """Refuse a folder that cannot be made, or in which nothing can be written.

    Raises:
        ConfigError: naming the folder that is in the way.
    """
    place = existing_parent(folder)
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".mlpop-"):
            pass
    except OSError as error:
        raise ConfigError(
            f"{field}: '{folder}' cannot be written: {place}: {error.strerror or error}"
        ) from None


def existing_parent(folder: Path) -> Path:
    """Return a folder if it exists, else the first above it that does."""
    place = folder.absolute()
    while not place.exists() and not place.is_symlink():
        place = place.parent
    return place


def init_folders(base: Path) -> list[Path]:
    """Make the documented tree for datasets that are brought along; safe to repeat.

    Returns:
        The folders that now exist, in order.

    Raises:
        DataError: a folder cannot be made.
    """
    folders = []
    for kind in ("training_dataset", "test_dataset"):
        root = base / "data" / kind
        folders += [dataset_round(root, 0), root / "simulations"]
    for folder in folders:
        make_folder(folder)
    return folders


def _suffix(separator: str, member: int | None) -> str:
    return "" if member is None else f"{separator}{member}"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they exist.

    Raises:
        DataError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error}") from error


def _is_of(folder: Path, run_id: str) -> bool:
    """Whether a folder was made for this run."""
    try:
        return folder.is_absolute() and (folder / RUN_MARK).read_text(encoding="utf-8") == run_id
    except (OSError, ValueError):
        return False


def _claim(folder: Path, run_id: str) -> bool:
    """Make a folder that nobody else has, and write into it whose it is; False if it exists."""
    make_folder(folder.parent)
    try:
        folder.mkdir()
        if run_id:
            (folder / RUN_MARK).write_text(run_id, encoding="utf-8")
    except FileExistsError:
        return False
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error}") from error
    return True
