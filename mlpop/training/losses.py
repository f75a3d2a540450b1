"""What a training minimises: likelihood, or the choice of the right theta among atoms.

SNPE-C with atomic proposals and NRE-B have one loss: among a few theta ("atoms"), of which the
first belongs to x and the others to other rows of the batch, the right one must be told by its
log ratio r(theta, x) = log p(x | theta) up to a function of x:

    loss = -log( exp r(theta_0, x) / sum_a exp r(theta_a, x) )

A classifier gives r; a density q of theta gives r = log q(theta | x) - log p(theta), and the
prior p is uniform, so that log p drops out. The atoms follow the proposal that theta were drawn
from, whatever it is, and q comes out as the posterior under the prior.

References:
    Greenberg, Nonnenmacher & Macke (2019), https://arxiv.org/abs/1905.07488
    Durkan, Murray & Papamakarios (2020), https://arxiv.org/abs/2002.03712
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mlpop.config.methods import EstimatorKind
from mlpop.errors import DataError
from mlpop.inference.estimators.estimator import Estimator
from mlpop.networks.rng import generator_from_seed

Loss = Literal["maximum_likelihood", "atomic"]
"""What to ask for."""
LossName = Literal["maximum_likelihood", "atomic", "contrastive"]
"""What runs: a ratio is always trained on its contrastive loss."""

_SEED = 0
"""Of the atoms of validation: the same in every epoch, member and continued training."""


@dataclass(frozen=True)
class Objective:
    """A loss, and how many theta it compares.

    Args:
        name: which loss.
        num_atoms: theta that an x meets; clipped to the rows that there are to choose from.
    """

    name: LossName = "maximum_likelihood"
    num_atoms: int = 10

    @property
    def compares(self) -> bool:
        """Whether the loss of one row depends on others."""
        return self.name != "maximum_likelihood"

    def candidates(self, count: int, *, fixed: bool = False) -> Tensor:
        """Return for each of `count` rows the rows whose theta it meets, itself first.

        Draws from torch's global generator where there is a choice, but `fixed` ones are always
        the same: validation must not be noisy.

        Returns:
            (a, count) row numbers from 0 to count - 1.
        """
        if not self.compares:
            return torch.arange(count)[None]
        return (fixed_atoms if fixed else draw_atoms)(count, self.num_atoms)

    def losses(self, estimator: Estimator, theta: Tensor, x: Tensor) -> Tensor:
        """Return the loss (b,) of every row.

        Args:
            estimator: what is trained.
            theta: (a, b, d) theta of the candidates.
            x: (b, ...) data of the first of them.
        """
        if self.compares:
            return contrastive_loss(estimator, theta, x)
        return estimator.loss(theta[0], x)


def make_objective(kind: EstimatorKind, loss: Loss, num_atoms: int) -> Objective:
    """Return what an estimator of this kind is trained on.

    Raises:
        DataError: `atomic` for a likelihood or a ratio, which need no correction.
    """
    if kind != "posterior" and loss != "maximum_likelihood":
        raise DataError(
            f"a {kind} needs no correction for the proposal of theta: its loss cannot be {loss}"
        )
    return Objective("contrastive" if kind == "ratio" else loss, num_atoms)


def check_num_atoms(num_atoms: int, batch: int, rows: int) -> None:
    """Refuse what leaves no choice.

    Args:
        num_atoms: asked for; more than there are rows in a batch are clipped to them.
        batch: rows of a training batch.
        rows: rows of the validation set.

    Raises:
        DataError: one of them is below 2.
    """
    counts = {"num_atoms": num_atoms, "rows in a batch": batch, "validation rows": rows}
    for name, value in counts.items():
        if value < 2:
            raise DataError(
                f"this loss compares every theta with others and needs at least 2 {name}, but "
                f"got {value}"
            )


def draw_atoms(count: int, num_atoms: int) -> Tensor:
    """Choose for every row itself and others, without repetition, from torch's generator.

    Args:
        count: rows to choose from, at least 2.
        num_atoms: wanted for each, at least 2; at most `count` are chosen.

    Returns:
        (min(num_atoms, count), count) row numbers; the first row is 0, 1, ...
    """
    chances = (1 - torch.eye(count)) / (count - 1)
    alternatives = torch.multinomial(chances, min(num_atoms, count) - 1, replacement=False)
    return torch.cat([torch.arange(count)[:, None], alternatives], 1).T


def fixed_atoms(count: int, num_atoms: int) -> Tensor:
    """Choose as `draw_atoms` does, but always the same, and in memory linear in `count`.

    Rows in a fixed random order meet those that follow them at a few fixed distances.
    """
    generator = generator_from_seed(_SEED)
    order = torch.randperm(count, generator=generator)
    distances = 1 + torch.randperm(count - 1, generator=generator)[: num_atoms - 1]
    place = torch.empty_like(order)
    place[order] = torch.arange(count)
    alternatives = order[(place + distances[:, None]) % count]
    return torch.cat([torch.arange(count)[None], alternatives])


def contrastive_loss(estimator: Estimator, atoms: Tensor, x: Tensor) -> Tensor:
    """Return how badly the right theta is told from the others, (b,).

    Args:
        estimator: embeds x once for all its atoms.
        atoms: (a, b, d) theta; the first belongs to x.
        x: (b, ...) data.
    """
    values = estimator.log_potential(atoms, x)
    return torch.logsumexp(values, 0) - values[0]
