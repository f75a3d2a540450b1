"""Trained rounds of an experiment: from its folder below `models/`, or from its MLflow run.

Only JSON, `.npy` and safetensors are read; the documented pickles are not.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

from mlpop.config.base import read_json
from mlpop.config.reading import sought_in
from mlpop.errors import ConfigError, DataError, MlpopError, TrackingError
from mlpop.experiment.diagnostics.table import load_learned, memory_files
from mlpop.experiment.inputs.observed import (
    X_O,
    X_O_DETAIL,
    X_O_JSON,
    ObservedSample,
    load_observed_copy,
)
from mlpop.experiment.inputs.problem import PROBLEM, LearningProblem, load_problem
from mlpop.experiment.output_tree import CONFIG_FILE, PROPOSAL_JSON
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.resume.start import lineage_of
from mlpop.inference.estimators.store import DESCRIPTION, WEIGHTS
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.posteriors.preprocessing import COMPRESSOR_FOLDER
from mlpop.inference.posteriors.store import POSTERIOR_FILE, load_posterior
from mlpop.io.files import json_digest
from mlpop.tracking import Node, Store, connect, find, root_of, tree
from mlpop.tracking.artifacts import MANIFEST, file_record, manifest_records, read_manifest
from mlpop.tracking.run import CONFIG_DIGEST_TAG

logger = logging.getLogger(__name__)

RUN_URI = "runs:/"
FIELD = "infer.load_dir"


@dataclass(frozen=True)
class TrainedRounds:
    """The rounds of one training.

    Attributes:
        source: the launch's folder, or `runs:/<run id>`.
        posteriors: of rounds 0, 1, ...
        learned: of the same rounds: diagnostic -> what it has learned from the simulations;
            without what a round has not kept.
        proposals: of the same rounds: `proposal.json`; empty where there is none.
        problem: labels, channels, prior and preprocessing, the same in every round.
        observed: x_o of the training; None where it was not kept.
        config: its resolved configuration; None where it was not kept.
        run_id: MLflow run that the rounds were read from; None for a folder.
    """

    source: str
    posteriors: Sequence[Posterior]
    learned: Sequence[Mapping[str, Any]]
    proposals: Sequence[Mapping[str, Any]]
    problem: LearningProblem
    observed: ObservedSample | None
    config: Mapping[str, Any] | None
    run_id: str | None

    def origin(self, store: Store) -> Node | None:
        """Return the run of the training with all below it, None if this store has it not."""
        run_id = self.run_id
        if run_id is None and self.config is not None:
            run_id = _run_of(store, Path(self.source), self.config)
        return None if run_id is None else tree(store, run_id)


def load_rounds(load_dir: Path, num_rounds: int | None, *, field: str = FIELD) -> TrainedRounds:
    """Load the posteriors of rounds 0 to `num_rounds` - 1.

    Args:
        load_dir: `models/<name>/<stamp>` of a launch, `models/<name>`, of which the newest
            launch is taken, or `runs:/<run id>` of an experiment.
        num_rounds: how many; None: as many as the training was to have.
        field: what gave `load_dir`, for messages.

    Raises:
        ConfigError: there is no such folder, or it holds no trained rounds.
        DataError: a file of a round is missing or damaged; the message names both.
        TrackingError: the run does not exist or is not complete.
    """
    if not str(load_dir).startswith(RUN_URI):
        return _load(launch_folder(load_dir, field=field), num_rounds, None)
    store = connect()
    try:
        # a path has lost one of the two slashes that some write
        run_id = root_of(store, str(load_dir).removeprefix(RUN_URI).strip("/"))
        with TemporaryDirectory(prefix="mlpop-infer-") as scratch:
            _fetch(store, run_id, num_rounds, Path(scratch))
            return _load(Path(scratch), num_rounds, run_id)
    except TrackingError as error:
        raise TrackingError(f"{field}: {error}") from error


def launch_folder(load_dir: Path, *, field: str = FIELD) -> Path:
    """Return the folder of a launch: `load_dir` itself, or its newest launch.

    Args:
        load_dir: `models/<name>/<stamp>`, or `models/<name>`.
        field: what gave it, for messages.

    Raises:
        ConfigError: there is none.
    """
    if not load_dir.is_dir():
        raise ConfigError(
            f"{field}: no such folder '{load_dir}'{sought_in(load_dir)}; give a launch's folder "
            "below models/, or runs:/<run id>; `mlpop sbi` makes them"
        )
    if (load_dir / "round_0").is_dir():
        return load_dir
    launches = [path.parent for path in load_dir.glob("*/round_0") if path.is_dir()]
    if not launches:
        raise ConfigError(
            f"{field}: '{load_dir}' holds no round_0; give a launch's folder below models/"
        )
    newest = max(launches, key=lambda path: _age(path.name))
    if len(launches) > 1:
        logger.info("%s holds %d launches; taking the newest", load_dir, len(launches))
    return newest


def _age(stamp: str) -> tuple[str, int]:
    """Return a sort key of `YYYYMMDD_HHMMSS[_<count>]`: `_10` comes after `_9`."""
    day, _, rest = stamp.partition("_")
    time, _, count = rest.partition("_")
    return f"{day}_{time}", int(count) if count.isdecimal() else 0


def _load(folder: Path, num_rounds: int | None, run_id: str | None) -> TrainedRounds:
    number = _recorded_rounds(folder) if num_rounds is None else num_rounds
    fewer = num_rounds is not None
    posteriors = [load_round(folder / f"round_{i}", i, fewer=fewer) for i in range(number)]
    first = folder / "round_0"
    try:
        learned = [load_learned(folder / f"round_{i}") for i in range(number)]
        records = [folder / f"round_{i}" / PROPOSAL_JSON for i in range(number)]
        proposals = [read_json(path) if path.is_file() else {} for path in records]
        problem = load_problem(first / PROBLEM)
        kept = (first / X_O).is_file() and (first / X_O_JSON).is_file()
        observed = load_observed_copy(first) if kept else None
    except MlpopError as error:
        raise DataError(f"round 0: {error}") from None
    config = folder / CONFIG_FILE
    return TrainedRounds(
        source=str(folder) if run_id is None else f"{RUN_URI}{run_id}",
        posteriors=posteriors,
        learned=learned,
        proposals=proposals,
        problem=problem,
        observed=observed,
        config=read_json(config) if config.is_file() else None,
        run_id=run_id,
    )


def _recorded_rounds(folder: Path) -> int:
    """Return how many rounds the training in a folder was to have.

    Raises:
        DataError: its configuration is missing or broken.
    """
    path = folder / CONFIG_FILE
    try:
        return int(read_json(path)["trainer"]["num_rounds"])
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: does not tell the number of rounds: {error}") from None


def load_round(folder: Path, round_: int, *, fewer: bool = True) -> Posterior:
    """Load the posterior of a round from its folder below `models/`.

    `fewer` tells whether who asks for it might ask for fewer rounds.

    Raises:
        DataError: a file is missing, damaged, or not the one that the round wrote.
    """
    path = folder / POSTERIOR_FILE
    if not path.is_file():
        advice = f", or set trainer.num_rounds to {round_}" if round_ and fewer else ""
        raise DataError(
            f"round {round_}: {path}: no such file; the training has not finished this round: "
            f"resume it{advice}"
        )
    try:
        _check_written(path, folder / MANIFEST)
        return load_posterior(path)
    except MlpopError as error:
        raise DataError(f"round {round_}: {error}") from None


def _check_written(path: Path, manifest: Path) -> None:
    """Compare a file with the manifest of its round; a folder may have lost its manifest."""
    if not manifest.is_file():
        return
    try:
        expected = manifest_records(read_json(manifest)).get(path.name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{manifest}: cannot be read: {error!r}") from None
    if expected is not None and file_record(path) != expected:
        raise DataError(f"{path}: its SHA-256 is not that of {manifest.name}; it was changed")


def _run_of(store: Store, folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the id of the run that wrote a folder, if this store has it."""
    digest = json_digest(dict(config))
    for place in dict.fromkeys((str(folder), str(folder.absolute()))):
        for run in find(store, {"mlpop.kind": "experiment", "mlpop.save_dir": place}):
            if run.data.tags.get(CONFIG_DIGEST_TAG) == digest:
                return str(run.info.run_id)
    return None


def _fetch(store: Store, run_id: str, num_rounds: int | None, folder: Path) -> None:
    """Copy what `_load` reads; every file is compared with the manifest of its run."""
    node = tree(store, run_id)
    if node.kind != "experiment":
        raise TrackingError(
            f"run {run_id} is of kind '{node.kind or 'unknown'}', not 'experiment'"
        )
    lineage = lineage_of(store, node)
    lineage.fetch(node, CONFIG_FILE, folder / CONFIG_FILE)
    for i in range(_recorded_rounds(folder) if num_rounds is None else num_rounds):
        round_ = lineage.round(i)
        if round_ is None:
            advice = f"set trainer.num_rounds to {max(i, 1)}"
            if num_rounds is None:
                advice = f"mlpop sbi --resume {run_id}"
            raise TrackingError(f"run '{node.name}' ({run_id}) has no round {i}; {advice}")
        fetch_round(lineage, round_, folder / f"round_{i}")
        for name in {*memory_files(), PROPOSAL_JSON} & set(lineage.names(round_)):
            lineage.fetch(round_, name, folder / f"round_{i}" / name)


def fetch_round(lineage: Lineage, node: Node, folder: Path) -> None:
    """Copy what the posterior of a round is made of, each file compared with its manifest.

    Args:
        lineage: of the experiment.
        node: the run of the round.
        folder: where to.

    Raises:
        TrackingError: the round is not complete, or a file is missing or was changed.
    """
    names = _listed(lineage.store, node)
    compressor = [name for name in names if name.startswith(f"{COMPRESSOR_FOLDER}/")]
    about = [
        name for name in names if name in (PROBLEM, X_O, X_O_JSON) or name.startswith(X_O_DETAIL)
    ]
    lineage.fetch_all(node, _inside([POSTERIOR_FILE, *about, *compressor]), folder)
    shared = folder.parent / "round_0" / COMPRESSOR_FOLDER
    if shared.is_dir() and not compressor:
        # all rounds have that of round 0, which is stored once
        copytree(shared, folder / COMPRESSOR_FOLDER)
    try:
        members = json.loads((folder / POSTERIOR_FILE).read_text(encoding="utf-8"))["members"]
    except (ValueError, KeyError, TypeError) as error:
        raise TrackingError(f"{POSTERIOR_FILE} of run {node.run_id}: {error!r}") from None
    runs = {child.name: child for child in node.children if child.kind == "member"}
    for name in _inside(members):
        if name not in runs:
            raise TrackingError(f"run '{node.name}' ({node.run_id}) has no run of {name}")
        _listed(lineage.store, runs[name])
        lineage.fetch_all(runs[name], [WEIGHTS, DESCRIPTION], folder / name)


def _listed(store: Store, node: Node) -> list[str]:
    """Return the artifacts of a run.

    Raises:
        TrackingError: the run has no manifest, which comes last of all.
    """
    manifest = read_manifest(store.client, node.run_id)
    if manifest is None:
        raise TrackingError(
            f"run '{node.name}' ({node.run_id}) is not complete; resume its training"
        )
    return list(manifest_records(manifest))


def _inside(names: Iterable[Any]) -> list[str]:
    """Refuse names that would be written outside the folder they are meant for."""
    listed = [str(name) for name in names]
    for name in listed:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise TrackingError(f"artifact {name!r} would be written outside its folder")
    return listed
