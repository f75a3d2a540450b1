"""Which settings are parameters of which MLflow run.

A run has the settings that act in it, under their paths in the configuration file, and what was
drawn or chosen for it: experiments, rounds and networks differ in MLflow where they differ.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mlpop.config.files.sbi import SbiConfig
from mlpop.config.methods import NETWORKS
from mlpop.inference.prior import Prior
from mlpop.inference.proposals.truncation import Support
from mlpop.io.digits import rounded_interval
from mlpop.tracking.params import parameters
from mlpop.training.member_task import MemberTask

LAUNCH = (
    "name",
    "n_gpu",
    "enable_dask",
    "n_processes",
    "workers_dask",
    "set_manual_seed",
    "manual_seed",
    "profile_log",
    "profile_json",
    "show_profiling",
    "resume_training",
    "infer",
    "compute",
    "trainer.num_rounds",
    "trainer.save_dir",
)
"""Fields and blocks that act in a launch as a whole."""

ROUND = (
    "prior_ranges",
    "training_data_loader",
    "test_data_loader",
    "observed_sample",
    "dyn_data_loader",
    "simulator",
    "generator",
    "compression_input",
    "mcmc_sampler",
    "density_estimator.type",
    "density_estimator.classifier_nre",
    "trainer.type",
    "trainer.ensemble",
    "trainer.size_ensemble",
    "trainer.truncated_prior",
    "trainer.retrain_from_scratch",
    "trainer.sir",
    "trainer.truncation_sampler",
    "trainer.truncation_region",
    "trainer.sir_candidates",
    "trainer.append_simulations",
    "trainer.plot_proposal",
    "trainer.num_posterior_samples",
    "trainer.min_success_fraction",
)
"""Those that act in a round: its simulations, its posterior, its tests."""

MEMBER = (
    "arch",
    "weights_initializer",
    "density_estimator",
    "trainer.type",
    "trainer.batch_size",
    "trainer.lr",
    "trainer.lr_decay",
    "trainer.max_num_epochs",
    "trainer.stop_after_epochs",
    "trainer.clip_max_norm",
    "trainer.embedding_weight_decay",
    "trainer.ema_decay",
    "trainer.checkpoint_seconds",
    "trainer.validation_fraction",
    "trainer.retrain_from_scratch",
    "trainer.num_atoms",
)
"""Those that act in the training of one network."""


def experiment_parameters(config: SbiConfig) -> dict[str, Any]:
    """Return path -> value of every field, also of those that a file may leave out.

    The population and the stars of a simulator that draws stars are written out.
    """
    values = config.resolved()
    if config.simulator.draws_stars:
        values["simulator"]["args"] = config.simulator.pulsar.model_dump(mode="json")
        if config.dyn_data_loader.dataset_path is None:
            stars = config.dyn_data_loader.stars.model_dump(mode="json")
            values["dyn_data_loader"]["database"] = stars
    return parameters(values) | {"members": config.trainer.members}


def round_parameters(config: SbiConfig, round_: int, root_seed: int) -> dict[str, Any]:
    """Return what is known of a round when it begins.

    Args:
        round_: its number.
        root_seed: that its own seeds come from, with its number.
    """
    method = config.trainer.method
    unused = ("mcmc_sampler",) if method.sampling == "direct" else ()
    return _of(config, [block for block in ROUND if block not in unused]) | {
        "round": round_,
        "estimator": method.estimator,
        "loss": config.trainer.loss(round_),
        "members": config.trainer.members,
        "root_seed": root_seed,
    }


def supply_parameters(
    proposal: Mapping[str, Any],
    source: str,
    support: Support | None,
    prior: Prior,
    simulations: int,
    trained_on: int,
) -> dict[str, Any]:
    """Return what a round was given to learn from.

    Args:
        proposal: content of `proposal.json`; empty for a round that nothing proposed for.
        source: where its theta come from: `prior`, `given`, `truncated` or `posterior`.
        support: what theta are truncated to; None where they come from all over the prior.
        prior: of theta, for the edges of the support in physical units.
        simulations: of its training set.
        trained_on: of these and, if they are appended, of those of earlier rounds.
    """
    box: Any = "the whole prior"
    if support is not None and support.edges is not None:
        edges = prior.quantiles(np.array(support.edges).T).T
        box = [list(rounded_interval(low, (low + high) / 2, high)[::2]) for low, high in edges]
    return {
        "proposal": source,
        "proposal_method": proposal.get("method"),
        "proposal_epsilon": proposal.get("epsilon"),
        "proposal_threshold": proposal.get("threshold"),
        "proposal_box": box,
        "simulations": simulations,
        "trained_on": trained_on,
    }


def member_parameters(config: SbiConfig, task: MemberTask) -> dict[str, Any]:
    """Return what one network is and how it is trained: a member of a round, a study's trial.

    Args:
        config: of the experiment.
        task: its training.
    """
    embedding = ("arch", "weights_initializer") if task.spec.embedding is None else ()
    return _of(config, [block for block in MEMBER if block not in embedding]) | {
        "embedding": task.spec.embedding is not None,
        "loss": task.loss,
        "continues": task.start_from is not None,
        "device": str(task.device),
        # one text: as numbers they would be the axes of MLflow's compare page
        "seeds": f"init {task.init_seed}, training {task.training_seed}",
    }


def _of(config: SbiConfig, paths: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of some fields and blocks, without those that the method ignores."""
    chosen = tuple(paths)
    ignored = {f"density_estimator.args.{name}" for name in config.density_estimator.unused}
    used = config.trainer.method.network
    ignored |= {f"density_estimator.{field}" for field in NETWORKS if field != used}
    return {
        path: value
        for path, value in experiment_parameters(config).items()
        if path not in ignored
        and any(path == block or path.startswith(f"{block}.") for block in chosen)
    }
