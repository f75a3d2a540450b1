"""Trained estimators on disk: weights as safetensors, everything else as JSON, no pickle."""

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sbi
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mlpop.errors import ConfigError, DataError
from mlpop.inference.estimators import (
    EmbedOnce,
    Estimator,
    EstimatorSpec,
    LikelihoodEstimator,
    empty_estimator,
)
from mlpop.inference.mcmc import McmcOptions
from mlpop.inference.mcmc_posterior import McmcPosterior
from mlpop.inference.posterior import EnsemblePosterior
from mlpop.inference.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.maps.files import sha256_of, write_atomically

if TYPE_CHECKING:
    from sbi.inference.posteriors import DirectPosterior, MCMCPosterior

WEIGHTS = "estimator.safetensors"
DESCRIPTION = "estimator.json"
POSTERIOR_FILE = "posterior.json"


def save_estimator(
    folder: Path,
    estimator: Estimator,
    spec: EstimatorSpec,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write `estimator.safetensors`, then `estimator.json`, into `folder`.

    Args:
        folder: created where it is missing.
        estimator: what to save.
        spec: how it was built.
        record: JSON values to keep with it, such as the labels or the best loss.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    save_tensors(weights, estimator.state_dict())
    description = {
        "spec": json.loads(spec.model_dump_json()),
        "sha256": sha256_of(weights),
        "versions": {"sbi": sbi.__version__, "torch": str(torch.__version__)},
        "record": dict(record or {}),
    }
    write_json(folder / DESCRIPTION, description)


def load_estimator(folder: Path) -> tuple[Estimator, EstimatorSpec]:
    """Rebuild the estimator of `folder` with its weights, in evaluation mode.

    Raises:
        DataError: a file is missing or damaged, or its weights do not fit this sbi version.
    """
    description = read_record(folder)
    weights = folder / WEIGHTS
    try:
        if sha256_of(weights) != description["sha256"]:
            raise DataError(
                f"{weights}: its SHA-256 is not the one of {DESCRIPTION}; it is damaged"
            )
        spec = EstimatorSpec.parse(description["spec"], str(folder / DESCRIPTION))
        estimator = empty_estimator(spec)
        estimator.load_state_dict(load_file(weights))
    except (OSError, KeyError, SafetensorError, ConfigError) as error:
        raise DataError(f"{folder}: the estimator cannot be read: {error}") from None
    except RuntimeError as error:
        raise DataError(
            f"{weights}: does not fit the network of {DESCRIPTION} "
            f"(saved with {description.get('versions')}): {error}"
        ) from None
    estimator.eval()
    return estimator, spec


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of the `estimator.json` in `folder`.

    Raises:
        DataError: it is missing or not JSON.
    """
    path = folder / DESCRIPTION
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return description


def load_ensemble(folders: Sequence[Path]) -> list[Estimator]:
    """Load the trained estimators of `folders`.

    Raises:
        DataError: one cannot be read, or they are not of one kind, about the same theta and x.
    """
    loaded = [load_estimator(folder) for folder in folders]
    kinds = {(spec.kind, spec.x_shape, spec.low, spec.high) for _, spec in loaded}
    if len(kinds) != 1:
        raise DataError(
            f"the {len(loaded)} members do not belong together: they differ in kind, in the "
            "shape of x or in the prior"
        )
    return [estimator for estimator, _ in loaded]


def save_posterior(
    path: Path, posterior: EnsemblePosterior | McmcPosterior, folders: Sequence[Path]
) -> None:
    """Write what `load_posterior` needs besides the members' own files.

    A compressor goes into the folder `compressor` beside `path`.

    Args:
        path: the JSON file to write.
        posterior: what to save.
        folders: where its members were saved, in their order; recorded relative to `path`.

    Raises:
        DataError: the number of folders is not that of the members.
    """
    if len(folders) != len(posterior.members):
        raise DataError(
            f"{path}: the posterior has {len(posterior.members)} members, but got "
            f"{len(folders)} folders"
        )
    options = posterior.options.to_dict() if isinstance(posterior, McmcPosterior) else None
    write_json(
        path,
        {
            "kind": "direct" if options is None else "mcmc",
            "members": [os.path.relpath(folder, path.parent) for folder in folders],
            "weights": posterior.probabilities.double().tolist(),
            "prior": posterior.prior.to_dict(),
            "preprocessing": posterior.preprocessing.save(path.parent),
            "mcmc": options,
        },
    )


def load_posterior(path: Path) -> EnsemblePosterior | McmcPosterior:
    """Load the posterior that `save_posterior` wrote.

    Raises:
        DataError: a file is missing or damaged, or the members are not of the posterior's kind.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind, prior, weights = values["kind"], Prior.from_dict(values["prior"]), values["weights"]
        members = load_ensemble([path.parent / folder for folder in values["members"]])
        preprocessing = Preprocessing.load(path.parent, values["preprocessing"])
        direct = [member for member in members if isinstance(member, EmbedOnce)]
        others = [member for member in members if not isinstance(member, EmbedOnce)]
        if kind == "direct" and not others:
            return EnsemblePosterior(direct, prior, weights, preprocessing)
        if kind == "mcmc" and not direct:
            options = McmcOptions.from_dict(values["mcmc"])
            return McmcPosterior(others, prior, weights, preprocessing, options)
    except (OSError, ConfigError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the posterior cannot be read: {error!r}") from None
    raise DataError(
        f"{path}: the posterior is of the kind {kind!r}, which its members are not: 'direct' "
        "draws from densities of theta, 'mcmc' from likelihoods and ratios"
    )


@dataclass
class TrainedInference:
    """What `inference.pickle` holds for users: enough for `inference.build_posterior()`."""

    estimator: Estimator
    prior: Prior
    summary: dict[str, Any]

    def build_posterior(
        self, density_estimator: Estimator | None = None
    ) -> "DirectPosterior | MCMCPosterior":
        """Return sbi's posterior over scaled theta, of this or of the given estimator.

        That of a likelihood or a ratio draws by Markov chains (vectorised slice sampling).
        """
        # sbi.inference takes seconds to import, and only notebooks come here
        from sbi.inference import (
            DirectPosterior,
            MCMCPosterior,
            likelihood_estimator_based_potential,
            ratio_estimator_based_potential,
        )

        estimator = density_estimator or self.estimator
        box = self.prior.box
        if isinstance(estimator, EmbedOnce):
            return DirectPosterior(estimator, box)
        if isinstance(estimator, LikelihoodEstimator):
            potential, transform = likelihood_estimator_based_potential(
                estimator.density, box, x_o=None
            )
        else:
            potential, transform = ratio_estimator_based_potential(estimator, box, x_o=None)
        return MCMCPosterior(
            potential,
            proposal=box,
            theta_transform=transform,
            method="slice_np_vectorized",
            num_chains=20,
            thin=5,
        )


def write_user_pickles(
    folder: Path,
    estimator: Estimator,
    prior: Prior,
    summary: Mapping[str, Any],
    *,
    suffix: str = "",
) -> tuple[Path, Path]:
    """Write the documented `trained_model{suffix}.pickle` and `inference{suffix}.pickle`.

    They are made for users' notebooks; mlpop itself never reads them.

    Args:
        folder: where to.
        estimator: the trained estimator.
        prior: its prior.
        summary: the training curves, as sbi's trainers keep them.
        suffix: `_ensemble_{j}` for a member of an ensemble.

    Returns:
        The paths of the two files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / f"trained_model{suffix}.pickle"
    inference = folder / f"inference{suffix}.pickle"
    for path, value in (
        (model, estimator),
        (inference, TrainedInference(estimator, prior, dict(summary))),
    ):
        write_atomically(path, pickle.dumps(value))
    return model, inference


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` as safetensors; a reader sees the old file or the whole new one."""
    # safetensors refuses tensors that share memory or have gaps
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    write_atomically(path, save(copies))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` as JSON; a reader sees the old file or the whole new one."""
    write_atomically(path, json.dumps(values, indent=2) + "\n")
