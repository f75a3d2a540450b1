"""Memory, files and time of large training sets: from finished shards to the first epoch.

    python -P benchmarks/memory.py [--sizes 10000,30000,100000] [--folder FOLDER] [--epochs 1]

A set is a thousand random maps (6, 32, 32) repeated and perturbed, written as shards of the size
that `mlpop sbi` would choose. Ten shards hold maps of their own, the others are links to them, so
that a million simulations fit on a disk. The driver, a process of its own, assembles them,
computes the digest, loads the set and writes the arrays that networks train on; the trainer,
another one, trains a small network on them. Of each the peak of its resident memory is read
(`VmHWM`), and of its own memory alone (`RssAnon`, sampled 20 times a second): the rest are pages
of files, which the system takes back when it needs them. Every set needs about 52 kB of disk a
simulation while it is measured; it is removed afterwards.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE, LABELS, CHANNELS = (6, 32, 32), ("a", "b"), tuple(f"c{k}" for k in range(6))
BASE = 1000
DISTINCT = 10
"""Shards with maps of their own."""


def make(folder: Path, count: int) -> np.ndarray:
    """Write the shards of a set; return theta (count, 2)."""
    from mlpop.compute.campaign.claim import size_of_shards
    from mlpop.datasets.shards import SHARDS_FOLDER, SimulationRow, write_shard

    rng = np.random.default_rng(1)
    theta = rng.uniform(-1, 1, (count, 2))
    base = rng.random((BASE, *SHAPE), dtype=np.float32)
    size = size_of_shards(folder, count, 16)
    written: dict[tuple[int, int], Path] = {}
    for number, first in enumerate(range(0, count, size)):
        rows = []
        for index in range(first, min(first + size, count)):
            x = base[(index - first) % BASE] + np.float32(number % DISTINCT)
            maps = dict(zip(CHANNELS, x, strict=True))
            info = {"birth_rate": {"PMPS": 1.0, "SMPS": 2.0, "HTRU": 3.0}, "n_created": index}
            rows.append(SimulationRow(index, f"1:{index}", info=info, maps=maps))
        record = write_shard(folder, number, rows)
        if number < DISTINCT:
            written[number, len(rows)] = folder / SHARDS_FOLDER / record.name
        elif same := written.get((number % DISTINCT, len(rows))):
            for path in (folder / SHARDS_FOLDER / record.name).glob("*.npy"):
                path.unlink()
                path.hardlink_to(same / path.name)
    return theta


class Peak:
    """The largest memory of this process within a block [MiB]."""

    def __enter__(self) -> "Peak":
        self.anonymous = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.resident = _status("VmHWM")

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.anonymous = max(self.anonymous, _status("RssAnon"))


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def drive(folder: Path) -> dict[str, Any]:
    """Do what a round does between its last simulation and the first epoch."""
    from mlpop.config.blocks.prior import PriorConfig
    from mlpop.datasets.dataset import assemble, dataset_digest
    from mlpop.datasets.loading import load_dataset
    from mlpop.datasets.precision import poor_channels
    from mlpop.datasets.shards import ShardRecords
    from mlpop.experiment.inputs.problem import LearningProblem, write_training_arrays
    from mlpop.inference.posteriors.preprocessing import Preprocessing
    from mlpop.inference.prior import Prior

    seconds, started = {}, time.monotonic()
    with Peak() as peak:
        theta = np.load(folder / "theta.npy")
        shards = ShardRecords(folder, range(len(list((folder / "shards").iterdir()))))
        assemble(folder, LABELS, theta, CHANNELS, shards)
        seconds["assemble"] = time.monotonic() - started
        digest = dataset_digest(folder)
        seconds["digest"] = time.monotonic() - started - sum(seconds.values())
        data = load_dataset(folder / "dataset_full.csv")
        poor_channels(data.x, data.channels)
        seconds["load"] = time.monotonic() - started - sum(seconds.values())
        prior = Prior.configured(PriorConfig(labels=LABELS, low=(-1.0, -1.0), high=(1.0, 1.0)))
        problem = LearningProblem(prior, data.channels, Preprocessing("standardize"))
        arrays = write_training_arrays(folder / "arrays", problem, data)
        seconds["arrays"] = time.monotonic() - started - sum(seconds.values())
    return {
        "seconds": seconds,
        "anonymous_mib": peak.anonymous,
        "resident_mib": peak.resident,
        "digest": digest,
        "arrays": arrays.digest,
        "files": sum(1 for path in folder.rglob("*") if path.is_file()),
    }


def train(folder: Path, epochs: int) -> dict[str, Any]:
    """Train a small network."""
    from mlpop.config.blocks.training import TrainingOptions
    from mlpop.inference.estimators.spec import EstimatorSpec
    from mlpop.training.events import Started
    from mlpop.training.member_task import MemberTask, train_member

    embedding = {
        "type": "ModelConvSBI",
        "args": {"input_shape": SHAPE, "len_output_layer": 8, "filters": [4, 4, 4]},
    }
    spec = {"model": "mdn", "hidden_features": 16, "x_shape": SHAPE, "dimension": 2}
    count = len(np.load(folder / "theta.npy", mmap_mode="r"))
    task = MemberTask(
        folder=str(folder / "member"),
        theta_path=str(folder / "arrays/theta.npy"),
        x_path=str(folder / "arrays/x.npy"),
        validation=tuple(range(0, count, 10)),
        spec=EstimatorSpec.parse(spec | {"embedding": embedding}),
        options=TrainingOptions(max_num_epochs=epochs, batch_size=256, lr=1e-3),
        init_seed=1,
        training_seed=2,
    )
    begun: list[float] = []
    started = time.monotonic()

    def hear(event: object) -> None:
        if isinstance(event, Started):
            begun.append(time.monotonic() - started)

    with Peak() as peak:
        train_member(task, hear)
    return {
        "first_epoch_after_s": begun[0],
        "epoch_s": (time.monotonic() - started - begun[0]) / epochs,
        "anonymous_mib": peak.anonymous,
        "resident_mib": peak.resident,
    }


def measure(size: int, above: Path | None, epochs: int) -> dict[str, Any]:
    """Make a set of so many simulations, and measure driver and trainer on it."""
    folder = Path(tempfile.mkdtemp(prefix="mlpop-", dir=above))
    try:
        np.save(folder / "theta.npy", make(folder, size))
        found: dict[str, Any] = {"simulations": size}
        for part in ("driver", "trainer"):
            done = subprocess.run(
                [sys.executable, "-P", __file__, part, str(folder), str(epochs)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            found[part] = json.loads(done.stdout.splitlines()[-1])
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1 and sys.argv[1] in ("driver", "trainer"):
        folder, epochs = Path(sys.argv[2]), int(sys.argv[3])
        found = drive(folder) if sys.argv[1] == "driver" else train(folder, epochs)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10000,30000,100000")
    parser.add_argument("--folder", type=Path, help="where sets are made")
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    for size in map(int, options.sizes.split(",")):
        found = measure(size, options.folder, options.epochs)
        driver, trainer = found["driver"], found["trainer"]
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.write(
            f"{size:9d}: driver {sum(driver['seconds'].values()):7.1f} s, "
            f"{driver['anonymous_mib']:6.0f} MiB own, {driver['resident_mib']:6.0f} MiB resident, "
            f"{driver['files']} files; trainer begins after {trainer['first_epoch_after_s']:.1f} "
            f"s, {trainer['anonymous_mib']:6.0f} MiB own, {trainer['resident_mib']:6.0f} MiB "
            "resident\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
