"""Training of a round's ensemble: one run a member, live curves, the documented files."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlpop.compute import Purpose, seed_sequence, torch_seed
from mlpop.config.files.sbi import SbiConfig
from mlpop.errors import TrainingError
from mlpop.experiment.inputs.problem import LearningProblem, TrainingArrays
from mlpop.experiment.parameters import member_parameters
from mlpop.experiment.progress import TrainingProgress
from mlpop.experiment.resume.lineage import Lineage, member_of
from mlpop.experiment.rounds.context import Launch, OpenRound
from mlpop.experiment.rounds.ensemble_curves import EnsembleCurves
from mlpop.experiment.rounds.member_files import (
    STATISTICS,
    CheckpointSender,
    member_paths,
    restore_checkpoint,
    trained_already,
)
from mlpop.experiment.rounds.training_statistics import write_training_statistics
from mlpop.experiment.tracked_training import TrackedTraining, loss_curves, open_training
from mlpop.inference.estimators.spec import EmbeddingSpec, EstimatorSpec
from mlpop.inference.estimators.store import load_ensemble
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.proposals.truncation import Support
from mlpop.networks.joined import JOINED
from mlpop.networks.rng import generator_from_seed
from mlpop.plots import training_curves
from mlpop.tracking import Node, save_figure
from mlpop.training.events import EpochRecord, TrainingEvent
from mlpop.training.fit import validation_split
from mlpop.training.member_task import MemberResult, MemberTask, train_member
from mlpop.training.user_pickles import TrainedInference, write_user_pickles

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """The trained networks of a round.

    Attributes:
        results: how each training went, in the order of the members.
        folders: of each network.
        run_ids: name -> MLflow run of each member.
    """

    results: Sequence[MemberResult]
    folders: tuple[Path, ...]
    run_ids: Mapping[str, str]


def make_posterior(launch: Launch, members: Sequence[Path], problem: LearningProblem) -> Posterior:
    """Combine the networks of a round, to be drawn from as their method says."""
    estimators: Sequence = load_ensemble(members)
    prior, preprocessing = problem.prior, problem.preprocessing
    posterior: Posterior
    if launch.config.trainer.method.sampling == "direct":
        posterior = EnsemblePosterior(estimators, prior, preprocessing=preprocessing)
    else:
        options = McmcOptions(**launch.config.mcmc_sampler.model_dump())
        posterior = McmcPosterior(estimators, prior, preprocessing=preprocessing, options=options)
    return posterior.to(launch.device)


def estimator_spec(
    config: SbiConfig,
    problem: LearningProblem,
    x_shape: tuple[int, ...],
    within: Support | None = None,
) -> EstimatorSpec:
    """Return what every member is: embedding and density estimator.

    That of a posterior lives in the box of the support that it learns in, `within`.
    """
    embedding = None
    if config.arch is not None and not config.compression_input.use_compression:
        network: dict[str, Any] = {"type": config.arch.type, "args": config.arch.arguments()}
        if number := config.training_data_loader.num_counts:
            layers = list(config.arch.count_layers)
            args = {"maps": network, "numbers": number, "layers": layers}
            network = {"type": JOINED, "args": args}
        embedding = EmbeddingSpec(
            **network,
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
        dimension=problem.prior.dimension,
        domain=None if within is None else within.edges,
    )


def train_ensemble(
    current: OpenRound,
    problem: LearningProblem,
    arrays: TrainingArrays,
    validation: Tensor,
    within: Support | None = None,
) -> Ensemble:
    """Train all members of a round on the backend; each is an MLflow run with live curves.

    Complete members of an unfinished run of this round are kept, the others go on from their
    checkpoints. Early stopping watches the rows `validation` of the training set. New networks
    live in the box around the support that the training set lies in, `within`.

    Raises:
        TrainingError: a member could not be trained; the message says which and why.
    """
    config, root_seed, round_ = current.launch.config, current.launch.root_seed, current.number
    folders, previous, loss = current.folders, current.previous, config.trainer.loss(round_)
    warm = None if config.trainer.retrain_from_scratch else previous
    if config.trainer.forgets(round_):
        joined = "" if loss == "atomic" else " or append_simulations to true"
        logger.warning(
            "round %d: new networks learn from this round alone, so their posterior may be dense "
            "where none of its theta are: set trainer.retrain_from_scratch to false%s",
            round_,
            joined,
        )
    current.run.set_tags({"mlpop.loss": loss})
    number = config.trainer.members
    member_folders = [folders.member(j) for j in range(number)]
    spec = estimator_spec(config, problem, arrays.x_shape, None if warm else within)
    tasks = [
        MemberTask(
            folder=str(folder),
            theta_path=str(arrays.theta_path),
            x_path=str(arrays.x_path),
            validation=tuple(validation.tolist()),
            spec=spec,
            options=config.trainer,
            init_seed=torch_seed(seed_sequence(root_seed, Purpose.NETWORK_INIT, round_, j)),
            training_seed=torch_seed(seed_sequence(root_seed, Purpose.TRAINING, round_, j)),
            data_digest=arrays.digest,
            start_from=None if warm is None else str(warm.members[j]),
            device=current.launch.device,
            loss=loss,
            num_atoms=config.trainer.num_atoms,
        )
        for j, folder in enumerate(member_folders)
    ]
    lineage = Lineage(current.run.store)
    results: dict[int, MemberResult] = {}
    run_ids: dict[int, str] = {}
    curves = EnsembleCurves(current.run, number)
    waiting = []
    for j in range(number):
        node = member_of(current.earlier, j)
        if node is not None and lineage.is_complete(node):
            ensemble = config.trainer.ensemble
            if result := trained_already(lineage, node, tasks[j], folders, j, ensemble):
                results[j], run_ids[j] = result, node.run_id
                curves.end(j, result.history)
                logger.info("%s of round %d is complete already", node.name, round_)
                continue
        if node is not None:
            restore_checkpoint(lineage, node, member_folders[j])
        waiting.append((j, node))
    with ExitStack() as all_members:
        trainings = [
            all_members.enter_context(_open_member(current, j, node, tasks[j]))
            for j, node in waiting
        ]

        progress = all_members.enter_context(
            TrainingProgress(
                f"round {round_}: training",
                number,
                config.trainer.stop_after_epochs,
                config.trainer.max_num_epochs,
            )
        )
        for j, result in results.items():
            progress.add(j, result.history)
            progress.end(j)

        def hear(index: int, event: TrainingEvent) -> None:
            member, records = waiting[index][0], trainings[index].hear(event)
            curves.add(member, records)
            progress.add(member, records)

        outcomes = current.launch.backend.run(
            train_member, [tasks[j] for j, _ in waiting], on_event=hear
        )
        for outcome in outcomes:
            j, _ = waiting[outcome.index]
            training = trainings[outcome.index]
            if outcome.status != "ok":
                raise TrainingError(f"{training.run.name} of round {round_}: {outcome.error}")
            results[j] = outcome.value
            curves.end(j, results[j].history)
            progress.end(j)
            run_ids[j] = training.run.run_id
            _finish(current, j, results[j], training, problem)
            training.close()
    return Ensemble(
        results=[results[j] for j in range(number)],
        folders=tuple(member_folders),
        run_ids={f"member_{j:02d}": run_ids[j] for j in range(number)},
    )


def _open_member(
    current: OpenRound, member: int, node: Node | None, task: MemberTask
) -> TrackedTraining[EpochRecord]:
    """Open the run of a member, or the one that an earlier launch left unfinished."""
    training = open_training(
        "member",
        f"member_{member:02d}",
        current.run,
        loss_curves,
        tags={"mlpop.round": current.number, "mlpop.member": member},
        params={
            "round": current.number,
            "member": member,
            **member_parameters(current.launch.config, task),
        },
        earlier=node,
    )
    training.send_checkpoint = CheckpointSender(training.run, Path(task.folder))
    return training


def validation_rows(
    config: SbiConfig, used: Mapping[int, NDArray[np.bool_]], root_seed: int
) -> Tensor:
    """Choose the validation rows of a training set that is made of the sets of some rounds.

    The choice among the simulations of a round is the same in every later round, so that a
    network that goes on training never meets its validation rows again as training rows.

    `used`: round -> (n,) which of its simulations are rows, in the order of the rows.
    """
    rows, first = [], 0
    for round_, which in used.items():
        seed = torch_seed(seed_sequence(root_seed, Purpose.VALIDATION_SPLIT, round_))
        split = validation_split(
            len(which), config.trainer.validation_fraction, generator_from_seed(seed)
        ).numpy()
        rows.append(first + (which.cumsum() - 1)[split[which[split]]])
        first += int(which.sum())
    return torch.from_numpy(np.concatenate(rows))


def _finish(
    current: OpenRound,
    number: int,
    result: MemberResult,
    training: TrackedTraining[EpochRecord],
    problem: LearningProblem,
) -> None:
    """Write a member's documented files and complete its run."""
    config, folders, round_ = current.launch.config, current.folders, current.number
    paths = member_paths(folders, number, config.trainer.ensemble)
    records = write_training_statistics(
        paths[STATISTICS],
        result.history,
        round_,
        first_step=result.earlier_epochs,
        summary_step=1 if config.trainer.truncated_prior else round_ + 1,
    )
    save_figure(training_curves(records), paths["training_stats.pdf"])
    (estimator,) = load_ensemble([Path(result.folder)])
    suffix = f"_ensemble_{number}" if config.trainer.ensemble else ""
    inference = TrainedInference(
        estimator,
        problem.prior,
        dict(records),
        problem.preprocessing,
        config.trainer,
        config.trainer.num_atoms,
    )
    write_user_pickles(folders.models, inference, suffix=suffix)
    weights = sum(p.numel() for p in estimator.parameters() if p.requires_grad)
    training.run.log_params({"parameters": weights})
    numbers = {
        "best_val_loss": result.best_loss,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "seconds": result.seconds,
    }
    training.complete(f"Stopped by {result.stopped}.", numbers, paths)
    logger.info(
        "%s: best validation loss %.4f in epoch %d of %d",
        training.run.name,
        result.best_loss,
        result.best_epoch,
        len(result.history),
    )
