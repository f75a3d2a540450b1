"""Datasets of simulations: found where an earlier launch made them, else simulated."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mlpop.compute import Backend, Progress, Purpose, run_campaign
from mlpop.compute.campaign.claim import size_of_shards
from mlpop.compute.campaign.shard_task import CAMPAIGN_FILE
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.blocks.generator import GeneratorConfig
from mlpop.config.fields import Location, S3Uri
from mlpop.datasets.dataset import assemble, dataset_digest
from mlpop.datasets.index import DatasetIndex
from mlpop.datasets.layout import FULL_CSV, FULL_STATISTICS, GENERATED, SET_KEY
from mlpop.datasets.remote.dataset import RemoteDataset
from mlpop.datasets.shards import SHARDS_FOLDER, USABLE, ShardRecord
from mlpop.errors import DataError
from mlpop.experiment.output_tree import dataset_round
from mlpop.experiment.simulations.pace import Pace
from mlpop.io.files import json_digest, write_atomically
from mlpop.io.locks import alone_in
from mlpop.maps.detected import BYTES

logger = logging.getLogger(__name__)

KEPT_SIMULATIONS = 100_000
"""Of larger sets detected pulsars are kept only where that is asked for."""

TYPICAL_DETECTIONS = 2400
"""Pulsars that the surveys of the maps find together; PMPS, SMPS and HTRU found 2358."""


@dataclass(frozen=True)
class SimulatorPlan:
    """Which simulator makes the data, and what its output is called.

    Attributes:
        block: `{"type": ..., "args": ...}` as a worker builds it.
        labels: D names of theta.
        channels: names of the maps, in the order of an index file's columns.
        identity: digest of what is simulated, free of paths.
        generator: how maps are made; None where the simulator makes none of pulsars.
    """

    block: Mapping[str, Any]
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    identity: str
    generator: GeneratorConfig | None


@dataclass(frozen=True)
class SuppliedSet:
    """A dataset on disk.

    Attributes:
        csv: its index file.
        digest: SHA-256 of its content.
        num_simulations: simulations asked for; rows of the file for a given set.
        counts: simulations by status; empty for a given set.
        seconds: time spent on simulating in this launch [s].
        simulated: whether mlpop made it.
    """

    csv: Path
    digest: str
    num_simulations: int
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    simulated: bool = False

    @property
    def statistics(self) -> Path:
        """Mean, std, min and max of its labels, if it has the file."""
        return self.csv.parent / FULL_STATISTICS

    @property
    def failed_fraction(self) -> float:
        """Fraction of the simulations that gave no maps."""
        usable = self.counts.get("ok", 0) + self.counts.get("limit", 0)
        return 1 - usable / self.num_simulations if self.simulated else 0.0


def place_of_set(
    root: Location | None, fallback: Path, round_: int, key: str
) -> tuple[Path, S3Uri | None]:
    """Return `<root>/generated_dataset/round_<r>`: the folder, and where it is kept too.

    The folder is this set's from then on: it says `key`. Where `round_<r>` holds other
    simulations, or data that somebody put there, the set gets `round_<r>_<key>`. `root` is the
    `dataset_path` of the loader; where it is in an object store, which gives a set a second
    place, or None, the folder lies below `fallback`. In a store the place always has the key:
    nothing there can be locked.

    Raises:
        DataError: the folder cannot be made or written.
    """
    plain = dataset_round(root if isinstance(root, Path) else fallback, round_)
    keyed = plain.with_name(f"{plain.name}_{key[:12]}")
    if isinstance(root, S3Uri):
        above = root if root.name == GENERATED else root / GENERATED
        return keyed, above / keyed.name
    if keyed.is_dir() or not _claimed(plain, key):
        return keyed, None
    return plain, None


def _claimed(folder: Path, key: str) -> bool:
    """Write `key` into a folder that holds no data yet; tell whether it is the one there."""
    with alone_in(folder):
        path = folder / SET_KEY
        if path.is_file():
            return path.read_text(encoding="utf-8").strip() == key
        if any((folder / name).exists() for name in (FULL_CSV, SHARDS_FOLDER, CAMPAIGN_FILE)):
            return False
        write_atomically(path, f"{key}\n")
        return True


def set_key(
    plan: SimulatorPlan, theta: NDArray[np.float64], root_seed: int, purpose: Purpose, round_: int
) -> str:
    """Return a digest of everything that decides the content of a simulated set."""
    content = {
        "simulator": plan.identity,
        "labels": plan.labels,
        "theta": hashlib.sha256(np.ascontiguousarray(theta, "<f8").tobytes()).hexdigest(),
        "root_seed": root_seed,
        "purpose": purpose.name,
        "round": round_,
    }
    return json_digest(content)


def simulate_set(
    plan: SimulatorPlan,
    theta: NDArray[np.float64],
    folder: Path,
    backend: Backend,
    *,
    root_seed: int,
    purpose: Purpose,
    round_: int,
    compute: ComputeConfig,
    min_success_fraction: float,
    title: str,
    on_progress: Callable[[Progress, Pace], None] | None = None,
    on_shard: Callable[[ShardRecord], None] | None = None,
    remote: S3Uri | None = None,
) -> SuppliedSet:
    """Simulate every row of `theta` into a dataset; finished shards of the folder are kept.

    Of launches that want the same folder at the same time one simulates, the others wait for it.

    Args:
        theta: (N, D) parameters, physical units.
        min_success_fraction: smallest accepted fraction of usable simulations.
        on_progress: told what was done, and how fast.
        on_shard: told once of every finished shard, those of earlier launches too, when it is in
            the folder.
        remote: where the dataset is kept in an object store too: finished shards are taken from
            there, workers put theirs there, and in the end so are the files that describe it.

    Raises:
        DataError: too few simulations are usable, the folder or `remote` holds another campaign,
            or the disk refuses.
        ComputeError: the simulations cannot be run.
        TrackingError: the object store cannot be used.
    """
    started = time.monotonic()
    place = None if remote is None else RemoteDataset(remote)
    with (
        alone_in(folder),
        tqdm(total=len(theta), desc=title, unit="sim", disable=None) as bar,
    ):
        pace = Pace(title, lines=bool(bar.disable))

        def tell(progress: Progress) -> None:
            pace.hear(progress)
            bar.update(progress.done - bar.n)
            if on_shard is not None and progress.shard is not None:
                on_shard(progress.shard)
            _give_up_early(progress, min_success_fraction, folder)
            if on_progress is not None:
                on_progress(progress, pace)

        shards = run_campaign(
            _with_detections(plan, len(theta), compute, folder),
            theta,
            plan.labels,
            root_seed,
            purpose,
            round_,
            folder,
            backend,
            simulations_per_task=size_of_shards(folder, len(theta), compute.simulations_per_task),
            time_limit=compute.time_limit,
            max_attempts=compute.max_attempts,
            max_in_flight=compute.max_in_flight,
            identity=plan.identity,
            on_progress=tell,
            remote=place,
        )
        dataset = assemble(
            folder,
            plan.labels,
            theta,
            plan.channels,
            shards,
            min_success_fraction=min_success_fraction,
            generator=plan.generator,
        )
        if place is not None:
            place.push_files(folder)
    seconds = time.monotonic() - started
    counts = {status: number for status, number in dataset.counts.items() if number}
    told = ", ".join(f"{number} {status}" for status, number in counts.items())
    logger.info("%s: %s in %.1f s (%s)", title, told, seconds, dataset.csv)
    return SuppliedSet(
        dataset.csv, dataset_digest(folder), len(theta), counts, seconds, simulated=True
    )


def _with_detections(
    plan: SimulatorPlan, number: int, compute: ComputeConfig, folder: Path
) -> Mapping[str, Any]:
    """Return the simulator's block, which is told to keep what it detects where that is wanted.

    It is no part of what is simulated: shards with and without are of the same set.
    """
    keep = compute.keep_detections
    if keep is None:
        keep = number <= KEPT_SIMULATIONS
    if not keep or plan.generator is None or plan.channels != plan.generator.survey_channels:
        return plan.block
    size = number * TYPICAL_DETECTIONS * BYTES
    if size > 1e6:
        logger.info(
            "%s: detected pulsars are kept, about %s (compute.keep_detections)",
            folder,
            f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6:.0f} MB",
        )
    return {**plan.block, "args": {**plan.block["args"], "keep_detections": True}}


def _give_up_early(progress: Progress, min_success_fraction: float, folder: Path) -> None:
    """Do not simulate on when too many have failed already; say why the last one did."""
    failed = progress.done - sum(progress.counts.get(status, 0) for status in USABLE)
    if progress.shard is None or failed <= (1 - min_success_fraction) * progress.total + 1e-9:
        return
    messages = [row.message for row in progress.shard.rows if row.status not in USABLE]
    raise DataError(
        f"{folder}: {failed} of the first {progress.done} simulations failed, of {progress.total} "
        f"a fraction of {min_success_fraction} must succeed"
        + (f"; the last failure: {messages[-1]}" if messages else "")
    )


def given_set(csv: Path) -> SuppliedSet:
    """Describe a dataset that the user brought along.

    Raises:
        DataError: the index file or a map is missing or broken.
    """
    index = DatasetIndex.read(csv)
    return SuppliedSet(csv, dataset_digest(csv.parent, index_file=csv.name), len(index))
