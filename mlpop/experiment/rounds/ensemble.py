"""Training of a round's ensemble: one run a member, live curves, the documented files."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlpop.compute import Backend, Purpose, seed_sequence, torch_seed
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import TrainingError
from mlpop.experiment.inputs.problem import LearningProblem, TrainingArrays
from mlpop.experiment.output_tree import RoundFolders
from mlpop.experiment.resume.lineage import Lineage, member_of
from mlpop.experiment.rounds.member_files import (
    CheckpointSender,
    is_of,
    restore_checkpoint,
    restore_member,
)
from mlpop.experiment.rounds.training_statistics import write_training_statistics
from mlpop.inference.estimators.estimator import Estimator
from mlpop.inference.estimators.spec import EmbeddingSpec, EstimatorSpec
from mlpop.inference.estimators.store import DESCRIPTION, WEIGHTS, load_ensemble
from mlpop.inference.estimators.user_pickles import write_user_pickles
from mlpop.networks.rng import generator_from_seed
from mlpop.plots import training_curves
from mlpop.tracking import Node, TrackedRun, member_note, open_run, save_figure
from mlpop.training.losses import Loss
from mlpop.training.member_task import MemberResult, MemberTask, member_tasks, train_member
from mlpop.training.sbi_loop import TrainingOptions, validation_split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """The trained networks of a round.

    Attributes:
        estimators: in the order of the members.
        results: how each training went.
        folders: of each network.
        run_ids: name -> MLflow run of each member.
    """

    estimators: Sequence[Estimator]
    results: Sequence[MemberResult]
    folders: tuple[Path, ...]
    run_ids: Mapping[str, str]

    @property
    def best_loss(self) -> float:
        """Mean over the members of the lowest validation loss."""
        return sum(result.best_loss for result in self.results) / len(self.results)


def estimator_spec(
    config: SbiConfig, problem: LearningProblem, x_shape: tuple[int, ...]
) -> EstimatorSpec:
    """Return what every member is: embedding and density estimator."""
    embedding = None
    if config.arch is not None and not config.compression_input.use_compression:
        embedding = EmbeddingSpec(
            type=config.arch.type,
            args=config.arch.arguments(),
            initializer=config.weights_initializer.type,
            include_conv=config.weights_initializer.args.include_conv,
        )
    method, density = config.trainer.method, config.density_estimator
    return EstimatorSpec(
        kind=method.estimator,
        model=getattr(density, method.network),
        **density.args.model_dump(exclude={"z_score_x"}),
        z_score_x=config.z_score_x,
        embedding=embedding,
        x_shape=x_shape,
        low=tuple(problem.prior.scaled_low.tolist()),
        high=tuple(problem.prior.scaled_high.tolist()),
    )


def training_options(config: SbiConfig) -> TrainingOptions:
    """Return the optimiser's settings."""
    trainer = config.trainer
    return TrainingOptions(
        batch_size=trainer.batch_size,
        learning_rate=trainer.lr,
        clip_max_norm=trainer.clip_max_norm,
        ema_decay=trainer.ema_decay,
        stop_after_epochs=trainer.stop_after_epochs,
        max_num_epochs=trainer.max_num_epochs,
    )


def training_device(n_gpu: int) -> str:
    """Return the torch device to train on; asking for more GPUs than there are is a warning."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n_gpu > there:
        logger.warning("n_gpu is %d, this machine has %d: training on what there is", n_gpu, there)
    return "cuda:0" if min(n_gpu, there) >= 1 else "cpu"


@dataclass(frozen=True)
class Start:
    """Where the networks of a round begin, and what they minimise.

    Attributes:
        validation: rows of the training set that early stopping watches.
        loss: `maximum_likelihood`, or `atomic` where theta come from a posterior.
        members: folders of the networks to go on from; None for new weights.
        earlier: an unfinished run of this round: its complete members are kept, the others
            go on from their checkpoints.
    """

    validation: Tensor
    loss: Loss = "maximum_likelihood"
    members: Sequence[Path] | None = None
    earlier: Node | None = None


def train_ensemble(
    config: SbiConfig,
    problem: LearningProblem,
    arrays: TrainingArrays,
    start: Start,
    *,
    root_seed: int,
    round_: int,
    backend: Backend,
    round_run: TrackedRun,
    folders: RoundFolders,
) -> Ensemble:
    """Train all members of a round on the backend; each is an MLflow run with live curves.

    Raises:
        TrainingError: a member could not be trained; the message says which and why.
    """
    number = config.trainer.members
    member_folders = [folders.member(j) for j in range(number)]
    tasks = member_tasks(
        member_folders,
        [
            (
                torch_seed(seed_sequence(root_seed, Purpose.NETWORK_INIT, round_, j)),
                torch_seed(seed_sequence(root_seed, Purpose.TRAINING, round_, j)),
            )
            for j in range(number)
        ],
        theta_path=arrays.theta_path,
        x_path=arrays.x_path,
        validation=start.validation,
        spec=estimator_spec(config, problem, arrays.x_shape),
        options=training_options(config),
        data_digest=arrays.digest,
        start_from=start.members,
        device=training_device(config.n_gpu),
        loss=start.loss,
        num_atoms=config.trainer.num_atoms,
    )
    tasks = [replace(task, checkpoint_seconds=config.trainer.checkpoint_seconds) for task in tasks]
    lineage = Lineage(round_run.store)
    results: dict[int, MemberResult] = {}
    run_ids: dict[int, str] = {}
    waiting = []
    for j in range(number):
        node = member_of(start.earlier, j)
        member = j if config.trainer.ensemble else None
        kept = node is not None and lineage.is_complete(node)
        if node is not None and kept and is_of(lineage, node, tasks[j]):
            results[j] = restore_member(lineage, node, folders, j, member)
            run_ids[j] = node.run_id
            logger.info("%s of round %d is complete already", node.name, round_)
        else:
            if node is not None:
                restore_checkpoint(lineage, node, member_folders[j])
            waiting.append((j, node))
    with ExitStack() as all_members:
        opened = [
            _open_member(all_members, j, node, tasks[j], round_, round_run) for j, node in waiting
        ]
        checkpoints = [
            CheckpointSender(opened[i].run, member_folders[j]) for i, (j, _) in enumerate(waiting)
        ]
        told = [0] * len(opened)

        def hear(index: int, event: Mapping[str, Any]) -> None:
            run = opened[index].run
            if event["event"] == "checkpoint":
                checkpoints[index]()
                return
            epochs = event["history"] if event["event"] == "start" else [event]
            for epoch in epochs:
                # a training whose worker died tells its epochs again
                if epoch["epoch"] <= told[index]:
                    continue
                told[index] = epoch["epoch"]
                run.curves.extend(
                    {
                        "train/loss": epoch["train_loss"],
                        "val/loss": epoch["val_loss"],
                        "train/epoch_seconds": epoch["seconds"],
                    },
                    step=epoch["epoch"],
                )

        outcomes = backend.run(train_member, [tasks[j] for j, _ in waiting], on_event=hear)
        for outcome in outcomes:
            j, _ = waiting[outcome.index]
            run, stack = opened[outcome.index]
            if outcome.status != "ok":
                raise TrainingError(f"{run.name} of round {round_}: {outcome.error}")
            results[j] = outcome.value
            run_ids[j] = run.run_id
            member = j if config.trainer.ensemble else None
            _finish(member, results[j], run, problem, folders, round_)
            stack.close()
    members = [results[j] for j in range(number)]
    return Ensemble(
        estimators=load_ensemble(member_folders),
        results=members,
        folders=tuple(member_folders),
        run_ids={f"member_{j:02d}": run_ids[j] for j in range(number)},
    )


class _Opened(NamedTuple):
    run: TrackedRun
    stack: ExitStack


def _open_member(
    all_members: ExitStack,
    member: int,
    node: Node | None,
    task: MemberTask,
    round_: int,
    round_run: TrackedRun,
) -> _Opened:
    """Open the run of a member, or the one that an earlier launch left unfinished."""
    stack = all_members.enter_context(ExitStack())
    run = stack.enter_context(
        open_run(
            "member",
            f"member_{member:02d}",
            round_run.run_id,
            tags={"mlpop.round": round_, "mlpop.member": member, "mlpop.state": "training"},
            params={
                "init_seed": task.init_seed,
                "training_seed": task.training_seed,
                "loss": task.loss,
            },
            store=round_run.store,
            run_id=None if node is None else node.run_id,
        )
    )
    return _Opened(run, stack)


def validation_rows(config: SbiConfig, counts: Mapping[int, int], root_seed: int) -> Tensor:
    """Choose the validation rows of a training set that is made of the sets of some rounds.

    The choice among the simulations of a round is the same in every later round, so that a
    network that goes on training never meets its validation rows again as training rows.

    Args:
        config: the experiment.
        counts: round -> number of its simulations, in the order of the rows.
        root_seed: of the experiment.
    """
    rows, first = [], 0
    for round_, count in counts.items():
        seed = torch_seed(seed_sequence(root_seed, Purpose.VALIDATION_SPLIT, round_))
        split = validation_split(
            count, config.trainer.validation_fraction, generator_from_seed(seed)
        )
        rows.append(split + first)
        first += count
    return torch.cat(rows)


def _finish(
    member: int | None,
    result: MemberResult,
    run: TrackedRun,
    problem: LearningProblem,
    folders: RoundFolders,
    round_: int,
) -> None:
    """Write a member's documented files and complete its run."""
    statistics = folders.training_statistics(member)
    records = write_training_statistics(statistics, result.history, round_)
    pdf, png = save_figure(training_curves(records), folders.training_stats_plot(member))
    folder = Path(result.folder)
    (estimator,) = load_ensemble([folder])
    suffix = "" if member is None else f"_ensemble_{member}"
    model, inference = write_user_pickles(
        folders.models, estimator, problem.prior, records, suffix=suffix
    )
    numbers = {
        "best_val_loss": result.best_loss,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "seconds": result.seconds,
    }
    run.log_metrics(numbers)
    run.set_note(member_note(f"Stopped by {result.stopped}.", numbers))
    run.commit(
        {
            WEIGHTS: folder / WEIGHTS,
            DESCRIPTION: folder / DESCRIPTION,
            "training_statistics.json": statistics,
            "training_stats.pdf": pdf,
            "training_stats.png": png,
            "trained_model.pickle": model,
            "inference.pickle": inference,
        }
    )
    logger.info(
        "%s: best validation loss %.4f in epoch %d of %d",
        run.name,
        result.best_loss,
        result.best_epoch,
        len(result.history),
    )
