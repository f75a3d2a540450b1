"""A posterior on disk: JSON beside its members' own files."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlpop.errors import ConfigError, DataError
from mlpop.inference.estimators.estimator import EmbedOnce
from mlpop.inference.estimators.store import load_ensemble
from mlpop.inference.mcmc.chains import McmcOptions
from mlpop.inference.posteriors.ensemble_posterior import EnsemblePosterior
from mlpop.inference.posteriors.mcmc_posterior import McmcPosterior
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior
from mlpop.io.files import write_json

POSTERIOR_FILE = "posterior.json"


def save_posterior(path: Path, posterior: Posterior, folders: Sequence[Path]) -> None:
    """Write what `load_posterior` needs besides the members' own files.

    A compressor goes into the folder `compressor` beside `path`. The `folders` where the members
    were saved, in their order, are recorded relative to `path`.

    Raises:
        DataError: the number of folders is not that of the members.
    """
    if len(folders) != len(posterior.members):
        raise DataError(
            f"{path}: the posterior has {len(posterior.members)} members, but got "
            f"{len(folders)} folders"
        )
    write_json(
        path,
        {
            "kind": posterior.sampling,
            "members": [os.path.relpath(folder, path.parent) for folder in folders],
            "weights": posterior.probabilities.double().tolist(),
            "prior": posterior.prior.to_dict(),
            "preprocessing": posterior.preprocessing.save(path.parent),
            "mcmc": asdict(posterior.options) if isinstance(posterior, McmcPosterior) else None,
        },
    )


def load_posterior(path: Path) -> Posterior:
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
        potentials = [member for member in members if not isinstance(member, EmbedOnce)]
        if kind == "direct" and not potentials:
            return EnsemblePosterior(direct, prior, weights, preprocessing)
        if kind == "mcmc" and not direct:
            options = McmcOptions(**values["mcmc"])
            return McmcPosterior(potentials, prior, weights, preprocessing, options)
    except (OSError, ConfigError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the posterior cannot be read: {error!r}") from None
    raise DataError(
        f"{path}: the posterior is of the kind {kind!r}, which its members are not: 'direct' "
        "draws from densities of theta, 'mcmc' from likelihoods and ratios"
    )
