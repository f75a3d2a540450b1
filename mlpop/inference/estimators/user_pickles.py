"""The documented pickles of a trained estimator: for users' notebooks, never read by mlpop."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpop.inference.estimators.estimator import EmbedOnce, Estimator
from mlpop.inference.estimators.likelihood import LikelihoodEstimator
from mlpop.inference.prior import Prior
from mlpop.io.files import write_atomically

if TYPE_CHECKING:
    from sbi.inference.posteriors import DirectPosterior, MCMCPosterior


@dataclass
class TrainedInference:
    """What `inference.pickle` holds for users: enough for `inference.build_posterior()`."""

    estimator: Estimator
    prior: Prior
    summary: dict[str, Any]

    def build_posterior(
        self, density_estimator: Estimator | None = None
    ) -> "DirectPosterior | MCMCPosterior":
        """Return sbi's posterior over theta in the unit cube, of this or of the given estimator.

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
        summary: the training curves, as sbi's trainers keep them.
        suffix: `_ensemble_{j}` for a member of an ensemble.
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
