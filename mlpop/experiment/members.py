"""Training of a round's ensemble: one run a member, live curves, the documented files."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlpop.compute import Backend, Purpose, seed_sequence, torch_seed
from mlpop.config.sbi import SbiConfig
from mlpop.errors import TrainingError
from mlpop.experiment.data import LearningProblem, TrainingArrays
from mlpop.experiment.folders import RoundFolders
from mlpop.experiment.statistics import write_training_statistics
from mlpop.inference.ensemble import MemberResult, member_tasks, train_member
from mlpop.inference.estimators import EmbeddingSpec, EmbedOnce, EstimatorSpec
from mlpop.inference.rng import generator_from_seed
from mlpop.inference.store import DESCRIPTION, WEIGHTS, load_ensemble, write_user_pickles
from mlpop.inference.training import TrainingOptions, validation_split
from mlpop.plots import training_curves
from mlpop.tracking import TrackedRun, member_note, open_run, save_figure

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """The trained networks of a round.

    Attributes:
        estimators: in the order of the members.
        results: how each training went.
        run_ids: name -> MLflow run of each member.
    """

    estimators: Sequence[EmbedOnce]
    results: Sequence[MemberResult]
    run_ids: Mapping[str, str]

    @property
    def best_loss(self) -> float:
        """Mean over the members of the lowest validation loss."""
        return sum(result.best_loss for result in self.results) / len(self.results)


def estimator_spec(
    config: SbiConfig, problem: LearningProblem, x_shape: tuple[int, ...]
) -> EstimatorSpec:
    """Return what every member is: embedding and density estimator."""
    arguments = config.density_estimator.args
    embedding = None
    if config.arch is not None:
        embedding = EmbeddingSpec(
            type=config.arch.type,
            args=config.arch.arguments(),
            initializer=config.weights_initializer.type,
            include_conv=config.weights_initializer.args.include_conv,
        )
    return EstimatorSpec(
        model=config.density_estimator.type,
        hidden_features=arguments.hidden_features,
        num_components=arguments.num_components,
        num_transforms=arguments.num_transforms,
        z_score_theta=arguments.z_score_theta,
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
        stop_after_epochs=trainer.stop_after_epochs,
        max_num_epochs=trainer.max_num_epochs,
    )


def training_device(n_gpu: int) -> str:
    """Return the torch device to train on; asking for more GPUs than there are is a warning."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n_gpu > there:
        logger.warning("n_gpu is %d, this machine has %d: training on what there is", n_gpu, there)
    return "cuda:0" if min(n_gpu, there) >= 1 else "cpu"


def train_ensemble(
    config: SbiConfig,
    problem: LearningProblem,
    arrays: TrainingArrays,
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
    tasks = member_tasks(
        [folders.models / f"member_{j:02d}" for j in range(number)],
        [
            (
                torch_seed(seed_sequence(root_seed, Purpose.NETWORK_INIT, round_, j)),
                torch_seed(seed_sequence(root_seed, Purpose.TRAINING, round_, j)),
            )
            for j in range(number)
        ],
        theta_path=arrays.theta_path,
        x_path=arrays.x_path,
        validation=_validation_rows(config, arrays.count, root_seed, round_),
        spec=estimator_spec(config, problem, arrays.x_shape),
        options=training_options(config),
        data_digest=arrays.digest,
        device=training_device(config.n_gpu),
    )
    names = [f"member_{j:02d}" for j in range(number)]
    results: dict[int, MemberResult] = {}
    told = [0] * number
    with ExitStack() as all_members:
        stacks, runs = [], []
        for j, name in enumerate(names):
            stack = all_members.enter_context(ExitStack())
            runs.append(
                stack.enter_context(
                    open_run(
                        "member",
                        name,
                        round_run.run_id,
                        tags={
                            "mlpop.round": round_,
                            "mlpop.member": j,
                            "mlpop.state": "training",
                        },
                        params={
                            "init_seed": tasks[j].init_seed,
                            "training_seed": tasks[j].training_seed,
                        },
                        store=round_run.store,
                    )
                )
            )
            stacks.append(stack)

        def hear(index: int, event: Mapping[str, Any]) -> None:
            epochs = event["history"] if event["event"] == "start" else [event]
            for epoch in epochs:
                # a training whose worker died tells its epochs again
                if epoch["epoch"] <= told[index]:
                    continue
                told[index] = epoch["epoch"]
                runs[index].curves.extend(
                    {
                        "train/loss": epoch["train_loss"],
                        "val/loss": epoch["val_loss"],
                        "train/epoch_seconds": epoch["seconds"],
                    },
                    step=epoch["epoch"],
                )

        for outcome in backend.run(train_member, tasks, on_event=hear):
            j = outcome.index
            if outcome.status != "ok":
                raise TrainingError(f"{names[j]} of round {round_}: {outcome.error}")
            results[j] = outcome.value
            member = j if config.trainer.ensemble else None
            _finish(member, results[j], runs[j], problem, folders, round_)
            stacks[j].close()
    members = [results[j] for j in range(number)]
    return Ensemble(
        estimators=load_ensemble([Path(member.folder) for member in members]),
        results=members,
        run_ids={name: run.run_id for name, run in zip(names, runs, strict=True)},
    )


def _validation_rows(config: SbiConfig, count: int, root_seed: int, round_: int) -> Tensor:
    seed = torch_seed(seed_sequence(root_seed, Purpose.VALIDATION_SPLIT, round_))
    return validation_split(count, config.trainer.validation_fraction, generator_from_seed(seed))


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
