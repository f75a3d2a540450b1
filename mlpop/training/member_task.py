"""The training of one estimator as a task for a worker: a member, a compressor, a trial."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mlpop.config.blocks.training import TrainingOptions
from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import build_estimator
from mlpop.inference.estimators.spec import EstimatorSpec
from mlpop.inference.estimators.store import load_estimator, read_record, save_estimator
from mlpop.io.files import json_digest
from mlpop.io.scratch import RowsAhead, let_go
from mlpop.networks.device import CPU
from mlpop.networks.rng import generator_from_seed, one_thread
from mlpop.training.checkpoint import TrainingState, load_state, save_state
from mlpop.training.events import EpochRecord, TrainingEvent
from mlpop.training.fit import TrainingReport, fit
from mlpop.training.losses import Loss, make_objective


@dataclass(frozen=True)
class MemberTask:
    """One network to train; small, so that it travels to a worker; the data stay on disk.

    Args:
        folder: where the trained estimator goes, and `checkpoint/` while it trains.
        theta_path: `.npy` of (n, d) parameters in the unit cube.
        x_path: `.npy` of (n, ...) data, as the network sees them.
        validation: row numbers of the validation set.
        spec: what to build.
        options: how to train, and how often to write a checkpoint.
        init_seed: of the initial weights.
        training_seed: of the order of batches and of dropout.
        data_digest: identifies the data; a checkpoint of other data is not continued.
        start_from: folder of a trained estimator to go on from, instead of new weights.
        device: torch device to train on.
        loss, num_atoms: what to minimise; see `fit`.
    """

    folder: str
    theta_path: str
    x_path: str
    validation: tuple[int, ...]
    spec: EstimatorSpec
    options: TrainingOptions
    init_seed: int
    training_seed: int
    data_digest: str = ""
    start_from: str | None = None
    device: torch.device = CPU
    loss: Loss = "maximum_likelihood"
    num_atoms: int = 10

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that the trained weights depend on but the length of training.

        The weights to start from count by their digest, wherever they lie.

        Raises:
            DataError: the estimator to start from cannot be read, or the loss does not suit.
        """
        objective = make_objective(self.spec.kind, self.loss, self.num_atoms)
        start = self.start_from and read_record(Path(self.start_from)).get("sha256")
        values = {
            "spec": self.spec.model_dump(mode="json"),
            "options": self.options.of_the_weights(),
            "validation": self.validation,
            "seeds": (self.init_seed, self.training_seed),
            "data": self.data_digest,
            "start_from": start,
            "loss": objective.name,
            "num_atoms": objective.num_atoms if objective.compares else None,
        }
        return json_digest(values)


@dataclass(frozen=True)
class MemberResult(TrainingReport):
    """What one training gave; the estimator is in `folder`.

    Attributes:
        folder: where the estimator is.
        resumed_from: epochs that were done before this launch.
        earlier_epochs: epochs of the estimator that it started from, and of those before it.
    """

    folder: str
    resumed_from: int
    earlier_epochs: int


def train_member(
    task: MemberTask, emit: Callable[[TrainingEvent], None] = lambda _: None
) -> MemberResult:
    """Train one member and save it; goes on from its checkpoint where there is one.

    Runs in any process with one torch thread, and gives the same bits in all of them. For `emit`
    see `Training.run`.

    Raises:
        DataError: the data or the estimator to start from cannot be read or do not fit, or the
            loss does not suit the kind of estimator.
        TrainingError: the training failed.
    """
    folder = Path(task.folder)
    with one_thread():
        theta = torch.from_numpy(_load(task.theta_path))
        x_in_file = _load(task.x_path)
        x = torch.from_numpy(x_in_file)
        earlier_epochs = 0
        if task.start_from is None:
            estimator = build_estimator(task.spec, theta, x, generator_from_seed(task.init_seed))
        else:
            start = Path(task.start_from)
            estimator, spec = load_estimator(start)
            if spec != task.spec:
                raise DataError(
                    f"{start}: holds an estimator of another specification than the one to train"
                )
            record = read_record(start)["record"]
            earlier_epochs = record.get("epochs", 0) + record.get("earlier_epochs", 0)
        fingerprint = task.fingerprint
        state = load_state(folder / "checkpoint", fingerprint)

        def save(state: TrainingState[EpochRecord]) -> None:
            save_state(folder / "checkpoint", state, fingerprint)

        report = fit(
            estimator.to(task.device),
            theta,
            x,
            validation=torch.tensor(task.validation),
            generator=generator_from_seed(task.training_seed),
            options=task.options,
            loss=task.loss,
            num_atoms=task.num_atoms,
            state=state,
            emit=emit,
            save=save,
            rest=partial(let_go, x_in_file),
            ahead=RowsAhead(x_in_file),
        )
        record = {
            "best_epoch": report.best_epoch,
            "best_loss": report.best_loss,
            "epochs": len(report.history),
            "earlier_epochs": earlier_epochs,
            "stopped": report.stopped,
            "init_seed": task.init_seed,
            "training_seed": task.training_seed,
            "fingerprint": fingerprint,
            "loss": make_objective(task.spec.kind, task.loss, task.num_atoms).name,
        }
        save_estimator(folder, estimator.to("cpu"), task.spec, record)
    return MemberResult(
        **vars(report),
        folder=task.folder,
        resumed_from=state.epoch if state else 0,
        earlier_epochs=earlier_epochs,
    )


def _load(path: str) -> NDArray[np.float32]:
    try:
        # copy-on-write: torch wants writable memory, and the pages stay shared between workers
        values = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if values.dtype != np.float32:
        values = values.astype(np.float32)
    return values
