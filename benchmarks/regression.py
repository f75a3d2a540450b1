"""Epochs a second of a point-estimate training against a plain DataLoader loop.

    python benchmarks/regression.py [--simulations 512] [--batch-size 32] [--epochs 3]

An epoch is what the documented files need: a pass that trains, and an evaluation of the training
and of the validation set in physical units. Three ways do it in this one run, with the same
network, optimizer and data, one torch thread, and are checked to end at the same loss:

- `files`: torch's DataLoader over a Dataset that reads and scales the `.npy` files of a sample,
  with the documented one worker;
- `memory`: torch's DataLoader over a TensorDataset, everything decoded beforehand;
- `mlpop`: whole-tensor batches.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mlpop.config.files.regression import PointTrainerConfig
from mlpop.datasets.scaling import LabelScaling, label_statistics, scale_inputs
from mlpop.networks.convolutional import ModelConv
from mlpop.regression.data import MemorySet
from mlpop.regression.evaluation import Judge
from mlpop.regression.learner import PointLearner
from mlpop.regression.losses import build_loss
from mlpop.regression.metrics import build_metric
from mlpop.regression.optimizers import build_optimizer
from mlpop.training.loop import Training

LABELS = ("B_initial_log10_mean", "P_initial_log10_mean")
SHAPE = (3, 32, 32)
LEARNING_RATE = 1e-4


class Files(Dataset):
    """Maps read from their files whenever they are asked for."""

    def __init__(self, folder: Path, targets: Tensor) -> None:
        self.folder, self.targets = folder, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        maps = [np.load(self.folder / f"{i}_{c}.npy").astype(np.float32) for c in range(3)]
        x = scale_inputs(np.stack(maps)[None], "standardize")[0]
        return torch.from_numpy(x), self.targets[i]


def plain_epochs(
    train: Dataset, valid: Dataset, scaling: LabelScaling, batch: int, epochs: int, workers: int
) -> tuple[float, float]:
    """Return seconds an epoch and the last validation loss of the plain loop."""
    network = first_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    shift, width = (torch.from_numpy(v).float() for v in (scaling.shift, scaling.width))
    loaders = [
        DataLoader(data, batch_size=batch, shuffle=shuffle, num_workers=workers)
        for data, shuffle in ((train, True), (train, False), (valid, False))
    ]
    mse = nn.MSELoss()
    started = time.perf_counter()
    for _ in range(epochs):
        network.train()
        for x, t in loaders[0]:
            optimizer.zero_grad()
            outputs = network(x)
            loss = sum(mse(outputs[:, d], t[:, d]) for d in range(2))
            loss.backward()
            optimizer.step()
        network.eval()
        for loader in loaders[1:]:
            total, count = 0.0, 0
            with torch.no_grad():
                for x, t in loader:
                    outputs, truth = network(x) * width + shift, t * width + shift
                    total += float((outputs - truth).square().sum())
                    count += len(x)
    return (time.perf_counter() - started) / epochs, total / count


def our_epochs(train: MemorySet, valid: MemorySet, scaling: LabelScaling, batch: int, epochs: int):
    """Return seconds an epoch and the last validation loss of mlpop's loop."""
    network = first_network().to(memory_format=torch.channels_last)
    metric = build_metric("MetricAccuracyMSE", {}, "regression", (1.0, 1.0))
    judge = Judge(
        build_loss("LossMSE", {}), metric, "MetricAccuracyMSE", scaling, torch.device("cpu")
    )
    optimizer = build_optimizer("Adam", {"lr": LEARNING_RATE}, network.parameters())
    training = Training(
        PointLearner(network, train, valid, judge, optimizer, None, batch_size=batch),
        torch.Generator().manual_seed(0),
        PointTrainerConfig(epochs=epochs),
    )
    started = time.perf_counter()
    training.run()
    seconds = (time.perf_counter() - started) / epochs
    assert training.history[-1].valid is not None
    return seconds, training.history[-1].valid["loss"]


def first_network() -> ModelConv:
    """Return the network with the same first weights for all."""
    torch.manual_seed(0)
    return ModelConv(SHAPE, 2)


def simulated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return maps with a spot whose place says the labels, and the labels."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(0, 1, (count, 2))
    h, w = np.meshgrid(np.linspace(0, 1, 32), np.linspace(0, 1, 32), indexing="ij")
    spot = np.exp(
        -((h - u[:, 0, None, None]) ** 2 + (w - u[:, 1, None, None]) ** 2) / (2 * 0.15**2)
    )
    maps = np.stack([spot] * 3, axis=1) + rng.normal(0, 0.3, (count, *SHAPE))
    return maps, np.array([12.0, -1.5]) + u * np.array([2.0, 1.2])


def main() -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    count, held = arguments.simulations, arguments.simulations // 8
    sets = {"train": simulated(count, 1), "valid": simulated(held, 2)}
    scaling = LabelScaling("standardize", label_statistics(sets["train"][1], LABELS), LABELS)
    ways: dict[str, Callable[[], tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files, tensors, ours = {}, {}, {}
        for name, (maps, theta) in sets.items():
            place = Path(folder, name)
            place.mkdir()
            for i in range(len(maps)):
                for c in range(3):
                    np.save(place / f"{i}_{c}.npy", maps[i, c])
            x = scale_inputs(maps.astype(np.float32), "standardize")
            targets = torch.from_numpy(scaling.scale(theta)).float()
            files[name] = Files(place, targets)
            tensors[name] = TensorDataset(torch.from_numpy(x), targets)
            ours[name] = MemorySet(x, theta, scaling, "rgb", place)
        batch, epochs = arguments.batch_size, arguments.epochs
        ways["files"] = lambda: plain_epochs(*files.values(), scaling, batch, epochs, 1)
        ways["memory"] = lambda: plain_epochs(*tensors.values(), scaling, batch, epochs, 0)
        ways["mlpop"] = lambda: our_epochs(*ours.values(), scaling, batch, epochs)
        ways["mlpop"]()
        found = {name: way() for name, way in ways.items()}
    losses = [loss for _, loss in found.values()]
    report = {
        "simulations": count,
        "batch_size": batch,
        "epochs_per_second": {name: round(1 / s, 3) for name, (s, _) in found.items()},
        "validation_loss": {name: round(loss, 6) for name, (_, loss) in found.items()},
        "speedup_over_files": round(found["files"][0] / found["mlpop"][0], 2),
        "speedup_over_memory": round(found["memory"][0] / found["mlpop"][0], 2),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    # other batches, so not the same bits
    return 0 if max(losses) < 1.5 * min(losses) else 1


if __name__ == "__main__":
    sys.exit(main())
