"""The documented pickles of a trained estimator: for users' notebooks, never read by mlpop."""

import copy
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mlpop.config.blocks.training import TrainingOptions
from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import EmbedOnce, Estimator
from mlpop.inference.estimators.likelihood import LikelihoodEstimator
from mlpop.inference.posteriors.preprocessing import Preprocessing
from mlpop.inference.prior import Prior, in_cube
from mlpop.io.files import write_atomically
from mlpop.networks.rng import generator_from_seed, lend, one_thread
from mlpop.training.fit import fit, validation_split

if TYPE_CHECKING:
    from sbi.inference.posteriors import DirectPosterior, MCMCPosterior
    from torch.distributions import Distribution

_PRIOR_DRAWS = 1000


@dataclass
class TrainedInference:
    """What `inference.pickle` holds for users: sbi's posterior, and training that goes on.

    Theta are points of the unit cube here and x are as the networks see them, as in the
    posteriors of `build_posterior`: `to_networks` makes both, `prior.to_physical` undoes theta.

    Attributes:
        estimator: trained, in evaluation mode.
        prior: of theta; has `to_unit`, `to_physical` and `box`, sbi's prior over the unit cube.
        summary: the training curves, as sbi's trainers keep them.
        preprocessing: from maps as stored to x as the networks see it.
        options: how it was trained.
        num_atoms: theta that are told apart where the loss compares them.
    """

    estimator: Estimator
    prior: Prior
    summary: dict[str, Any]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    options: TrainingOptions = field(default_factory=TrainingOptions)
    num_atoms: int = 10
    _theta: list[Tensor] = field(default_factory=list, repr=False)
    _x: list[Tensor] = field(default_factory=list, repr=False)
    _corrected: bool = False

    def to_networks(self, theta: ArrayLike, x: ArrayLike) -> tuple[Tensor, Tensor]:
        """Return theta (n, d), physical units, and stored x (n, ...) as the networks see them."""
        return self.prior.to_unit(theta), self.preprocessing(x)

    def append_simulations(
        self, theta: Tensor, x: Tensor, proposal: Any = None
    ) -> "TrainedInference":
        """Add simulations for `train`; the file holds none, those of its training neither.

        Args:
            theta: (n, d) in the unit cube, see `to_networks`.
            x: (n, ...) as the networks see it.
            proposal: what theta were drawn from, if not the prior; a posterior is then trained
                with the loss that corrects for it (atomic), whatever the proposal is.

        Raises:
            DataError: shapes do not fit, or theta lie outside the unit cube.
        """
        theta, x = torch.as_tensor(theta).float(), torch.as_tensor(x).float()
        wanted = tuple(self.estimator.theta_shape), tuple(self.estimator.x_shape)
        found = tuple(theta.shape[1:]), tuple(x.shape[1:])
        if found != wanted or len(theta) != len(x):
            raise DataError(
                f"simulations must be theta (n, *{wanted[0]}) and x (n, *{wanted[1]}), found "
                f"{tuple(theta.shape)} and {tuple(x.shape)}"
            )
        if not bool(in_cube(theta).all()):
            raise DataError(
                "theta must lie in the unit cube, where the networks see it; "
                "inference.to_networks(theta, x) makes both of physical theta and stored maps"
            )
        self._theta.append(theta)
        self._x.append(x)
        self._corrected |= proposal is not None and isinstance(self.estimator, EmbedOnce)
        return self

    def train(
        self,
        *,
        training_batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        stop_after_epochs: int | None = None,
        max_num_epochs: int | None = None,
        seed: int = 0,
    ) -> Estimator:
        """Go on with the training, from the weights that are there, on the added simulations.

        Args:
            training_batch_size, learning_rate, stop_after_epochs, max_num_epochs: as in sbi; by
                default those of the first training.
            validation_fraction: of the simulations, which early stopping watches.
            seed: of the validation rows and of the order of batches.

        Returns:
            The trained estimator, which `build_posterior` takes from now on.

        Raises:
            DataError: there are no simulations, or too few.
            TrainingError: the loss became NaN or was never finite.
        """
        if not self._theta:
            raise DataError("there is nothing to train on: call append_simulations(theta, x)")
        changes = {
            "batch_size": training_batch_size,
            "lr": learning_rate,
            "stop_after_epochs": stop_after_epochs,
            "max_num_epochs": max_num_epochs,
        }
        values = self.options.model_dump() | {k: v for k, v in changes.items() if v is not None}
        fields = TrainingOptions.model_fields
        options = TrainingOptions.parse({k: v for k, v in values.items() if k in fields}, "train")
        theta, x = torch.cat(self._theta), torch.cat(self._x)
        generator = generator_from_seed(seed)
        estimator = copy.deepcopy(self.estimator)
        with one_thread():
            report = fit(
                estimator,
                theta,
                x,
                validation=validation_split(len(theta), validation_fraction, generator),
                generator=generator,
                options=options,
                loss="atomic" if self._corrected else "maximum_likelihood",
                num_atoms=self.num_atoms,
            )
        self.estimator = estimator.eval()
        self.summary = self.summary | {
            "best_validation_loss": [report.best_loss],
            "epochs_trained": [len(report.history)],
        }
        return self.estimator

    def build_posterior(
        self,
        density_estimator: Estimator | None = None,
        prior: "Prior | Distribution | None" = None,
    ) -> "DirectPosterior | MCMCPosterior":
        """Return sbi's posterior over theta in the unit cube.

        That of a likelihood or a ratio draws by Markov chains (vectorised slice sampling).

        Args:
            density_estimator: instead of the one in the file, such as `trained_model.pickle`.
            prior: the prior of the training, or a distribution over the unit cube.

        Raises:
            DataError: the prior is another one, or reaches out of the unit cube.
        """
        # sbi.inference takes seconds to import, and only notebooks come here
        from sbi.inference import (
            DirectPosterior,
            MCMCPosterior,
            likelihood_estimator_based_potential,
            ratio_estimator_based_potential,
        )

        estimator = self.estimator if density_estimator is None else density_estimator
        box = self._over_the_cube(prior)
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

    def _over_the_cube(self, prior: "Prior | Distribution | None") -> "Distribution":
        if prior is None or (isinstance(prior, Prior) and prior.to_dict() == self.prior.to_dict()):
            return self.prior.box
        hint = "leave it out, or give inference.prior or inference.prior.box"
        if isinstance(prior, Prior):
            raise DataError(f"prior: is not the one that the networks were trained with; {hint}")
        with lend(generator_from_seed(0)):
            draws = prior.sample((_PRIOR_DRAWS,))
        if draws.shape[1:] != (self.prior.dimension,) or not bool(in_cube(draws).all()):
            raise DataError(
                f"prior: networks see theta in the unit cube of their prior, and it reaches out "
                f"of it, or has another dimension than {self.prior.dimension}; {hint}"
            )
        return prior


def write_user_pickles(
    folder: Path, inference: TrainedInference, *, suffix: str = ""
) -> tuple[Path, Path]:
    """Write the documented `trained_model{suffix}.pickle` and `inference{suffix}.pickle`.

    They are made for users' notebooks; mlpop itself never reads them.

    Args:
        suffix: `_ensemble_{j}` for a member of an ensemble.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / f"trained_model{suffix}.pickle"
    whole = folder / f"inference{suffix}.pickle"
    for path, value in ((model, inference.estimator), (whole, inference)):
        write_atomically(path, pickle.dumps(value))
    return model, whole
