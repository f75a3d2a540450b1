"""Campaigns of the fake simulator, and the digest that one of them has on every backend."""

from pathlib import Path
from typing import Any

import fake_simulator as fake
import numpy as np

from mlpop.compute.backends.base import Backend
from mlpop.compute.campaign.campaign import run_campaign
from mlpop.compute.seeds import Purpose
from mlpop.datasets.dataset import assemble, dataset_digest
from mlpop.datasets.shards import ShardRecord, SimulationRow, finished_shards

LABELS = fake.FakeSimulator.labels
ROOT = 20261122


def theta_of(*modes: int) -> np.ndarray:
    return np.array([(mode, 100 + k) for k, mode in enumerate(modes)], dtype=np.float64)


class Campaign:
    """Runs campaigns of the fake simulator in a folder; knows how often it was called."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "dataset"
        self.calls = root / "calls"
        self.calls.mkdir()
        self.spec = {
            "type": "fake_simulator:FakeSimulator",
            "args": {"calls": str(self.calls)},
        }

    def run(self, backend: Backend, theta: np.ndarray, **options: Any) -> list[ShardRecord]:
        options = {"simulations_per_task": 4, "identity": "fake", **options}
        purpose = options.pop("purpose", Purpose.SIMULATION_TRAINING)
        seeds = (options.pop("root", ROOT), purpose, options.pop("round", 1))
        return run_campaign(self.spec, theta, LABELS, *seeds, self.folder, backend, **options)

    def count(self, index: int) -> int:
        path = self.calls / str(100 + index)
        return len(path.read_text()) if path.exists() else 0

    def finished(self) -> list[int]:
        """Numbers of the shards that are there."""
        return sorted(finished_shards(self.folder))

    def left_behind(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "shards").glob(".*"))


def rows_of(records: list[ShardRecord]) -> list[SimulationRow]:
    return [row for record in records for row in record.rows]


MIXED = theta_of(*[fake.OK] * 5, fake.FAILED, fake.NAN, *[fake.OK] * 4, fake.LIMIT, fake.ERROR)
# Made once with the serial backend: a change means that recorded seeds give other simulations.
GOLDEN_DIGEST = "04e5008c4a7ca70c6c4d64b685a8c617c09fc739dc8a9c761498ed7f52d401a9"

# Simulations that take a while: time enough to end a process in the middle of one.
PAUSED = theta_of(*[fake.PAUSE] * 24)
PAUSED_DIGEST = "f52c74685d5300bfab859022ea27c95c16636c4cd54f70a6d9183e855d3cf978"


def digest_of(campaign: Campaign, theta: np.ndarray, records: list[ShardRecord]) -> str:
    """Assemble the dataset of a finished campaign; return its digest."""
    assemble(campaign.folder, LABELS, theta, fake.FakeSimulator.channels, records)
    return dataset_digest(campaign.folder)
